from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from tiny_model import save_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from skillfactory.engines import open_engine
from skillfactory.engines.batch import STRETCH
from skillfactory.engines.hf import padded_length, row_count
from skillfactory.engines.nucleus import SeededSampler, candidates, processors
from skillfactory.errors import ConfigError, EngineError
from skillfactory.flow import Completion, Engine, Request, Sampling
from skillfactory.hardware import threads_for
from skillfactory.records import Stop

SHORT = Sampling(max_tokens=12)
CONTEXT = 512


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), context=CONTEXT)


@pytest.fixture(scope="session")
def untemplated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny_model(tmp_path_factory.mktemp("untemplated"), context=CONTEXT)
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def request(seed: int, text: str = "Make 10 from 2, 3 and 5.", sampling: Sampling = SHORT) -> Request:
    return Request((("user", text),), sampling, seed)


def mixed(n: int) -> list[Request]:
    """Requests of many lengths and two kinds of sampling."""
    dice = Random(0)
    kinds = (SHORT, Sampling(max_tokens=9, temperature=1.0, top_p=1.0, top_k=0))
    return [request(seed, "x" * (55 * dice.randrange(3) + dice.randrange(12)), kinds[seed % 2]) for seed in range(n)]


def ask(model: Path, asked: list[Request], **options: Any) -> list[Completion]:
    """The completions of requests from a fresh engine, in the order asked."""
    engine = open_engine("transformers", {"model": str(model), "device": "cpu", **options})
    engine.submit(asked)
    got: dict[str, Completion] = {}
    while len(got) < len(asked):
        for completion in engine.collect():
            assert completion.key not in got
            got[completion.key] = completion
    engine.close()
    return [got[r.key] for r in asked]


def test_samples_of_one_prompt_differ_and_a_seed_gives_its_text_again(model: Path) -> None:
    asked = [request(seed) for seed in range(40)]
    first = ask(model, asked)
    whole = [completion.text for completion in first if completion.stop is Stop.LENGTH]
    assert len(set(whole)) == len(whole) > 10
    assert ask(model, asked) == first


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"dtype": "bfloat16", "batch_size": 16}])
def test_a_text_depends_on_its_request_alone_not_on_order_or_neighbours(model: Path, options: dict[str, Any]) -> None:
    asked = mixed(18)
    first = ask(model, asked, **options)
    assert ask(model, asked[::-1], **options) == first[::-1]
    assert ask(model, asked[::5], **options) == first[::5]


def test_a_text_does_not_depend_on_the_batch_size_either_with_one_thread(model: Path) -> None:
    asked = mixed(24) + [request(seed, sampling=Sampling(max_tokens=2 * STRETCH)) for seed in range(24)]
    first = ask(model, asked, batch_size=16)
    assert max(completion.tokens for completion in first) > STRETCH
    assert ask(model, asked, batch_size=64) == first


def test_rows_have_the_same_bits_in_every_number_of_rows_that_is_used(model: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    dice = torch.Generator().manual_seed(0)
    prompt = torch.randint(0, 256, (1, 64), generator=dice)

    @torch.inference_mode()
    def logits(rows: int, place: int) -> torch.Tensor:
        ids = torch.randint(0, 256, (rows, 64), generator=dice)
        ids[place] = prompt
        prefilled = network(ids, use_cache=True)
        decoded = network(ids[:, :1], past_key_values=prefilled.past_key_values)
        return torch.cat([prefilled.logits[place], decoded.logits[place]])

    counts = sorted({row_count(n, 64) for n in range(1, 65)})
    assert counts == [16, 32, 64]
    expected = logits(16, 0)
    for rows in counts:
        assert torch.equal(logits(rows, rows // 2), expected)
    assert not torch.equal(logits(1, 0), expected), "one row gives the same bits as many: the padding to 16 is not needed here"


def test_counts_are_exact_and_texts_end_as_they_say(model: Path) -> None:
    made = ask(model, [request(seed, "?" * seed) for seed in range(90)])
    stops = Counter(completion.stop for completion in made)
    assert min(stops[Stop.END], stops[Stop.LENGTH]) > 3
    for n, completion in enumerate(made):
        assert completion.prompt_tokens == len(f"<user\n{'?' * n}>\n<assistant\n")  # a token a byte; tags are one each
        assert completion.tokens == completion.limit == 12 or completion.stop is Stop.END
        assert "<|" not in completion.text


def test_a_shorter_limit_gives_the_beginning_of_the_same_text(model: Path) -> None:
    whole = ask(model, [request(seed, sampling=Sampling(max_tokens=2 * STRETCH)) for seed in range(20)])
    cut = ask(model, [request(seed, sampling=Sampling(max_tokens=7)) for seed in range(20)])
    for long, short in zip(whole, cut, strict=True):
        assert long.text.startswith(short.text.rstrip("�"))
        assert short.serves(request(0, sampling=Sampling(max_tokens=7)))


def test_greedy_is_what_the_library_makes_of_each_prompt_alone_in_one_go(model: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    texts, limit = [f"hello {n}" for n in range(12)], 2 * STRETCH + 10
    made = ask(model, [request(0, text, Sampling(temperature=0, repetition_penalty=1.0, max_tokens=limit)) for text in texts])
    for text, completion in zip(texts, made, strict=True):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt"
        )
        output = network.generate(**prompt, do_sample=False, max_new_tokens=limit, eos_token_id=ends)[
            0, completion.prompt_tokens :
        ]
        assert completion.text == tokenizer.decode(output, skip_special_tokens=True)
        assert completion.tokens == len(output)
    assert len({completion.tokens for completion in made}) > 1


def test_texts_that_have_ended_come_before_the_longest_of_their_batch(model: Path) -> None:
    engine = open_engine("transformers", {"model": str(model), "device": "cpu"})
    asked = [request(seed, sampling=Sampling(max_tokens=3 * STRETCH)) for seed in range(32)]
    engine.submit(asked)
    rounds: list[Sequence[Completion]] = []
    while sum(map(len, rounds)) < 32:
        rounds.append(engine.collect())
    longest = [max(completion.tokens for completion in completions) for completions in rounds]
    assert len(rounds) > 1
    assert longest == sorted(longest)
    assert sorted(c.key for completions in rounds for c in completions) == sorted(r.key for r in asked)


def test_a_prompt_that_fills_the_context_fails_with_the_reason_and_others_go_on(model: Path) -> None:
    too_long, nearly, short = ask(model, [request(1, "x" * 600), request(1, "x" * 490), request(1)])
    assert (too_long.stop, too_long.text) == (Stop.ERROR, "")
    assert too_long.error == "the prompt has 619 tokens, and the model's context is 512"
    assert nearly.prompt_tokens + nearly.tokens <= CONTEXT
    assert short.stop is not Stop.ERROR


def test_a_text_that_the_context_cuts_has_nearly_the_room_that_is_left_and_says_so(model: Path) -> None:
    asked = [request(seed, "x" * 470, Sampling(max_tokens=1024)) for seed in range(9)]
    cut = [made for made in ask(model, asked) if made.stop is Stop.LENGTH]
    assert cut
    for made in cut:
        room = CONTEXT - made.prompt_tokens
        assert room * 7 / 8 <= made.tokens == made.limit <= room
        assert made.error == f"the model's context left {made.limit} of 1024 tokens"
        assert made.serves(asked[0])


def test_a_tokenizer_without_a_template_gets_the_texts_with_a_blank_line_after_each(untemplated: Path, tmp_path: Path) -> None:
    asked = Request((("system", "Be brief."), ("user", "Hello.")), SHORT, 1)
    assert ask(untemplated, [asked])[0].prompt_tokens == len("Be brief.\n\nHello.\n\n")
    template = tmp_path / "template.jinja"
    template.write_text("{% for message in messages %}{{ message.content }};{% endfor %}")
    assert ask(untemplated, [asked], chat_template=str(template))[0].prompt_tokens == len("Be brief.;Hello.;")


def test_the_model_that_cannot_be_loaded_is_named_and_options_are_checked(tmp_path: Path, model: Path) -> None:
    with pytest.raises(EngineError, match=r"the model '.*' can't be loaded: "):
        open_engine("transformers", {"model": str(tmp_path)})
    with pytest.raises(ConfigError, match="expected one of auto, float32, bfloat16, float16, came 'int8'"):
        open_engine("transformers", {"model": str(model), "dtype": "int8"})
    with pytest.raises(ConfigError, match=r"there is no file 'nowhere\.jinja'"):
        open_engine("transformers", {"model": str(model), "chat_template": "nowhere.jinja"})
    with pytest.raises(ConfigError, match="batch_size must be at least 1, not 0"):
        open_engine("transformers", {"model": str(model), "batch_size": 0})


def test_the_number_of_threads_suits_the_model_unless_the_user_says_otherwise(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    open_engine("transformers", {"model": str(model)}).close()
    assert torch.get_num_threads() == (threads_for(parameters=1_000_000) or 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    open_engine("transformers", {"model": str(model)}).close()
    assert torch.get_num_threads() == 2
    open_engine("transformers", {"model": str(model), "threads": 1}).close()
    assert torch.get_num_threads() == 1


def test_nothing_is_printed_and_no_warning_is_raised(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask(model, [request(seed) for seed in range(3)])
    assert capfd.readouterr() == ("", "")


def test_a_full_batch_goes_before_a_partial_one_and_the_partial_one_is_not_forgotten(model: Path) -> None:
    engine: Engine = open_engine("transformers", {"model": str(model), "device": "cpu", "batch_size": 16})
    lone, many = request(0, "x" * 100), [request(seed) for seed in range(17)]
    engine.submit([lone, *many])
    assert engine.capacity == 64
    assert {completion.key for completion in engine.collect()} == {r.key for r in many[:16]}
    rest = [completion.key for _ in range(2) for completion in engine.collect()]
    assert sorted(rest) == sorted([lone.key, many[16].key])


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=1.3, top_k=5, top_p=1.0),
        Sampling(top_k=0, top_p=0.6),
        Sampling(temperature=2.0, top_k=0, top_p=1.0),
        Sampling(top_k=7, top_p=0.0),
        Sampling(top_k=1000, top_p=0.9),
    ],
)
def test_filters_leave_the_same_distribution_as_the_librarys_own(sampling: Sampling) -> None:
    scores = torch.randn(9, 300, generator=torch.Generator().manual_seed(1)) * 3
    tokens, weights = candidates(scores, sampling)
    assert torch.equal(tokens, tokens.sort(-1).values)
    ours = torch.zeros(9, 300, dtype=torch.float64).scatter(1, tokens, weights / weights.sum(-1, keepdim=True))
    theirs = TemperatureLogitsWarper(sampling.temperature)(None, scores)
    if sampling.top_k:
        theirs = TopKLogitsWarper(sampling.top_k)(None, theirs)
    theirs = TopPLogitsWarper(sampling.top_p)(None, theirs)
    assert torch.allclose(ours, theirs.double().softmax(-1), atol=1e-6)


def test_draws_follow_the_distribution_and_differ_between_seeds_and_steps() -> None:
    chances = torch.tensor([0.5, 0.25, 0.15, 0.1, 0.0])
    rows = 20_000
    sampler = SeededSampler(Sampling(temperature=1.0, top_k=0, top_p=1.0), range(rows))
    scores = chances.log().expand(rows, -1)
    first, second = (sampler(torch.empty(0), scores).argmax(-1) for _ in range(2))
    shares = torch.bincount(first, minlength=5) / rows
    assert torch.allclose(shares, chances, atol=4 * 0.5 / rows**0.5)  # four standard errors
    together = (first == second).float().mean()
    assert abs(together - (chances**2).sum()) < 4 * 0.5 / rows**0.5


def test_padding_does_not_count_as_repeated() -> None:
    ids = torch.tensor([[0, 0, 3], [1, 2, 3]])
    penalty = processors(Sampling(temperature=0), [1, 2], torch.tensor([2, 0]), 0)[0]
    scores = penalty(ids, torch.ones(2, 5))
    assert (scores < 1).tolist() == [[False, False, False, True, False], [False, True, True, True, False]]


def test_prompts_are_padded_by_at_most_a_quarter_or_31_tokens_and_to_few_lengths() -> None:
    for tokens in range(1, 5000):
        length = padded_length(tokens, None)
        assert tokens <= length <= tokens + max(31, tokens // 4)
    assert len({padded_length(tokens, None) for tokens in range(1, 4097)}) <= 30


def test_padding_takes_at_most_an_eighth_of_the_room_for_the_answer() -> None:
    for context in (512, 1024, 4096, 5000):
        for tokens in range(1, context):
            assert tokens <= padded_length(tokens, context) <= tokens + (context - tokens) // 8
        assert len({padded_length(tokens, context) for tokens in range(1, context)}) <= 100
