"""The engines `vllm` and `openai` against the real vLLM, with the embedded model and a tiny random one. Slow: three starts."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vllm is not installed here: `make vllm-test` runs this in an environment of its own")

from tiny_model import save_tiny_model
from transformers import AutoTokenizer

from skillfactory.embedded import located
from skillfactory.engines import open_engine
from skillfactory.errors import ConfigError, EngineError
from skillfactory.flow import Completion, Engine, Request, Sampling, Start
from skillfactory.records import Stop

SAMPLING = Sampling(max_tokens=24)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM's attention on CPU wants heads of 32 or more.
    return save_tiny_model(tmp_path_factory.mktemp("model"), hidden=128)


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    opened = open_engine("vllm", {"model": str(model), "dtype": "float32", "max_num_seqs": 16})
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    """The address of vLLM's own server; `--no-enable-chunked-prefill` for the reason that the engine has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--no-enable-chunked-prefill"]
    process = subprocess.Popen(command, env={**os.environ, "VLLM_LOGGING_LEVEL": "WARNING"})
    url, patience = f"http://127.0.0.1:{port}/v1", time.monotonic() + 600  # on a busy machine
    while time.monotonic() < patience and process.poll() is None:
        try:
            open_engine("openai", {"base_url": url}).close()
            break
        except EngineError:
            time.sleep(1)
    yield url
    process.terminate()
    process.wait(30)


def requests(n: int, text: str = "Make 10 from 2, 3 and 5.", first: int = 0) -> list[Request]:
    return [Request((("user", text),), SAMPLING, 2**63 + seed) for seed in range(first, first + n)]


def ask(engine: Engine, asked: list[Request]) -> list[Completion]:
    engine.submit(asked)
    got: dict[str, Completion] = {}
    while len(got) < len(asked):
        for completion in engine.collect():
            assert completion.key not in got
            got[completion.key] = completion
    return [got[request.key] for request in asked]


def differ(samples: list[Completion]) -> bool:
    """Whether those samples that are long enough to differ do."""
    whole = [completion.text for completion in samples if completion.stop is Stop.LENGTH]
    return len(set(whole)) == len(whole) > 3


def test_the_embedded_model_mini_loads_and_attempts_its_questions() -> None:
    engine = open_engine("vllm", {"model": located("mini"), "dtype": "float32", "max_num_seqs": 16})
    try:
        sampling = Sampling(max_tokens=96)
        made = ask(engine, [Request((("user", "Make 24 from 3 7 12."),), sampling, 2**62 + seed) for seed in range(16)])
    finally:
        engine.close()
    assert len({completion.text for completion in made}) > 3
    answered = [completion for completion in made if "<answer>" in completion.text and "</answer>" in completion.text]
    assert len(answered) > len(made) // 2
    assert all(completion.stop is Stop.END for completion in answered)


def test_samples_of_one_prompt_differ_and_a_seed_gives_its_text_again(engine: Engine) -> None:
    asked = requests(32)
    first = ask(engine, asked)
    assert differ(first)
    assert ask(engine, asked[::-1]) == first[::-1]


def test_counts_are_exact_and_texts_end_as_they_say(engine: Engine) -> None:
    made = ask(engine, requests(64, first=100))
    assert {completion.stop for completion in made} == {Stop.END, Stop.LENGTH}
    for completion in made:
        assert completion.limit == 24
        assert completion.prompt_tokens == len("<user\nMake 10 from 2, 3 and 5.>\n<assistant\n")
        assert completion.tokens == 24 or completion.stop is Stop.END
        assert "<|im_end|>" not in completion.text


def test_a_prompt_that_fills_the_context_fails_with_the_reason(engine: Engine) -> None:
    long, short = *requests(1, text="x" * 600), *requests(1)
    failure, success = ask(engine, [long, short])
    assert failure.error == "the prompt has 619 tokens, and the model's context is 512"
    assert success.stop is not Stop.ERROR


def test_an_unknown_engine_argument_is_named(model: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key of engine_args 'enforce_eagre'; did you mean 'enforce_eager'"):
        open_engine("vllm", {"model": str(model), "engine_args": {"enforce_eagre": True}})


def test_a_model_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(EngineError, match="vLLM can't start with the model '/no/such/model'"):
        open_engine("vllm", {"model": "/no/such/model"})


def test_the_openai_engine_gets_the_same_from_the_real_server(server: str) -> None:
    options: dict[str, Any] = {"base_url": server, "concurrency": 16, "retries": 0}
    engine = open_engine("openai", options)
    asked = requests(32)
    first = ask(engine, asked)
    assert {completion.stop for completion in first} <= {Stop.END, Stop.LENGTH}
    assert differ(first)
    assert ask(engine, asked[::-1]) == first[::-1]
    refused = ask(engine, requests(1, text="x" * 600))[0]
    assert refused.stop is Stop.ERROR
    assert "HTTP 400" in refused.error
    engine.close()


def test_a_text_goes_on_by_its_own_ids(engine: Engine, model: Path) -> None:
    continued_by_ids(engine, model)


def test_a_text_goes_on_by_its_own_ids_over_the_real_server(server: str, model: Path) -> None:
    engine = open_engine("openai", {"base_url": server, "concurrency": 16, "retries": 0, "tokenizer": str(model)})
    continued_by_ids(engine, model)
    engine.close()


def continued_by_ids(engine: Engine, model: Path) -> None:
    """Asks for texts and goes on with each: every id that was generated stays, where encoding the text would change some."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    asked = [replace(request, ids=True) for request in requests(16, first=500)]
    first = ask(engine, asked)
    again = [tuple(tokenizer(made.text, add_special_tokens=False)["input_ids"]) for made in first]
    assert again != [made.ids for made in first]
    went = ask(engine, [replace(r, start=Start(made.ids or (), then="+")) for r, made in zip(asked, first, strict=True)])
    plus = tuple(tokenizer("+", add_special_tokens=False)["input_ids"])
    for made, more in zip(first, went, strict=True):
        assert made.ids
        assert more.ids
        kept = made.ids[:-1] if made.stop is Stop.END else made.ids
        assert len(made.ids) == made.tokens
        assert more.ids[: len(kept) + 1] == kept + plus
        assert len(more.ids) == len(kept) + 1 + more.tokens
        assert more.text == tokenizer.decode(more.ids, skip_special_tokens=True)
        assert (more.forced, more.prompt_tokens) == (1, made.prompt_tokens + len(kept) + 1)
