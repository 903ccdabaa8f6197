"""Loss masks: what they silence, and that fine-tuning, exported tokens and exported parts agree on it, token for token."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import chats
import looking
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from silver import attempt, reflection, row, simple, write

from skillfactory.build import BuildConfig, build
from skillfactory.cli import main
from skillfactory.encoding import IGNORED, Encoder, Example, tokenizer_of
from skillfactory.errors import InputError
from skillfactory.export import ExportConfig, Summary, export
from skillfactory.markup import render
from skillfactory.masks import Mask, parts, silent
from skillfactory.patterns import NAMED
from skillfactory.progress import Silent
from skillfactory.records import Block, Step, Trace
from skillfactory.traces import WITH_SKILLS, Row, trace_table
from skillfactory.train.material import gather
from skillfactory.train.sft import Optimisation, SftConfig

MASKS: tuple[Mask, ...] = ("none", "wrong", "all-but-last")
TOKENIZERS = {"chatml": "qwen2.5-wide", "headers": "llama-3", "plain": "olmo"}
WORDS = (
    *looking.WORDS,
    "<answer>",
    "</sample>",
    "<|im_end|>",
    "<|eot_id|>",
    "\r\n",
    "e\u0301",
    "👩‍👩‍👧",
    "数",
    "\u00a0",
    " ",
    "\n\n",
    "5+2",
    "I",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tokenizers, each with a chat template of its style."""
    folder = tmp_path_factory.mktemp("models")
    for style, template in TOKENIZERS.items():
        chats.with_template(style, template).save_pretrained(folder / style)
    return folder


def hostile(count: int) -> list[Row]:
    """Traces of any words, with any verdicts, some with an attempt said twice, some with blocks of a skill."""
    random = Random(5)
    made = []
    for number in range(count):
        words = ["".join(random.choices(WORDS, k=random.randint(0, 8))) for _ in range(12)]
        steps = []
        for place in range(random.randint(1, 4)):
            tried = attempt(f"original/{place}", words[3 * place], random.random() < 0.5, f"q{number}")
            blocks = (Block("subgoals", words[3 * place + 1]),) if number % 3 == 0 and words[3 * place + 1].strip() else ()
            steps.append(Step(tried, reflection(tried, words[3 * place + 2]), "Once more.", blocks))
        if number % 2:
            steps.append(Step(steps[0].attempt, None, "", steps[0].blocks))
        trace = Trace(f"q{number}/h", f"q{number}", words[0] or "Q", "hostile", tuple(steps), "So.", words[1], 1)
        text, segments = render(trace)
        made.append(Row(trace, None, text, segments, None))
    return made


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces of every named layout, each in a part of its own, from a scripted run; and hostile ones."""
    folder = tmp_path_factory.mktemp("traces")
    looking.curated(folder / "run")
    layouts = (*NAMED, "twice = I C C -> confirm")
    (folder / "all" / "traces").mkdir(parents=True)
    for number, layout in enumerate(layouts):  # one after the other: layouts of one build share the attempts
        built = BuildConfig((str(folder / "run"),), folder / f"{number}", layout=(layout,), max_attempts=3)
        build(built)
        (part,) = (folder / f"{number}" / "traces").glob("*.parquet")
        part.rename(folder / "all" / "traces" / f"part-{number:05d}.parquet")
    pq.write_table(trace_table(hostile(40), WITH_SKILLS), folder / "all" / "traces" / f"part-{len(layouts):05d}.parquet")
    return folder / "all"


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(folder.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def gathered(directory: Path, encoder: Encoder, mask: Mask) -> Any:
    """What `sft` would learn from."""
    config = SftConfig((directory,), Path("unused"), mask=mask, optimisation=Optimisation(epochs=1))
    return gather(config, encoder, Silent())


def exported(directory: Path, model: Path, mask: Mask, output: Path, **options: Any) -> Summary:
    return export(ExportConfig(directory, "tokens", output, model=str(model), mask=mask, **options))


def flags(content: Sequence[dict[str, Any]]) -> tuple[str, list[bool]]:
    """The text of axolotl's parts, and for each character whether it bears loss."""
    return "".join(part["text"] for part in content), [part["train"] for part in content for _ in part["text"]]


@pytest.mark.parametrize("style", TOKENIZERS)
@pytest.mark.parametrize("mask", MASKS)
def test_every_way_to_a_trainer_gives_each_token_the_same_label(
    style: str, mask: Mask, traces: Path, models: Path, tmp_path: Path
) -> None:
    encoder = Encoder(tokenizer_of(str(models / style)), 4096)
    material = gathered(traces, encoder, mask)
    written = exported(traces, models / style, mask, tmp_path / "tokens")
    tokens = rows(tmp_path / "tokens" / "data")
    assert written.funnel.dropped == dict(material.funnel.dropped) == {}
    assert [(row["input_ids"], row["labels"]) for row in tokens] == [(r.ids.tolist(), r.labels.tolist()) for r in material.rows]
    assert all(row["length"] == len(row["input_ids"]) == sum(row["attention_mask"]) for row in tokens)

    export(ExportConfig(traces, "axolotl", tmp_path / "parts", model=str(models / style), mask=mask))
    turns = [row["messages"] for row in rows(tmp_path / "parts" / "data")]
    source = rows(traces / "traces")
    assert [row["trace_id"] for row in tokens] == [row["trace_id"] for row in source]
    for original, (_, said), found in zip(source, turns, tokens, strict=True):
        prompt, response = (turn["content"] for turn in original["conversations"])
        joined, bears = (said["content"], [True] * len(response)) if mask == "none" else flags(said["content"])
        assert joined == response
        spans = silent(original["segments"], mask)
        assert [not any(start <= n < end for start, end in spans) for n in range(len(response))] == bears
        (rendered,) = encoder.rendered([Example("", prompt, response)])
        begin, end = rendered.turn
        at = rendered.text.index(response, begin)
        whole = [False] * at + bears + [True] * (end - at - len(response)) + [False] * (len(rendered.text) - end)
        for (first, last), token, label in zip(rendered.places.tolist(), found["input_ids"], found["labels"], strict=True):
            assert first < last
            assert label == (token if all(whole[first:last]) else IGNORED)


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_silences_the_words_of_its_attempts_and_nothing_else(mask: Mask, traces: Path) -> None:
    seen = 0
    for found in rows(traces / "traces"):
        text, segments = found["conversations"][1]["content"], found["segments"]
        ends = [n for n, segment in enumerate(segments) if segment["kind"] == "attempt"]
        begun = ends[-2] if len(ends) > 1 else -1  # up to the last attempt but one
        expected = [
            (segment["start"], segment["end"])
            for n, segment in enumerate(segments)
            if segment["kind"] in ("attempt", "skill") and (segment["right"] is False if mask == "wrong" else n <= begun)
        ]
        spans = silent(segments, mask)
        assert list(spans) == ([] if mask == "none" else [span for span in expected if span[0] < span[1]])
        assert list(spans) == sorted(spans)
        pieces = list(parts(text, spans))
        assert "".join(piece for piece, _ in pieces) == text
        loud = "".join(piece for piece, bears in pieces if bears)
        assert loud.count("<sample>\n") == loud.count("\n</sample>") == len(ends), "tags are learnt"
        seen += len(spans)
    assert bool(seen) == (mask != "none")


def test_of_an_attempt_said_twice_only_the_last_time_is_left_by_all_but_last() -> None:
    found = chats.plain()
    segments = [segment._asdict() for segment in found.segments]
    said = [text for text, bears in parts(found.text, silent(segments, "all-but-last")) if not bears]
    assert said == [step.attempt.text for step in found.trace.steps[:2]]
    only = row("q1/one", [(attempt("original/0", "No.", False), "Hm.")])
    alone = [segment._asdict() for segment in only.segments]
    assert silent(alone, "all-but-last") == ()
    assert [only.text[start:end] for start, end in silent(alone, "wrong")] == ["No.\n<answer>5 + 2</answer>"]


@given(st.text(max_size=30), st.sets(st.integers(0, 30), max_size=8))
def test_parts_join_to_the_text_and_none_is_empty(text: str, borders: set[int]) -> None:
    places = sorted(place for place in borders if place <= len(text))
    spans = list(zip(places[::2], places[1::2], strict=False))
    pieces = list(parts(text, spans))
    assert "".join(piece for piece, _ in pieces) == text
    assert all(piece for piece, _ in pieces)
    assert [piece for piece, bears in pieces if not bears] == [text[start:end] for start, end in spans]


def frame(directory: Path, **values: Any) -> Path:
    """The traces with other values in their columns; None takes a column out."""
    for part in (directory / "traces").glob("*.parquet"):
        table = pq.read_table(part)
        for name, value in values.items():
            place = table.column_names.index(name)
            made = None if value is None else pa.array(value, table.field(name).type)
            table = table.remove_column(place) if made is None else table.set_column(place, table.field(name), made)
        pq.write_table(table, part)
    return directory


def test_traces_without_segments_can_be_learnt_whole_and_no_other_way(tmp_path: Path, models: Path) -> None:
    bare = frame(write(tmp_path / "bare", simple(3)), segments=None)
    empty = frame(write(tmp_path / "empty", simple(3)), segments=[None] * 3)
    for directory in (bare, empty):
        for mask in ("wrong", "all-but-last"):
            with pytest.raises(InputError, match=f"segments.*--mask {mask}.*--mask none"):
                exported(directory, models / "chatml", mask, tmp_path / "out")
        assert exported(directory, models / "chatml", "none", tmp_path / f"{directory.name}-out").funnel.kept == 3


def test_what_cannot_be_learnt_is_counted_with_its_reason_and_what_is_too_long_is_refused(tmp_path: Path, models: Path) -> None:
    turns = [
        [{"role": "user", "content": "Q"}, {"role": "assistant", "content": text}]
        for text in ("Yes.", "<|im_end|> no", "x" * 90)
    ]
    traces = frame(write(tmp_path / "traces", simple(3)), conversations=turns)
    with pytest.raises(InputError, match=r"1 of 3 traces are longer than 60 tokens .* --drop-long"):
        exported(traces, models / "chatml", "none", tmp_path / "out", max_length=60)
    assert not (tmp_path / "out").exists()
    found = exported(traces, models / "chatml", "none", tmp_path / "out", max_length=60, drop_long=True)
    assert found.funnel.to_dict()["dropped"] == {"special_token": 1, "too_long": 1}
    assert found.funnel.kept == len(rows(tmp_path / "out" / "data")) == 1
    drops = rows(tmp_path / "out" / "drops")
    assert [(drop["subject_id"], drop["reason"]) for drop in drops] == [
        ("q1/*C_full/0/0", "special_token"),
        ("q2/*C_full/0/0", "too_long"),
    ]


def test_exported_tokens_say_what_they_are(tmp_path: Path, models: Path) -> None:
    found = exported(write(tmp_path / "traces", simple(20)), models / "chatml", "wrong", tmp_path / "out")
    tokens = rows(tmp_path / "out" / "data")
    trained = sum(label != IGNORED for row in tokens for label in row["labels"])
    share = trained / sum(row["length"] for row in tokens)
    account = json.loads((tmp_path / "out" / "export.json").read_text("utf-8"))
    assert (account["mask"], account["trained_share"]) == ("wrong", round(share, 4))
    assert found.notes == (f"{share:.1%} of {account['tokens']:,} tokens bear loss (mask: wrong)",)
    assert f"{share:.1%}" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("collate", ["trl", "transformers"])
def test_trainers_take_exported_tokens_as_they_are(collate: str, tmp_path: Path) -> None:
    from datasets import load_dataset

    traces = write(tmp_path / "traces", simple(6))
    export(ExportConfig(traces, "tokens", tmp_path / "out", model="mini", mask="wrong"))
    data = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    batch = next(iter(trainer(collate, data, tmp_path).get_train_dataloader()))
    expected = {tuple(row["input_ids"]): row["labels"] for row in data}
    assert len(batch["input_ids"]) == 6
    for ids, labels, mask in zip(*(batch[name].tolist() for name in ("input_ids", "labels", "attention_mask")), strict=True):
        size = sum(mask)
        assert labels[:size] == expected.pop(tuple(ids[:size]))
        assert set(labels[size:]) <= {IGNORED}


def trainer(which: str, data: Any, folder: Path) -> Any:
    """A trainer of the embedded model, as the export's README has it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from skillfactory.embedded import located

    common = {"output_dir": str(folder / "model"), "use_cpu": True, "report_to": "none", "per_device_train_batch_size": 6}
    if which == "trl":
        return SFTTrainer(model=located("mini"), args=SFTConfig(max_length=None, bf16=False, **common), train_dataset=data)
    tokenizer, model = (kind.from_pretrained(located("mini")) for kind in (AutoTokenizer, AutoModelForCausalLM))
    arguments = TrainingArguments(**common)
    return Trainer(model=model, args=arguments, train_dataset=data, data_collator=DataCollatorForSeq2Seq(tokenizer))


def test_a_training_says_its_mask_and_the_share_that_it_leaves(tmp_path: Path) -> None:
    traces = write(tmp_path / "traces", simple(4))
    shares = []
    for mask in MASKS:
        options = f"--max-steps 1 --batch-size 2 --device cpu --mask {mask} --output {tmp_path / mask} --quiet"
        assert main(["sft", str(traces), *options.split()]) == 0
        account = json.loads((tmp_path / mask / "training.json").read_text("utf-8"))
        card = (tmp_path / mask / "README.md").read_text("utf-8")
        assert account["settings"]["mask"] == mask
        assert f"| mask | {mask} |" in card
        assert f"| share of tokens trained on | {account['trained_share']} |" in card
        shares.append(account["trained_share"])
    assert shares[0] > shares[1] == shares[2] > 0, "each trace is a wrong attempt and then a right one"


def test_an_old_name_of_the_option_is_an_error_that_names_the_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"sft: {{inputs: [{tmp_path}], output: {tmp_path / 'out'}, masked: wrong-attempts}}\n", "utf-8")
    assert main(["sft", "--recipe", str(recipe)]) != 0
    assert "unknown key 'masked'; did you mean 'mask'?" in capsys.readouterr().err
    assert main(["sft", str(tmp_path), "--output", str(tmp_path / "out"), "--mask", "wrong-attempts"]) != 0
    assert "expected one of none, wrong, all-but-last" in capsys.readouterr().err
