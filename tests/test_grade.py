import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skillfactory.errors import InputError
from skillfactory.grade import grade_file
from skillfactory.tasks import resolve

TASK = resolve("countdown")
FACTS = {"numbers": [3, 5, 7], "target": 56}
RIGHT, WRONG = "(3 + 5) * 7", "3 + 5 * 7"

Row = dict[str, Any]


def write(path: Path, rows: list[Row]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[Row]:
    if path.suffix == ".parquet":
        rows: list[Row] = pq.read_table(path).to_pylist()
        return rows
    return [json.loads(line) for line in path.read_text().splitlines()]


ROWS: list[Row] = [
    {"facts": FACTS, "response": f"<answer>{WRONG}</answer> no: <answer>{RIGHT}</answer>", "note": "eins", "n": 1},
    {"facts": FACTS, "response": f"<answer>{RIGHT}</answer> no: <answer>{WRONG}</answer>", "note": "zwei ÷", "n": 2},
    {"facts": FACTS, "response": RIGHT, "note": None, "n": 3},
    {"facts": FACTS, "response": f"<think><answer>{RIGHT}</answer>", "note": "vier", "n": 4},
]
FOUND = [
    (RIGHT, "right", "equal"),
    (WRONG, "wrong", "wrong_value"),
    (None, "missing", "no_answer"),
    (None, "missing", "unclosed_think"),
]


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
def test_rows_come_out_whole_and_graded_in_every_format(tmp_path: Path, source: str, target: str) -> None:
    summary = grade_file(write(tmp_path / source, ROWS), TASK, tmp_path / "new" / target)
    out = read(tmp_path / "new" / target)
    if (source, target) == ("in.jsonl", "out.parquet"):
        out = [{**row, "facts": json.loads(row["facts"])} for row in out]
    assert [(row.pop("extracted"), row.pop("check"), row.pop("reason")) for row in out] == FOUND
    assert out == ROWS
    assert summary.rows == 4
    assert summary.checks == {"right": 1, "wrong": 1, "missing": 2, "undecided": 0}
    assert summary.reasons == {"equal": 1, "wrong_value": 1, "no_answer": 1, "unclosed_think": 1}
    assert summary.bad_rows == ()


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
def test_urls_are_read_and_written_like_paths(tmp_path: Path, source: str, target: str) -> None:
    path, folder = write(tmp_path / source, ROWS * 500), tmp_path / "elsewhere"
    grade_file(path, TASK, tmp_path / target)
    grade_file(f"file://{path}", TASK, f"file://{folder}/{target}")
    assert (folder / target).read_bytes() == (tmp_path / target).read_bytes()
    assert [entry.name for entry in folder.iterdir()] == [target]
    with pytest.raises(InputError, match=r"the output would overwrite the input file://.*; give it another name"):
        grade_file(f"file://{path}", TASK, f"file://{path}")
    with pytest.raises(InputError, match=r"can't read file://.*none.jsonl"):
        grade_file(f"file://{tmp_path}/none.jsonl", TASK, tmp_path / target)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_grading_again_replaces_the_grades(tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    grade_file(write(tmp_path / "in.jsonl", ROWS), TASK, first)
    grade_file(first, TASK, second)
    assert read(second) == read(first)


def test_a_candidate_is_graded_as_it_is_and_comes_before_a_response(tmp_path: Path) -> None:
    rows = [{"facts": FACTS, "candidate": RIGHT, "response": "nothing"}, {"facts": FACTS, "candidate": ""}]
    grade_file(write(tmp_path / "in.jsonl", rows), TASK, tmp_path / "out.jsonl")
    assert [(row["extracted"], row["reason"]) for row in read(tmp_path / "out.jsonl")] == [(RIGHT, "equal"), ("", "empty")]


def test_facts_may_be_json_text_and_a_struct_may_have_nulls(tmp_path: Path) -> None:
    rows: list[Row] = [{"facts": json.dumps(FACTS), "candidate": RIGHT}]
    assert grade_file(write(tmp_path / "in.parquet", rows), TASK, tmp_path / "out.jsonl").checks["right"] == 1
    rows = [
        {"facts": {**FACTS, "use_all": None}, "candidate": RIGHT},
        {"facts": {**FACTS, "use_all": True}, "candidate": RIGHT},
    ]
    assert grade_file(write(tmp_path / "in.parquet", rows), TASK, tmp_path / "out.jsonl").checks["right"] == 2


def test_a_bad_row_is_written_and_counted_with_its_reason_and_the_run_goes_on(tmp_path: Path) -> None:
    good = json.dumps({"facts": FACTS, "candidate": RIGHT, "n": 1})
    bad = {
        "{not json": "not JSON (",
        "[1, 2]": "not a JSON object but list",
        "[" * 100_000: "not JSON (",
        "9" * 5_000: "not JSON (",
        '{"n": "\\ud800"}': "it has no facts and no answer",
        json.dumps({"candidate": RIGHT}): "it has no facts and no answer",
        json.dumps({"facts": FACTS}): "it has no candidate and no response",
        json.dumps({"facts": FACTS, "candidate": 56}): "'candidate' must be text, not int",
        json.dumps({"facts": FACTS, "response": [RIGHT]}): "'response' must be text, not list",
        json.dumps({"facts": "{", "candidate": RIGHT}): "'facts' is text that isn't JSON (",
        json.dumps({"facts": [3, 5], "candidate": RIGHT}): "'facts' must be an object, or one as JSON text, not list",
        json.dumps({"facts": {"numbers": [3]}, "candidate": RIGHT}): "countdown: the fact 'target' is missing (found: numbers)",
        json.dumps({"facts": {**FACTS, "target": 1.5}, "candidate": RIGHT}): "countdown: 'target' must be a whole number",
        json.dumps({"answer": "56", "candidate": RIGHT}): "countdown: the fact 'numbers' is missing (found: answer)",
    }
    source = tmp_path / "in.jsonl"
    source.write_text("\n\n".join([good, *bad, good]) + "\n")
    for target in (tmp_path / "out.jsonl", tmp_path / "out.parquet"):
        summary = grade_file(source, TASK, target)
        out = read(target)
        assert [row["check"] for row in out] == ["right", *["undecided"] * len(bad), "right"]
        for row, reason in zip(out[1:-1], bad.values(), strict=True):
            assert row["reason"].startswith(f"bad_row: {reason}")
        assert summary.checks == {"right": 2, "wrong": 0, "missing": 0, "undecided": len(bad)}
        assert summary.reasons == {"bad_row": len(bad), "equal": 2}
        assert len(summary.bad_rows) == 5
        assert summary.bad_rows[1] == "row 3: not a JSON object but list"


def test_columns_whose_values_share_no_type_become_json_text_in_parquet(tmp_path: Path) -> None:
    base = {"facts": FACTS, "candidate": RIGHT}
    odd: list[Row] = [
        {
            "mixed": 1,
            "empty": {},
            "deep": [{"a": {}}],
            "nested": {"a": 1},
            "number": 1,
            "keys": {str(i): i for i in range(300)},
            "late": None,
        },
        {"mixed": "ä", "empty": {}, "deep": None, "nested": {"b": [2]}, "number": 2.5, "keys": None, "late": None},
    ]
    rows = [{**base, **odd[i % 2], "late": [1] if i == 1500 else None} for i in range(1501)]
    grade_file(write(tmp_path / "in.jsonl", rows), TASK, tmp_path / "out.parquet")
    out = read(tmp_path / "out.parquet")
    assert [row["mixed"] for row in out[:2]] == ["1", '"ä"']
    assert [row["empty"] for row in out[:2]] == ["{}", "{}"]
    assert [row["deep"] for row in out[:2]] == ['[{"a": {}}]', None]
    assert [row["nested"] for row in out[:2]] == [{"a": 1, "b": None}, {"a": None, "b": [2]}]
    assert [row["number"] for row in out[:2]] == [1.0, 2.5]
    assert (json.loads(out[0]["keys"])["299"], out[1]["keys"]) == (299, None)
    assert (out[0]["late"], out[1500]["late"]) == (None, [1])
    assert [row["check"] for row in out] == ["right"] * 1501


def test_odd_values_leave_the_other_rows_as_they_are_and_the_output_can_be_graded_again(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"facts": FACTS, "candidate": RIGHT},
        {"facts": json.dumps(FACTS), "candidate": RIGHT},
        {"facts": {**FACTS, "more": {"a": 1}}, "candidate": RIGHT},
        {"facts": FACTS, "candidate": [1]},
        {"facts": None, "candidate": None},
    ]
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    assert grade_file(write(tmp_path / "in.jsonl", rows), TASK, first).checks["right"] == 3
    assert [row["candidate"] for row in read(first)] == [RIGHT, RIGHT, RIGHT, "[1]", None]
    assert [json.loads(row["facts"] or "null") for row in read(first)] == [FACTS, FACTS, rows[2]["facts"], FACTS, None]
    assert grade_file(first, TASK, second).checks["right"] == 3
    assert [row["candidate"] for row in read(second)] == [row["candidate"] for row in read(first)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_text_that_is_not_unicode_is_a_bad_row_or_a_question_mark(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"facts": '{"answer": "4", "question": "\\ud83d What is 2+2?"}', "candidate": "4"},
        {"answer": "4", "question": "\udead?", "candidate": "4\udead"},
    ]
    summary = grade_file(write(tmp_path / "in.jsonl", rows), "gsm8k", tmp_path / f"numbers{suffix}")
    assert summary.reasons == {"equal": 1, "not_a_number": 1}
    assert [row["extracted"] for row in read(tmp_path / f"numbers{suffix}")] == ["4", "4?"]
    broken = pa.array([RIGHT.encode(), b"\xe9", RIGHT.encode()], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"candidate": broken, "facts": [json.dumps(FACTS)] * 3}), tmp_path / "in.parquet")
    summary = grade_file(tmp_path / "in.parquet", TASK, tmp_path / f"out{suffix}")
    assert summary.checks == {"right": 2, "wrong": 0, "missing": 0, "undecided": 1}
    assert summary.bad_rows[0].startswith("row 2: not UTF-8 (")


def test_paths_and_the_task_may_be_text(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    assert grade_file(str(source), "countdown", str(tmp_path / "out.jsonl")) == grade_file(source, TASK, tmp_path / "2.jsonl")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"facts": {}, "text": "a", "id": 1}], "expected 'candidate' or 'response', found facts, text, id; rename the column"),
        ([{"gold": "5", "candidate": "a"}], "no column for the question: expected 'facts' or 'answer', found gold, candidate"),
        ([], "has no rows"),
    ],
)
def test_a_file_without_the_columns_or_rows_is_refused_with_those_it_has(tmp_path: Path, rows: list[Row], message: str) -> None:
    with pytest.raises(InputError, match=message):
        grade_file(write(tmp_path / "in.jsonl", rows), TASK, tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_missing_column_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found facts, text; rename the column"):
        grade_file(write(tmp_path / "in.parquet", [{"facts": FACTS, "text": "a"}]), TASK, tmp_path / "out.jsonl")


def test_files_that_cannot_be_read_or_written_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    for path, output, message in (
        (tmp_path / "none.jsonl", tmp_path / "out.jsonl", "can't read .*none.jsonl"),
        (tmp_path / "broken.parquet", tmp_path / "out.jsonl", "can't read .*broken.parquet"),
        (tmp_path / "in.csv", tmp_path / "out.jsonl", r"the input must end in \.jsonl or \.parquet, not '\.csv'"),
        (source, tmp_path / "out.csv", r"the output must end in \.jsonl or \.parquet, not '\.csv'"),
        (source, source, "the output would overwrite the input"),
    ):
        with pytest.raises(InputError, match=message):
            grade_file(path, TASK, output)
    assert read(source) == ROWS


def test_a_bug_in_a_task_stops_the_run_and_leaves_the_old_output(tmp_path: Path) -> None:
    class Broken:
        def question(self, facts: Row) -> None:
            raise KeyError("a bug")

    output = tmp_path / "out.jsonl"
    output.write_text("old\n")
    with pytest.raises(KeyError, match="a bug"):
        grade_file(write(tmp_path / "in.jsonl", ROWS), Broken(), output)  # type: ignore[arg-type]
    assert output.read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_progress_reaches_the_number_of_rows_it_announced(tmp_path: Path) -> None:
    class Recorder:
        total: int | None = None
        done = 0
        ended = False

        def begin(self, label: str, unit: str, total: int | None = None) -> None:
            self.total = total

        def advance(self, n: int = 1, note: str = "") -> None:
            self.done += n

        def end(self) -> None:
            self.ended = True

    for source in ("in.jsonl", "in.parquet"):
        recorder = Recorder()
        grade_file(write(tmp_path / source, ROWS * 700), TASK, tmp_path / "out.jsonl", recorder)
        assert (recorder.total, recorder.done, recorder.ended) == (2800, 2800, True)


PEAK = """
import sys
from pathlib import Path
from skillfactory.grade import grade_file
from skillfactory.tasks import resolve
grade_file(Path(sys.argv[1]), resolve("countdown"), Path(sys.argv[2]))
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])  # ru_maxrss would begin at the parent's
"""


@pytest.mark.parametrize(("source", "target"), [("in.jsonl", "out.parquet"), ("in.parquet", "out.jsonl")])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, source: str, target: str) -> None:
    row = {"facts": FACTS, "response": "word " * 500 + f"<answer>{RIGHT}</answer>"}

    def peak(n: int) -> int:
        write(tmp_path / source, [{**row, "n": i} for i in range(n)])
        command = [sys.executable, "-c", PEAK, str(tmp_path / source), str(tmp_path / target)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) // 1024

    assert peak(24_000) - peak(8_000) < 20  # MiB; the rows themselves are 40 MiB more
