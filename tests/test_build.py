"""Building: from released raw data in any shape to the same traces, with every row and trace accounted for."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rawdata import PREFIX, REFLECTIONS, VARIANTS, raw_rows, write

from skillfactory.build import BuildConfig, BuildSummary, build
from skillfactory.build.assemble import Words
from skillfactory.build.directory import Claim
from skillfactory.build.parallel import Processes
from skillfactory.build.released import RawReader, Wanted, row_groups
from skillfactory.build.sources import RawSource
from skillfactory.build.unit import Builder, Counts
from skillfactory.errors import ConfigError, InputError, RunLockedError
from skillfactory.layouts import Draw
from skillfactory.markup import final_answer, parse, verdict
from skillfactory.prompts import load_phrases
from skillfactory.records import Verdict

Row = dict[str, Any]


def built(source: Path | str, output: Path, *layouts: str, **options: Any) -> tuple[BuildSummary, list[Row]]:
    """The summary and the rows of a build, in order of their ids."""
    summary = build(BuildConfig(inputs=(str(source),), output=output, layout=layouts or ("*C_full",), **options))
    parts = sorted((output / "traces").glob("*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    return summary, sorted(rows, key=lambda row: row["trace_id"])


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_every_trace_parses_back_and_ends_as_its_layout_promises(tmp_path: Path) -> None:
    source = write(raw_rows(20), tmp_path / "raw.parquet")
    layouts = ("paper", "*C", "*CC", "*C*IC", "random", "no_reflection")
    for layout in layouts:
        _, rows = built(source, tmp_path / layout.replace("*", "_"), layout)
        assert rows
        for row in rows:
            user, assistant = row["conversations"]
            assert (user["role"], assistant["role"]) == ("user", "assistant")
            assert user["content"].startswith("What is ")
            parsed = parse(assistant["content"])
            assert parsed.well_formed
            segments = row["segments"]
            assert [(p.kind, p.start, p.end) for p in parsed.parts] == [(s["kind"], s["start"], s["end"]) for s in segments]
            assert final_answer(assistant["content"])[0] == row["answer"]
            attempts = [s for s in segments if s["kind"] == "attempt"]
            assert row["attempt_ids"] == [s["attempt_id"] for s in attempts]
            assert layout == "random" or (attempts[-1]["right"] and row["answer"] == row["gold"])
            for s in segments:
                text = assistant["content"][s["start"] : s["end"]]
                if s["kind"] == "attempt":
                    assert (final_answer(text)[0] == row["gold"]) == s["right"]
                if s["kind"] == "reflection":
                    assert verdict(text) is (Verdict.CORRECT if s["right"] else Verdict.INCORRECT)
            assert ("reflection" in {s["kind"] for s in segments}) == (layout != "no_reflection")
            assert row["sft_template_type_idx"] == row["layout"] == layout


def test_a_backtracking_trace_repeats_the_earlier_attempt_and_its_answer(tmp_path: Path) -> None:
    _, rows = built(write(raw_rows(10), tmp_path / "raw.parquet"), tmp_path / "out", "*C*IC")
    for row in rows:
        attempts = [s for s in row["segments"] if s["kind"] == "attempt"]
        assert attempts[-1]["attempt_id"] in [s["attempt_id"] for s in attempts[:-2]]
        assert not attempts[-2]["right"]
        assert row["segments"][-3]["kind"] == "attempt"  # repeated without a reflection, then closing and answer


def test_the_output_is_read_by_datasets_and_pandas_as_it_is(tmp_path: Path) -> None:
    summary, rows = built(write(raw_rows(5, right_rate=0.05), tmp_path / "raw.parquet"), tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), "traces", split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded["trace_id"]) == [row["trace_id"] for row in rows]
    assert len(pd.read_parquet(tmp_path / "out" / "traces")) == len(rows)
    drops = datasets.load_dataset(str(tmp_path / "out"), "drops", split="train", cache_dir=str(tmp_path / "cache"))
    assert len(drops) == sum(summary.funnels[1].dropped.values()) > 0


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for k in range(4):
        write(raw_rows(15, seed=k), tmp_path / "raw" / f"part-{k}.parquet")
    rows = {}
    for workers in (1, 2, 3):
        output = tmp_path / f"out{workers}"
        built(tmp_path / "raw", output, workers=workers)
        rows[workers] = files(output)
    assert rows[1] == rows[2] == rows[3]
    built(tmp_path / "raw", tmp_path / "other", seed=1)
    assert files(tmp_path / "other") != rows[1]
    again = files(tmp_path / "out1")
    built(tmp_path / "raw", tmp_path / "out1")  # the same command once more
    assert files(tmp_path / "out1") == again


def test_traces_of_skills_have_the_same_bytes_whatever_the_workers_and_a_limit_keeps_what_they_say(tmp_path: Path) -> None:
    for k in range(2):
        rows = raw_rows(15, seed=k)
        for row in rows:
            row[PREFIX] = [row[PREFIX][0].replace(": ", ":\nPlan: add. Execute: ", 1)]
        write(rows, tmp_path / "raw" / f"part-{k}.parquet")
    options = ("paper; need=subgoals", "0C = 0C; reuse")
    summary, every = built(tmp_path / "raw", tmp_path / "one", *options)
    built(tmp_path / "raw", tmp_path / "two", *options, workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert {name: count > 0 for name, count in summary.traces.items()} == {"paper; need=subgoals": True, "0C": True}
    for row in every:
        skills = [s["skill"] for s in row["segments"] if s["kind"] == "skill"]
        assert skills == ["subgoals"] * len(row["attempt_ids"]) * (row["layout"] != "0C")
        assert row["layout"] == "0C" or {name.split("/")[1] for name in row["attempt_ids"]} == {"plan_and_execute"}
    _, some = built(tmp_path / "raw", tmp_path / "some", *options, limit=20)
    assert len(some) == 20
    assert all(row in every for row in some)


def listed(rows: Sequence[Row]) -> list[Row]:
    return list(rows)


def scalars(rows: Sequence[Row]) -> list[Row]:
    keys = (PREFIX, f"{PREFIX}__eval_is_correct", f"{PREFIX}__eval_extracted_answers")
    return [row | {key: row[key][0] for key in keys} for row in rows]


def readme_schema(rows: Sequence[Row]) -> list[Row]:
    other = "model_responses__example_annotation"
    return [
        {
            "question": row["question"],
            "answer": row["answer"],
            "prompt_type": row["prompt_variant"],
            other: row[PREFIX][0],
            f"{other}__eval_is_correct": row[f"{PREFIX}__eval_is_correct"],
            REFLECTIONS: row[REFLECTIONS],
        }
        for row in rows
    ]


def scattered(rows: Sequence[Row]) -> list[Row]:
    """All of the first variant, then all of the second, …: a question's rows far apart, each variant's in order."""
    return sorted(rows, key=lambda row: VARIANTS.index(row["prompt_variant"]))


@pytest.mark.parametrize("shape", [scalars, readme_schema, scattered])
def test_every_published_shape_gives_the_same_traces(tmp_path: Path, shape: Callable[[Sequence[Row]], list[Row]]) -> None:
    rows = raw_rows(12)
    _, expected = built(write(rows, tmp_path / "a.parquet"), tmp_path / "a")
    _, found = built(write(shape(rows), tmp_path / "b.parquet"), tmp_path / "b")
    assert found == expected
    assert {path.name for path in (tmp_path / "b").iterdir()} <= {".lock", "build.json", "README.md", "traces", "drops"}


def test_json_lines_give_the_same_traces(tmp_path: Path) -> None:
    rows = raw_rows(12)
    _, expected = built(write(rows, tmp_path / "a.parquet"), tmp_path / "a")
    lines = [json.dumps(row) for row in scattered(rows)]
    lines[5:5] = ["", "{not json", "[1, 2]", json.dumps(rows[0] | {PREFIX: 7}), json.dumps(rows[0] | {"question": None})]
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    summary, found = built(tmp_path / "b.jsonl", tmp_path / "b")
    assert found == expected
    assert summary.funnels[0].dropped == {"bad_json": 2, "bad_type": 1, "no_question": 1}
    drops = pq.read_table(tmp_path / "b" / "drops").to_pylist()
    assert f"{tmp_path / 'b.jsonl'}:6" in [drop["subject_id"] for drop in drops]


def test_large_strings_large_lists_and_dictionaries_are_read(tmp_path: Path) -> None:
    rows = raw_rows(6)
    table = pa.Table.from_pylist(rows)
    schema = pa.schema(
        [
            ("question", pa.large_string()),
            ("answer", pa.dictionary(pa.int32(), pa.string())),
            ("prompt_variant", pa.dictionary(pa.int8(), pa.string())),
            (PREFIX, pa.large_list(pa.large_string())),
            (f"{PREFIX}__eval_is_correct", pa.large_list(pa.bool_())),
            (f"{PREFIX}__eval_extracted_answers", pa.list_(pa.string())),
            (REFLECTIONS, pa.list_(pa.large_string())),
        ]
    )
    pq.write_table(table.cast(schema), tmp_path / "large.parquet", row_group_size=37)
    _, expected = built(write(rows, tmp_path / "a.parquet"), tmp_path / "a")
    assert built(tmp_path / "large.parquet", tmp_path / "b")[1] == expected


def test_row_groups_batches_and_files_may_cut_questions_anywhere(tmp_path: Path) -> None:
    rows = raw_rows(12)
    _, expected = built(write(rows, tmp_path / "a.parquet", row_group_size=10_000), tmp_path / "a")
    random = Random(0)
    cuts = [0, *sorted(random.sample(range(1, len(rows)), 9)), len(rows)]
    for k, (start, end) in enumerate(pairwise(cuts)):
        write(rows[start:end], tmp_path / "many" / f"{k}.parquet", row_group_size=random.randint(1, 40))
    assert built(tmp_path / "many", tmp_path / "b")[1] == expected


def test_units_may_cut_questions_anywhere(tmp_path: Path) -> None:
    rows = raw_rows(9, samples=5)
    write(rows, tmp_path / "raw.parquet", row_group_size=7)
    groups = row_groups([tmp_path / "raw.parquet"], Wanted())
    spans = tuple((k, k + 1) for k in range(len(groups)))
    source = RawSource(RawReader(groups, Wanted()), spans)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "build.json").write_text("{}")  # says that this is where a build writes
    claim = Claim(tmp_path / "out")
    builder = Builder(source, Draw.read(["*C_full"]), Words(load_phrases()), 0, claim.drafts)
    counts = Counts()
    for unit in range(len(spans)):
        done = builder.unit(unit)
        claim.publish(done.files)
        counts.add(done)
    assert counts.attempts == len(rows)
    assert sum(map(len, counts.ids)) == 9
    _, expected = built(tmp_path / "raw.parquet", tmp_path / "whole")
    parts = sorted((tmp_path / "out" / "traces").glob("*.parquet"))
    found = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert sorted(found, key=lambda row: str(row["trace_id"])) == expected


def test_bad_rows_are_counted_with_their_reason_and_the_run_goes_on(tmp_path: Path) -> None:
    rows = raw_rows(6)
    spoil: list[tuple[Row, str]] = [
        ({PREFIX: None}, "null_response"),
        ({PREFIX: []}, "empty_response"),
        ({PREFIX: ["a", "b"]}, "several_responses"),
        ({PREFIX: [None]}, "empty_response"),
        ({PREFIX: [""]}, "empty_response"),
        ({f"{PREFIX}__eval_is_correct": []}, "no_correctness"),
        ({f"{PREFIX}__eval_is_correct": None}, "no_correctness"),
        ({f"{PREFIX}__eval_is_correct": [None]}, "no_correctness"),
        ({"prompt_variant": None}, "no_variant"),
        ({"question": None}, "no_question"),
        ({"question": ""}, "no_question"),
    ]
    for k, (change, _) in enumerate(spoil):
        rows[4 * k] |= change
    rows[1] |= {REFLECTIONS: None}
    rows[2] |= {REFLECTIONS: []}
    rows[3] |= {REFLECTIONS: [None, "no verdict"]}
    rows[5] |= {"answer": None}  # another question then: a null is not the text "None"
    summary, found = built(write(rows, tmp_path / "raw.parquet"), tmp_path / "out")
    reasons = [reason for _, reason in spoil]
    assert summary.funnels[0].dropped == {reason: reasons.count(reason) for reason in reasons}
    assert summary.funnels[0].requested == len(rows)
    assert found
    assert "None" not in {row["gold"] for row in found}
    drops = pq.read_table(tmp_path / "out" / "drops").to_pylist()
    assert {(tmp_path / "raw.parquet").as_posix() + f":{4 * k}" for k in range(len(spoil))} <= {
        drop["subject_id"] for drop in drops
    }


def test_equal_question_texts_with_other_golds_are_other_questions(tmp_path: Path) -> None:
    first, second = raw_rows(1), [row | {"answer": "other"} for row in raw_rows(1)]
    summary, _ = built(write(first + second, tmp_path / "raw.parquet"), tmp_path / "out")
    assert summary.questions == 2


def test_a_missing_column_names_the_columns_found_and_can_be_mapped(tmp_path: Path) -> None:
    rows = [{"q" if key == "question" else key: value for key, value in row.items()} for row in raw_rows(3)]
    source = write(rows, tmp_path / "raw.parquet")
    with pytest.raises(
        InputError, match=r"raw.parquet: no column 'question'; the file has: q, answer, prompt_variant, .*--columns"
    ):
        built(source, tmp_path / "out")
    assert built(source, tmp_path / "out", columns={"question": "q"})[1]
    with pytest.raises(InputError, match="unknown column role 'querry'"):
        built(source, tmp_path / "out2", columns={"querry": "q"})


def test_a_column_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    source = write([row | {PREFIX: 3} for row in raw_rows(2)], tmp_path / "raw.parquet")
    with pytest.raises(InputError, match=rf"raw.parquet, column '{PREFIX}': expected strings or lists of strings, not int64"):
        built(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing", None, "no such file or folder, and it is no Hub id"),
        ("empty/", None, "holds no .parquet or .jsonl file"),
        ("a.parquet", b"junk", "not a readable Parquet file"),
        ("a.csv", b"a,b", r"expected a file that ends in .parquet or .jsonl"),
    ],
)
def test_inputs_that_can_not_be_read_say_so(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        built(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    source = write(raw_rows(4), tmp_path / "raw.parquet")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match=r"not empty, and no build\.json"):
        built(source, tmp_path / "mine")
    built(source, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(InputError, match=r"holds a build with other settings \(seed\)"):
        built(source, tmp_path / "out", seed=5)
    assert files(tmp_path / "out") == before
    built(source, tmp_path / "out", seed=5, overwrite=True)
    assert files(tmp_path / "out") != before


def test_a_limit_keeps_traces_drawn_at_random_and_counts_the_others(tmp_path: Path) -> None:
    for k in range(3):
        write(raw_rows(10, seed=k), tmp_path / "raw" / f"{k}.parquet")
    _, every = built(tmp_path / "raw", tmp_path / "all")
    summary, some = built(tmp_path / "raw", tmp_path / "some", limit=17)
    assert len(some) == 17
    assert all(row in every for row in some)
    assert summary.traces == {"*C_full": 17}
    assert summary.funnels[1].dropped["over_limit"] == len(every) - 17
    gone = pq.read_table(tmp_path / "some" / "drops").to_pylist()
    assert {row["trace_id"] for row in every} - {row["trace_id"] for row in some} <= {drop["subject_id"] for drop in gone}
    assert len(built(tmp_path / "raw", tmp_path / "more", limit=10_000)[1]) == len(every)


def test_variants_can_be_chosen(tmp_path: Path) -> None:
    source = write(raw_rows(8), tmp_path / "raw.parquet")
    summary, rows = built(source, tmp_path / "out", variants=("original", "rephrase"))
    assert {attempt.split("/")[1] for row in rows for attempt in row["attempt_ids"]} == {"original", "rephrase"}
    assert summary.funnels[0].dropped == {"variant_not_chosen": 8 * 16}


def test_more_questions_never_change_earlier_traces(tmp_path: Path) -> None:
    _, few = built(write(raw_rows(5), tmp_path / "a.parquet"), tmp_path / "a", "paper")
    _, many = built(write(raw_rows(15), tmp_path / "b.parquet"), tmp_path / "b", "paper")
    assert all(row in many for row in few)


def test_settings_that_can_not_be_met_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_tokens needs a tokenizer"):
        BuildConfig(inputs=("x",), max_tokens=100)
    with pytest.raises(ConfigError, match="workers: expected a number above 0, not 0"):
        BuildConfig(inputs=("x",), workers=0)
    with pytest.raises(ConfigError, match="unknown layout"):
        built("x", tmp_path / "out", "*X")
    with pytest.raises(InputError, match="expected an input"):
        build(BuildConfig(output=tmp_path / "out"))
    with pytest.raises(ConfigError, match=r"seed: expected a number from 0 to 2\^63 - 1"):
        BuildConfig(inputs=("x",), seed=1 << 63)
    assert not (tmp_path / "out").exists()


def test_bytes_that_are_no_text_and_halves_of_surrogates_become_replacements(tmp_path: Path) -> None:
    rows = raw_rows(4)
    _, expected = built(write(rows, tmp_path / "a.parquet"), tmp_path / "a")
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(row).replace("Try 0", "Try \\ud83d") for row in rows))
    _, found = built(tmp_path / "b.jsonl", tmp_path / "b")
    assert [row["attempt_ids"] for row in found] == [row["attempt_ids"] for row in expected]
    bad = pa.array([row[PREFIX][0].encode().replace(b"Try 0", b"Try \xff") for row in rows]).view(pa.string())
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.set_column(table.column_names.index(PREFIX), PREFIX, bad), tmp_path / "c.parquet")
    _, found = built(tmp_path / "c.parquet", tmp_path / "c")
    assert [row["attempt_ids"] for row in found] == [row["attempt_ids"] for row in expected]
    assert any("Try \ufffd" in row["conversations"][1]["content"] for row in found)


def test_columns_of_json_lines_are_those_of_their_first_lines_together(tmp_path: Path) -> None:
    rows = raw_rows(4)
    _, expected = built(write(rows, tmp_path / "a.parquet"), tmp_path / "a")
    first = {key: value for key, value in rows[0].items() if key != REFLECTIONS}
    (tmp_path / "b.jsonl").write_text("\n".join(["{}", *map(json.dumps, [first, *rows[1:]])]))
    summary, found = built(tmp_path / "b.jsonl", tmp_path / "b")
    assert len(found) >= len(expected) - 2  # one attempt has lost its reflections
    assert summary.funnels[0].dropped == {"no_question": 1}


def test_a_layout_with_reflections_needs_their_column(tmp_path: Path) -> None:
    source = write([{k: v for k, v in row.items() if k != REFLECTIONS} for row in raw_rows(3)], tmp_path / "raw.parquet")
    with pytest.raises(InputError, match=f"no column '{REFLECTIONS}'"):
        built(source, tmp_path / "out")
    assert built(source, tmp_path / "plain", "no_reflection")[1]


def test_a_question_that_is_no_text_is_an_error_with_the_column(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "What?"}]
    source = write([row | {"question": chat} for row in raw_rows(2)], tmp_path / "raw.parquet")
    with pytest.raises(InputError, match=r"raw.parquet, column 'question': expected strings or lists of strings, not list<"):
        built(source, tmp_path / "out")


def test_lists_of_one_are_read_as_that_one_in_every_column(tmp_path: Path) -> None:
    rows = raw_rows(5)
    _, expected = built(write(rows, tmp_path / "a.parquet"), tmp_path / "a")
    wrapped = [row | {key: [row[key]] for key in ("question", "answer", "prompt_variant")} for row in rows]
    assert built(write(wrapped, tmp_path / "b.parquet"), tmp_path / "b")[1] == expected


def test_a_folder_with_two_kinds_of_data_is_not_guessed_at(tmp_path: Path) -> None:
    write(raw_rows(2), tmp_path / "raw" / "a.parquet")
    (tmp_path / "raw" / "b.jsonl").write_text("{}")
    with pytest.raises(InputError, match="holds both Parquet"):
        built(tmp_path / "raw", tmp_path / "out")


def test_a_variant_that_no_attempt_has_is_noted(tmp_path: Path) -> None:
    source = write(raw_rows(3), tmp_path / "raw.parquet")
    summary, _ = built(source, tmp_path / "out", variants=("original", "orignal"))
    assert summary.notes == ("no usable attempt is of the variant orignal",)


def test_every_layout_is_in_the_account_of_traces(tmp_path: Path) -> None:
    source = write(raw_rows(6), tmp_path / "raw.parquet")
    summary, _ = built(source, tmp_path / "out", "paper", "late = I{30} C -> answer")
    assert summary.traces["late"] == 0
    assert summary.dropped == {"late": 6}


def test_two_builds_do_not_share_a_directory(tmp_path: Path) -> None:
    from filelock import FileLock

    source = write(raw_rows(2), tmp_path / "raw.parquet")
    built(source, tmp_path / "out")
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(RunLockedError, match="another build is writing here"):
        built(source, tmp_path / "out")


class UnportableError(Exception):
    """An error that can be pickled but not taken out again."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


def failing(unit: int) -> int:
    if unit == 3:
        raise UnportableError("no ", "luck")
    return unit


def dying(unit: int) -> int:
    if multiprocessing.parent_process() is not None:
        os._exit(0)
    return unit


def test_an_error_in_a_worker_ends_the_work_whatever_it_is() -> None:
    with Processes(1, "json") as crew:
        with pytest.raises((UnportableError, RuntimeError), match="no luck"):
            list(crew.each(failing, 40))
        assert sorted(crew.each(abs, 40)) == list(range(40))  # the crew is as good as new
    for size in (1, 2):
        with Processes(size, "json") as crew, pytest.raises(RuntimeError, match="worker processes died"):
            list(crew.each(slow_dying, 4))


def slow_dying(unit: int) -> int:
    """A unit that kills the process that takes it; the first process waits for the others to come to that."""
    patience = time.monotonic() + 120
    while multiprocessing.parent_process() is None and multiprocessing.active_children() and time.monotonic() < patience:
        time.sleep(0.01)
    return dying(unit)
