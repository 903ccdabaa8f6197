"""Fine-tuning with the real trainer on a tiny model: it learns, survives a kill, and leaves a model that loads."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from silver import simple, write
from tiny_model import save_tiny_model

from skillfactory.errors import ConfigError, InputError
from skillfactory.export.trl import CHATML
from skillfactory.progress import Silent
from skillfactory.train.sft import Lora, Optimisation, Running, SftConfig, SftSummary, sft

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """The same arithmetic here and in the process that is killed."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, traces and texts."""
    folder = tmp_path_factory.mktemp("world")
    save_tiny_model(folder / "model", context=600, hidden=32)
    write(folder / "traces", simple(40))
    (folder / "chatml.jinja").write_text(CHATML, "utf-8")
    texts = [{"prompt": f"{n} and", "completion": f" {n} are {2 * n}."} for n in range(30)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), "utf-8")
    return folder


def common(world: Path, output: Path) -> SftConfig:
    """The training that the tests share; the last batch of an epoch is not full."""
    return SftConfig(
        inputs=(world / "traces",),
        output=output,
        model=str(world / "model"),
        chat_template=world / "chatml.jinja",
        replay=(f"{world / 'texts.jsonl'}@0.25",),
        optimisation=Optimisation(learning_rate=1e-2, epochs=2.25, batch_size=4),
        running=Running(device="cpu", save_steps=5, log_steps=2),
    )


@pytest.fixture(scope="module")
def trained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> SftSummary:
    """The common training, undisturbed."""
    return sft(common(world, tmp_path_factory.mktemp("models") / "whole"))


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text("utf-8").splitlines()]


def test_it_learns_and_says_how(trained: SftSummary) -> None:
    course = lines(trained.output)
    assert course[-1]["loss"] < 0.6 * course[0]["loss"]
    account = trained.account
    assert (account["finished"], account["steps"], course[-1]["step"]) == (True, 28, 28)  # 50 + 50 + 12 rows, 4 a step
    assert course[-1]["epoch"] == pytest.approx(2.25)
    assert course[-1]["trained_tokens"] == account["trained_tokens"] < account["tokens"]
    assert 0.3 < account["trained_share"] < 1
    assert trained.funnel.to_dict() == {"stage": "sft", "unit": "rows", "requested": 70, "kept": 70, "dropped": {}}
    assert not (trained.output / "checkpoints").exists()
    card = (trained.output / "README.md").read_text("utf-8")
    assert "learning rate | 0.01" in card
    assert "texts.jsonl@0.25" in card
    assert str(trained).startswith("sft: ")


def test_the_model_loads_in_transformers_and_in_our_engine_and_has_learnt_the_form(trained: SftSummary) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from skillfactory.engines.hf import TransformersEngine, TransformersOptions
    from skillfactory.flow import Request, Sampling

    tokenizer = AutoTokenizer.from_pretrained(trained.output)
    model = AutoModelForCausalLM.from_pretrained(trained.output)
    assert tokenizer.chat_template == CHATML
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in model.generation_config.eos_token_id
    assert model.config.eos_token_id == tokenizer.eos_token_id
    engine = TransformersEngine(TransformersOptions(str(trained.output), batch_size=1, exact=False, device="cpu"))
    engine.submit([Request((("user", "Make 9 from 5, 2."),), Sampling(temperature=0, repetition_penalty=1, max_tokens=2), 1)])
    (completion,) = engine.collect()
    assert completion.text == "<t"


class Course(Silent):
    """Remembers the steps as they come."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self._label = ""

    def begin(self, label: str, unit: str, total: int | None = None) -> None:
        self._label = label

    def advance(self, n: int = 1, note: str = "") -> None:
        if self._label == "train":
            self.steps.append(n)


KILLED = """
import os, pickle, signal, sys
from skillfactory.progress import Silent
from skillfactory.train.sft import sft

class Fatal(Silent):
    steps = 0
    def begin(self, label, unit, total=None):
        self.counting = label == "train"
    def advance(self, n=1, note=""):
        self.steps += n * self.counting
        if self.steps == 13:
            os.kill(os.getpid(), signal.SIGKILL)

sft(pickle.load(sys.stdin.buffer), Fatal())
"""


def test_a_killed_training_ends_with_the_bytes_of_an_undisturbed_one(world: Path, trained: SftSummary, tmp_path: Path) -> None:
    import pickle

    config = common(world, tmp_path / "killed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED], input=pickle.dumps(config), env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert [path.name for path in (config.output / "checkpoints").iterdir()] == ["checkpoint-10"]
    assert not (config.output / "model.safetensors").exists()
    course = Course()
    again = sft(config, course)
    assert not again.nothing_to_do
    assert course.steps[0] == 10, "it goes on from the checkpoint"
    assert sum(course.steps) == 28
    whole = trained.output
    assert (config.output / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in lines(each)] for each in (config.output, whole)]
    assert timeless[0] == timeless[1]
    before = {name: value for name, value in trained.account.items() if name not in ("seconds",)}
    assert before == {name: value for name, value in again.account.items() if name not in ("seconds",)}


def test_a_finished_training_has_nothing_to_do_and_other_settings_are_named(world: Path, trained: SftSummary) -> None:
    config = common(world, trained.output)
    before = (trained.output / "model.safetensors").stat().st_mtime_ns
    again = sft(replace(config, running=replace(config.running, save_steps=7, log_steps=1)))
    assert again.nothing_to_do
    assert again.account == trained.account
    assert (trained.output / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=r"other settings \(optimisation.learning_rate: 0.01 → 0.02\)"):
        sft(replace(config, optimisation=replace(config.optimisation, learning_rate=2e-2)))


def test_adapters_are_merged_and_kept_beside(world: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    config = replace(
        common(world, tmp_path / "lora"),
        replay=(),
        lora=Lora(lora_rank=4),
        optimisation=Optimisation(learning_rate=1e-2, max_steps=4, batch_size=4),
    )
    done = sft(config)
    assert done.account["steps"] == 4
    base, merged = (AutoModelForCausalLM.from_pretrained(path).eval() for path in (world / "model", done.output))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        plain, found = base(ids).logits, merged(ids).logits
        adapted = PeftModel.from_pretrained(base, done.output / "adapter").eval()(ids).logits
    assert (found - adapted).abs().max() < 1e-4
    assert (found - plain).abs().max() > 1e-3


def test_rows_over_the_context_are_left_out_and_counted_and_none_left_is_an_error(world: Path, tmp_path: Path) -> None:
    rows = simple(8)
    for row in rows[:3]:
        row.text += "x" * 400
    mixed = write(tmp_path / "traces", rows)
    steps = Optimisation(learning_rate=1e-3, max_steps=1, batch_size=8)
    config = replace(common(world, tmp_path / "out"), inputs=(mixed,), replay=(), optimisation=steps)
    done = sft(config)  # the model's context is 600
    assert done.funnel.to_dict() == {
        "stage": "sft",
        "unit": "rows",
        "requested": 8,
        "kept": 5,
        "dropped": {"too_long": 3},
    }
    assert "5 kept + 3 dropped (too_long 3)" in str(done)
    with pytest.raises(InputError, match=r"no row is left to learn from: .*too_long 8\); the context is 100 tokens"):
        sft(replace(config, max_length=100, output=tmp_path / "none"))


def test_a_mistaken_option_is_an_error_before_any_work(world: Path, tmp_path: Path) -> None:
    config = common(world, tmp_path / "out")
    with pytest.raises(InputError, match="there is no such file or folder"):
        sft(replace(config, inputs=(tmp_path / "nowhere",)))
    with pytest.raises(ConfigError, match="epochs: expected more than 0, came 0"):
        Optimisation(epochs=0)
    with pytest.raises(ConfigError, match="lora_dropout: expected 0 or more and less than 1"):
        Lora(lora_dropout=1)
    with pytest.raises(ConfigError, match="expected FILE@SHARE"):
        replace(config, replay=("texts.jsonl",))
    with pytest.raises(InputError, match=r"the model .*nothing.* can.t be loaded"):
        sft(replace(config, model=str(tmp_path / "nothing")))
    assert not (tmp_path / "out" / "model.safetensors").exists()
