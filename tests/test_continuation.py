"""Laws of continued texts: token ids in, token ids out, cut where they must be, stored and found again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_engine_transformers import ask, one_thread  # noqa: F401  (a fixture of every test here)
from tiny_model import save_tiny_model
from tiny_server import Fault, TinyServer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from skillfactory.embedded import located
from skillfactory.engines import open_engine
from skillfactory.engines.chat import Chat
from skillfactory.engines.scripted import begun
from skillfactory.errors import ConfigError
from skillfactory.flow import Completion, Message, Request, Sampling, Start, drive, together
from skillfactory.ledger import Ledger
from skillfactory.records import Stop

GREEDY = Sampling(temperature=0, repetition_penalty=1.0, max_tokens=120)
PLAIN = Sampling(1.0, 1.0, 0, 1.0, 12)
QUESTION: tuple[Message, ...] = (("user", "Make 12 from 3 4 5 using each number once."),)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), context=128)


def plain(seed: int = 1, sampling: Sampling = PLAIN, start: Start | None = None, text: str = "?") -> Request:
    return Request((("user", text),), sampling, seed, start, ids=True)


def held(completion: Completion) -> tuple[int, ...]:
    assert completion.ids is not None
    return completion.ids


def test_the_embedded_model_continued_by_its_ids_writes_what_it_writes_in_one_go() -> None:
    asked = Request(QUESTION, GREEDY, 1, ids=True)
    whole = ask(Path("mini"), [asked])[0]
    short = ask(Path("mini"), [replace(asked, sampling=replace(GREEDY, max_tokens=9))])[0]
    assert (short.stop, short.tokens) == (Stop.LENGTH, 9)
    assert held(short) == held(whole)[:9]
    rest = ask(Path("mini"), [replace(asked, start=Start(held(short)))])[0]
    assert held(rest) == held(whole)
    assert (rest.text, rest.stop, rest.tokens, rest.forced) == (whole.text, Stop.END, whole.tokens - 9, 0)
    assert rest.prompt_tokens == whole.prompt_tokens + 9


def test_a_trigger_takes_the_place_of_the_end_and_every_id_before_it_stays() -> None:
    asked = Request(QUESTION, GREEDY, 1, ids=True)
    whole = ask(Path("mini"), [asked])[0]
    tokenizer = AutoTokenizer.from_pretrained(located("mini"))
    trigger = tokenizer("<sample>\n", add_special_tokens=False)["input_ids"]
    closing = tokenizer("</answer>", add_special_tokens=False)["input_ids"]
    kept = held(whole)[: held(whole).index(closing[0])]
    for until, before in (("</think>", held(whole)[:-1]), ("</answer>", kept)):
        forced = ask(Path("mini"), [replace(asked, start=Start(held(whole), until, "<sample>\n"))])[0]
        assert held(forced)[: len(before) + len(trigger)] == (*before, *trigger)
        assert len(held(forced)) == len(before) + len(trigger) + forced.tokens
        assert forced.forced == len(trigger)
        assert forced.text == tokenizer.decode(held(forced), skip_special_tokens=True)


def test_ids_survive_where_decoding_and_encoding_again_would_change_them(tiny: Path) -> None:
    first = ask(tiny, [plain(seed) for seed in range(8)])
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    again = [tuple(tokenizer(made.text, add_special_tokens=False)["input_ids"]) for made in first]
    assert again != [held(made) for made in first], "the texts encode to their ids: the test shows nothing"
    went = ask(tiny, [plain(seed, start=Start(held(made), then="+")) for seed, made in enumerate(first)])
    plus = tokenizer("+", add_special_tokens=False)["input_ids"]
    ends = set(tokenizer.all_special_ids)
    for made, more in zip(first, went, strict=True):
        kept = held(made)[:-1] if held(made)[-1] in ends else held(made)
        assert held(more)[: len(kept) + 1] == (*kept, *plus)


def straddling() -> Any:
    """A tokenizer of single characters, but for a token `.</` that holds the end of a sentence and the beginning of a tag."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: n for n, symbol in enumerate([*alphabet, ".<", ".</"])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[(".", "<"), (".<", "/")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")


@pytest.mark.parametrize(
    ("text", "until", "kept"),
    [
        ("a b</think>c</think>", "</think>", "a b"),  # the first one
        ("a b.</think>c", "</think>", "a b"),  # the token that reaches into it goes whole
        ("a é😀</think>", "</think>", "a é😀"),
        ("</think>a", "</think>", ""),
        ("a b.</thin", "</think>", "a b.</thin"),
        ("a b.</think>", "", "a b.</think>"),
        ("", "</think>", ""),
    ],
)
def test_ids_are_cut_before_the_first_end_and_no_token_reaches_into_it(text: str, until: str, kept: str) -> None:
    tokenizer = straddling()
    ids = tuple(tokenizer(text)["input_ids"])
    opening = Chat(tokenizer).opening(Start(ids, until, "go on"))
    assert opening.ids == (*ids[: len(tokenizer(kept)["input_ids"])], *tokenizer("go on")["input_ids"])
    assert tokenizer.decode(opening.ids) == kept + "go on"
    assert opening.forced == 5


def test_an_end_token_goes_and_a_special_token_that_is_spelled_out_is_text() -> None:
    tokenizer = straddling()
    opening = Chat(tokenizer).opening(Start((*tokenizer("ab")["input_ids"], tokenizer.eos_token_id), "x", "<|end|>"))
    assert tokenizer.eos_token_id not in opening.ids
    assert tokenizer.decode(opening.ids) == "ab<|end|>"


def test_a_trigger_that_the_tokenizer_cannot_write_fails_with_its_reason() -> None:
    made = ask(Path("mini"), [Request(QUESTION, GREEDY, 1, Start(then="Wait"))])[0]
    assert (made.stop, made.error) == (Stop.ERROR, "the tokenizer of the model has no tokens for 'Wait'")


def test_what_has_no_room_to_go_on_stands_as_it_is_and_is_not_asked_again(tiny: Path) -> None:
    ids = tuple(AutoTokenizer.from_pretrained(tiny)("x" * 100)["input_ids"])
    asked = plain(start=Start(ids, then="y" * 20))
    made = ask(tiny, [asked])[0]
    assert (made.stop, made.tokens, made.limit, made.forced) == (Stop.LENGTH, 0, 0, 20)
    assert (made.text, held(made)[:100]) == ("x" * 100 + "y" * 20, ids)
    assert made.error == "the model's context left 0 of 12 tokens"
    assert made.full
    assert made.serves(asked)


def test_texts_of_different_limits_share_a_batch_and_none_depends_on_it(tiny: Path) -> None:
    asked = [plain(seed, replace(PLAIN, max_tokens=3 + 5 * (seed % 9))) for seed in range(20)]
    together_ = ask(tiny, asked, batch_size=32)
    assert ask(tiny, asked[::3], batch_size=16) == together_[::3]
    for request, made in zip(asked, together_, strict=True):
        assert made.tokens == request.sampling.max_tokens or made.stop is Stop.END
    long = ask(tiny, [plain(seed, replace(PLAIN, max_tokens=50)) for seed in range(20)])
    assert all(held(whole)[: made.tokens] == held(made) for whole, made in zip(long, together_, strict=True))


def test_keys_of_requests_without_a_start_are_as_they_were_and_a_start_is_part_of_the_key() -> None:
    assert Request((("user", "?"),), Sampling(), 7).key == "5725587ba73893a4e8f048ec"
    keys = {plain(start=start).key for start in (None, Start(), Start((1,)), Start((1,), "x"), Start((1,), "", "x"))}
    assert len(keys) == 5
    assert plain().key == replace(plain(), ids=False).key


def test_a_ledger_keeps_ids_through_a_kill_and_a_finished_part_and_serves_no_text_without_them(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path, part = tmp_path / "ledger-00000.jsonl", tmp_path / "part-00000.parquet"
    asked, without = plain(1), replace(plain(2), ids=False)
    made = Completion(asked.key, "ab", Stop.LENGTH, 1, 12, 12, forced=3, ids=(97, 98))
    bare = Completion(without.key, "c", Stop.LENGTH, 1, 12, 12)
    ledger = Ledger(path, part)
    ledger.put(0, made)
    ledger.put(0, bare)
    ledger.close()
    lines = path.read_text("utf-8").splitlines()
    assert ("ids" in lines[0], "ids" in lines[1]) == (True, False)
    opened = Ledger(path, part)
    assert (opened.get(0, asked), opened.get(0, without), opened.get(0, plain(2))) == (made, bare, None)
    pq.write_table(opened.table(), part)
    opened.remove()
    assert Ledger(path, part).get(0, asked) == made


def test_a_server_is_asked_with_ids_and_gives_ids() -> None:
    tokenizer = AutoTokenizer.from_pretrained(located("mini"))
    think, sample = (tokenizer(tag, add_special_tokens=False)["input_ids"] for tag in ("<think>", "<sample>"))
    with TinyServer() as server:
        made = served(server, Request(QUESTION, PLAIN, 1, Start(tuple(think), "</think>", "<sample>"), ids=True))
        body = server.bodies[0]
    assert body["prompt"] == [*Chat(tokenizer).encode(QUESTION), *think, *sample]
    assert body["return_token_ids"]
    assert made.ids == (*think, *sample, 20, 21, 22)
    assert made.text == tokenizer.decode(made.ids)
    assert (made.tokens, made.forced, made.stop) == (3, 1, Stop.LENGTH)


def served(server: TinyServer, request: Request, **options: Any) -> Completion:
    engine = open_engine("openai", {"base_url": server.url, "tokenizer": "mini", **options})
    try:
        engine.submit([request])
        return engine.collect()[0]
    finally:
        engine.close()


def test_a_server_that_gives_no_ids_and_an_engine_without_a_tokenizer_stop_the_run() -> None:
    with TinyServer(lambda body, time: Fault()) as server:
        with pytest.raises(ConfigError, match=r"gives no token ids \(return_token_ids\)"):
            served(server, plain())
        with pytest.raises(ConfigError, match="--engine-option tokenizer=FOLDER-OR-HUB-ID"):
            served(server, plain(), tokenizer=None)
        with pytest.raises(ConfigError, match="tokenizer: can't load the tokenizer '/nowhere'"):
            served(server, plain(), tokenizer="/nowhere")


def test_the_scripted_engine_continues_texts_of_code_points() -> None:
    engine = open_engine("scripted", {"answer": lambda request: f"<{begun(request)}>"})
    engine.submit([plain(start=Start(tuple(map(ord, "one</think>two")), "</think>", " go on "))])
    made = engine.collect()[0]
    assert made.text == "one go on <one go on >"
    assert made.ids == tuple(map(ord, made.text))
    assert (made.tokens, made.forced) == (4, 2)


def test_flows_side_by_side_ask_at_once_and_give_their_results_in_order() -> None:
    def count(name: int, times: int) -> Any:
        said = []
        for time in range(times):
            said += [made.text for made in (yield [plain(100 * name + time)] * (time + 1))]
        return said

    batches: list[Sequence[Request]] = []

    def whole() -> Any:
        result = yield from together([count(1, 2), count(2, 0), count(3, 1)])
        yield result

    flow = whole()
    said = next(flow)
    while isinstance(said[0], Request):
        batches.append(said)
        said = flow.send([Completion(r.key, str(r.seed), Stop.END, 0, 1, 12) for r in said])
    assert said == [["100", "101", "101"], [], ["300"]]
    assert [[r.seed for r in batch] for batch in batches] == [[100, 300], [101, 101]]


@pytest.mark.parametrize("asked", [plain(), replace(plain(start=Start(then="go")), ids=False)])
def test_an_engine_that_passes_over_the_start_of_a_turn_or_its_ids_stops_the_run(asked: Request, tmp_path: Path) -> None:
    def flow() -> Any:
        yield [asked]

    class Nowhere:
        def get(self, index: int, request: Request) -> None: ...

        def put(self, index: int, request: Request, completion: Completion) -> None:
            raise AssertionError("it was stored")

    engine = open_engine("scripted", {"answer": lambda request: Completion("", "text", Stop.END, 1, 1, 12)})
    with pytest.raises(ConfigError, match="the engine can't continue a text by its token ids"):
        list(drive([flow()], engine, Nowhere()))
