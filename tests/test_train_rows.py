"""What is learnt from an example: the assistant's turn with its end token, whole, and nothing else."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from silver import attempt, row, simple, write
from tiny_model import save_tiny_model

from skillfactory.encoding import IGNORED, Encoder, Example, Refused, Row, template_from, training_template
from skillfactory.errors import ConfigError, InputError
from skillfactory.export.trl import CHATML
from skillfactory.train.examples import Replay, read
from skillfactory.train.order import order


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer of bytes whose chat template has markers."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny"), hidden=16))
    found.chat_template = CHATML
    return found


def encoded(tokenizer: Any, *examples: Example, limit: int = 4096) -> list[Row | Refused]:
    return list(Encoder(tokenizer, limit).rows(examples))


def learnt(tokenizer: Any, found: Row | Refused) -> str:
    """The text of the tokens that bear loss."""
    assert isinstance(found, Row)
    return str(tokenizer.decode([token for token in found.labels if token != IGNORED]))


def test_what_bears_loss_is_the_assistant_turn_with_its_end_token(tokenizer: Any) -> None:
    answer = "<think>\n<sample>\nÄ 5 + 2 😀\n</sample>\n</think>\n\n<answer>\n5 + 2\n</answer>"
    (found,) = encoded(tokenizer, Example("a", "Make 7 from 5, 2.", answer))
    assert learnt(tokenizer, found) == answer + "<|im_end|>"
    assert isinstance(found, Row)
    whole = f"<|im_start|>user\nMake 7 from 5, 2.<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
    assert tokenizer.decode(found.ids) == whole
    assert found.trained == len(tokenizer(answer)["input_ids"]) + 1


def test_the_prompt_of_a_row_is_what_the_model_is_shown_when_it_answers(tokenizer: Any) -> None:
    (found,) = encoded(tokenizer, Example("a", "Make 7.", "Yes."))
    assert isinstance(found, Row)
    shown = tokenizer.apply_chat_template([{"role": "user", "content": "Make 7."}], add_generation_prompt=True)["input_ids"]
    assert found.ids[: len(shown)].tolist() == shown
    assert found.labels[len(shown)] != IGNORED


def test_silent_characters_bear_no_loss_and_all_others_do(tokenizer: Any) -> None:
    (found,) = encoded(tokenizer, Example("a", "Q", "  one wrong two wrong three", ((6, 11), (16, 21))))
    assert learnt(tokenizer, found) == "  one  two  three<|im_end|>"


def test_wrong_attempts_are_masked_on_demand_and_their_reflections_are_not(tmp_path: Path, tokenizer: Any) -> None:
    traces = write(tmp_path / "traces", simple(3))
    for example in read(traces, "wrong", 1, 0).examples:
        (found,) = encoded(tokenizer, example)
        text = learnt(tokenizer, found)
        assert text.count("<sample>") == 2
        assert text.count("Try ") == 1, "the wrong attempt is learnt"
        assert text.count("<answer>") == example.response.count("<answer>") - 1
        assert "<verdict>Incorrect</verdict>" in text
    plain = read(traces, "none", 1, 0).examples
    assert all(
        learnt(tokenizer, each) == example.response + "<|im_end|>" for example in plain for each in encoded(tokenizer, example)
    )


def test_raw_text_gets_no_template_and_no_end_token_and_the_loss_is_on_the_completion(tokenizer: Any) -> None:
    (found,) = encoded(tokenizer, Example("r", "<|im_start|>user\nQ", " and so on", raw=True))
    assert isinstance(found, Row)
    assert tokenizer.decode(found.ids) == "<|im_start|>user\nQ and so on"
    assert learnt(tokenizer, found) == " and so on"


def test_no_row_is_cut_and_one_that_cannot_be_learnt_from_has_a_reason(tokenizer: Any) -> None:
    examples = [
        Example("long", "Q", "x" * 200),
        Example("fits", "Q", "yes"),
        Example("special", "Q", "so <|im_end|> it goes"),
        Example("empty", "Q", "", raw=True),
        Example("raw", "Q", "x" * 200, raw=True),
    ]
    long, fits, special, empty, raw = encoded(tokenizer, *examples, limit=100)
    assert (long, special, empty, raw) == (Refused.TOO_LONG, Refused.SPECIAL_TOKEN, Refused.NO_LOSS, Refused.TOO_LONG)
    assert isinstance(fits, Row)
    exact = len(fits.ids)
    assert isinstance(encoded(tokenizer, examples[1], limit=exact)[0], Row)
    assert encoded(tokenizer, examples[1], limit=exact - 1) == [Refused.TOO_LONG]


BROKEN = {
    "drops a part": CHATML.replace("message.content + '<|im_end|>'", "message.content.split('</think>')[-1] + '<|im_end|>'"),
    "before the assistant's words": CHATML.replace("{% generation %}{{ ", "{% generation %}{{ '<think>' + "),
    "leave out the token that ends": CHATML.replace(
        "{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}",
        "{% generation %}{{ message.content }}{% endgeneration %}{{ '<|im_end|>' }}",
    ),
    "marks no assistant turn": CHATML.replace("{% if message.role == 'assistant' %}", "{% if message.role == 'nobody' %}"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_template_that_would_teach_something_else_is_refused(tokenizer: Any, message: str) -> None:
    tokenizer.chat_template = BROKEN[message]
    assert tokenizer.chat_template != CHATML
    try:
        with pytest.raises(ConfigError, match=message) as caught:
            encoded(tokenizer, Example("a", "Q", "<think>\nhm\n</think>\n\n7"))
        assert "--chat-template FILE" in str(caught.value)
    finally:
        tokenizer.chat_template = CHATML


def test_a_template_without_markers_or_none_at_all_is_an_error_with_a_remedy(tokenizer: Any, tmp_path: Path) -> None:
    for template, message in (("{{ messages }}", "no {% generation %} markers"), (None, "has no chat template")):
        tokenizer.chat_template = template
        with pytest.raises(ConfigError, match=message) as caught:
            training_template(tokenizer)
        assert "--chat-template FILE" in str(caught.value)
    tokenizer.chat_template = CHATML
    (tmp_path / "t.jinja").write_text("{{ '<|other|>' }}", "utf-8")
    with pytest.raises(ConfigError, match=r"uses <\|other\|>, which is no token of this model"):
        template_from(tmp_path / "t.jinja", tokenizer)
    with pytest.raises(ConfigError, match="there is no file"):
        template_from(tmp_path / "none.jinja", tokenizer)


def curated(folder: Path, texts: dict[str, list[tuple[str, str, str]]]) -> Path:
    """A run directory of attempts: question → (text, check, stop)."""
    rows = [
        {"id": f"{q}/{n}", "question_id": q, "text": text, "check": check, "stop": stop}
        for q, found in texts.items()
        for n, (text, check, stop) in enumerate(found)
    ]
    for name, table in (("attempts", rows), ("questions", [{"id": q, "prompt": f"Question {q}?"} for q in texts])):
        (folder / name).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(table), folder / name / "part-00000.parquet")
    (folder / "run.json").write_text("{}", "utf-8")
    return folder


def test_of_a_run_the_right_ended_distinct_attempts_are_learnt_under_the_bare_question(tmp_path: Path) -> None:
    many = [(f"right {n}", "right", "end") for n in range(5)]
    found = [("right 0", "right", "end"), ("wrong", "wrong", "end"), ("cut", "right", "length")]
    run = curated(tmp_path / "run", {"a": [*many, *found], "b": [("one", "right", "end")], "c": [("no", "wrong", "end")]})
    two = read(run, "none", 2, 0)
    assert {(e.id[0], e.prompt) for e in two.examples} == {("a", "Question a?"), ("b", "Question b?")}
    assert Counter(e.id[0] for e in two.examples) == {"a": 2, "b": 1}
    assert len({e.response for e in two.examples}) == 3
    assert all(e.response.startswith(("right", "one")) for e in two.examples)
    assert two.left == {"not_drawn": 3, "repeated": 1}
    assert read(run, "none", 2, 0).examples == two.examples
    draws = {tuple(e.response for e in read(run, "none", 1, seed).examples) for seed in range(20)}
    assert len(draws) > 2, "the seed draws"
    with pytest.raises(InputError, match="no right attempt that has ended"):
        read(curated(tmp_path / "bad", {"c": [("no", "wrong", "end")]}), "none", 1, 0)


def test_an_input_that_is_no_folder_of_ours_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder that `skillfactory build` or `skillfactory curate` wrote"):
        read(tmp_path / "none", "none", 1, 0)
    with pytest.raises(InputError, match="no traces here"):
        read(tmp_path, "none", 1, 0)


def test_replay_comes_in_its_share_and_none_twice_before_all_have_come(tmp_path: Path) -> None:
    texts = [{"prompt": f"p{n}", "completion": f"c{n}", "weight": n} for n in range(10)]
    lines = tmp_path / "texts.jsonl"
    lines.write_text("".join(json.dumps(text) + "\n" for text in texts), "utf-8")
    pq.write_table(pa.Table.from_pylist(texts), tmp_path / "texts.parquet")
    first, second, third = Replay.read(f"{lines}@0.5").draw(8, 3, 0)
    assert [len(part) for part in (first, second, third)] == [4, 4, 4]
    drawn = [text.prompt for text in (*first, *second, *third)]
    assert len(set(drawn[:10])) == 10
    assert all(text.raw and text.response == "c" + text.prompt[1:] for text in first)
    again = Replay.read(f"{tmp_path / 'texts.parquet'}@0.5").draw(8, 1, 1)
    assert len(again[0]) == 4


@pytest.mark.parametrize(
    "text", ["texts.jsonl", "texts.jsonl@", "@0.5", "texts.jsonl@0", "texts.jsonl@-1", "texts.jsonl@nan", "t@inf"]
)
def test_a_replay_without_a_share_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="expected FILE@SHARE"):
        Replay.read(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}\n', "row 1: expected texts"),
        ('{"prompt": "a", "completion": 3}\n', "row 1: expected texts"),
        ("[]\n", "line 1: expected an object"),
        ("{\n", "line 1 is no JSON"),
        ("", "expected rows"),
    ],
)
def test_replay_that_is_no_text_is_an_error_that_says_where(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.jsonl").write_text(content, "utf-8")
    with pytest.raises(InputError, match=message):
        Replay.read(f"{tmp_path / 't.jsonl'}@1").draw(3, 1, 0)


def test_every_round_holds_its_rows_once_in_batches_of_like_length() -> None:
    lengths = [(n * 37) % 101 for n in range(1000)]
    found = order(lengths, [range(1000), range(1000)], 8, 0)
    assert Counter(found) == dict.fromkeys(range(1000), 2)
    assert Counter(found[:1000]) == dict.fromkeys(range(1000), 1)
    spread = [max(part) - min(part) for part in ([lengths[r] for r in found[i : i + 8]] for i in range(0, 2000, 8))]
    assert sum(spread) / len(spread) < 10, "a random batch of 8 spreads over 79 on average"
    assert found == order(lengths, [range(1000), range(1000)], 8, 0)
    assert found[:1000] != found[1000:]
    assert found != order(lengths, [range(1000), range(1000)], 8, 1)


def test_rows_that_fill_no_batch_begin_the_next_round() -> None:
    lengths = [5] * 10
    found = order(lengths, [range(10), range(10)], 4, 0)
    assert Counter(found) == dict.fromkeys(range(10), 2)
    assert len(set(found[:8])) == 8
    assert set(range(10)) - set(found[:8]) <= set(found[8:])


def test_a_trace_of_several_turns_is_refused(tmp_path: Path) -> None:
    traces = write(tmp_path / "traces", [row("q1/x", [(attempt("original/0", "Try.", True), "Yes.")])])
    part = next((traces / "traces").glob("*.parquet"))
    table = pq.read_table(part)
    turns = [[{"role": "system", "content": "s"}, *table["conversations"][0].as_py()]]
    at = table.column_names.index("conversations")
    pq.write_table(table.set_column(at, "conversations", pa.array(turns, table["conversations"].type)), part)
    with pytest.raises(InputError, match="expected a user's turn and an assistant's"):
        read(traces, "none", 1, 0)
