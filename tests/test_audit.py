"""The audit counts what traces hold and finds what is wrong with them."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from silver import attempt, row, simple, write

from skillfactory.audit import OTHER, Audit, AuditConfig, audit, count_bounded
from skillfactory.audit.claims import ClaimLedger
from skillfactory.audit.table import table
from skillfactory.errors import ConfigError, InputError
from skillfactory.stats import share
from skillfactory.traces import Row

WRONG, RIGHT = attempt("original/0", "I try 5 - 2 = 3.", False), attempt("rephrase/3", "Now 5 + 2 = 7.", True)
SOUND = row("t1", [(WRONG, "It is 5 - 2 = 3, not 7."), (RIGHT, "Indeed 5 + 2 = 7.")], tokens=90)


def look(directory: Path, rows: list[Row], **options: object) -> Audit:
    """The audit of a new directory with these rows."""
    return audit(AuditConfig(write(directory / "made", rows, **options), top=3))  # type: ignore[arg-type]


def test_a_sound_trace_has_no_fault_and_all_its_parts_are_counted(tmp_path: Path) -> None:
    found = look(tmp_path, [SOUND])
    assert (found.traces, found.questions, found.faults.broken) == (1, 1, share(0, 1))
    layout = found.layouts["*C_full"]
    assert (layout.attempts, layout.patterns) == ({"2": 1}, {"WR": 1})
    assert layout.characters is not None
    assert layout.tokens is not None
    assert (layout.characters.max, layout.tokens.max) == (len(SOUND.text), 90)
    assert found.variants == {"original": 1, "rephrase": 1}
    assert found.phrases["glue"].top == {"Once more.": 1}
    assert found.phrases["closing"].top == {"So here it is.": 1}
    assert found.contamination is None


def test_what_is_printed_and_stored_is_what_was_found(tmp_path: Path) -> None:
    found = look(tmp_path, [SOUND])
    stored = json.loads((tmp_path / "made" / "audit.json").read_text("utf-8"))
    assert stored == json.loads(json.dumps(found.to_dict()))
    text = "\n".join(table(found))
    assert "1 traces of 1 questions" in text
    assert "patterns: WR 1" in text
    assert "broken traces: 0.0% (0 of 1; 95 % interval 0.0-79.3 %)" in text
    assert "contamination: not looked for" in text


def test_the_traces_with_the_most_attempts_are_shown_on_demand_and_stored_nowhere(tmp_path: Path) -> None:
    short = row("t0", [(RIGHT, "Yes.")])
    made = write(tmp_path / "made", [short, with_text(SOUND, "Once more.", "\x1b[2Jonce."), short])
    text = "\n".join(table(audit(AuditConfig(made, show=1))))
    prompt, answer = SOUND.trace.prompt, SOUND.text.replace("Once more.", " [2Jonce.")
    assert text.endswith(f"\n\ntrace t1\n\n{prompt}\n\n{answer}")
    assert "trace t0" not in text
    assert "trace t1" not in "\n".join(table(audit(AuditConfig(made))))
    assert "shown" not in json.loads((made / "audit.json").read_text("utf-8"))


def test_the_same_traces_give_the_same_bytes_however_they_are_cut_into_parts(tmp_path: Path) -> None:
    stored = []
    for parts in (1, 3):
        directory = write(tmp_path / str(parts) / "made", simple(9), parts)
        stored.append(replace(audit(AuditConfig(directory)), directory=""))
    assert stored[0] == stored[1]


def test_arithmetic_is_counted_by_what_the_text_is(tmp_path: Path) -> None:
    lucky = attempt("original/1", "First 5 + 1 = 7, then 5 + 2 = 7.", True)
    silent = attempt("original/2", "It is obvious.", True)
    failed = attempt("original/4", "Here 5 * 2 = 11.", False)
    rows = [
        row("a", [(failed, "Well, 5 * 2 = 12."), (lucky, "First 5 + 1 = 7, which is wrong.")]),
        row("b", [(silent, "Good.")]),
    ]
    found = look(tmp_path, rows).arithmetic
    right = found["right attempts"]
    assert (right.texts, right.claims, right.wrong_claims) == (2, 2, 1)
    assert (right.with_wrong, right.with_wrong_of_checkable) == (share(1, 2), share(1, 1))
    assert right.without_claims == share(1, 2)
    assert found["wrong attempts"].with_wrong == share(1, 1)
    reviewed = found["reflections, verdict right"]
    assert (reviewed.with_wrong, reviewed.with_disputed, reviewed.without_claims) == (share(1, 3), share(1, 3), share(1, 3))


def test_a_verdict_that_misses_the_truth_is_told_apart(tmp_path: Path) -> None:
    found = look(tmp_path, [row("a", [(RIGHT, "No.")], says="Incorrect"), row("b", [(RIGHT, "Hm.")], says="Perhaps")])
    assert {group: claims.texts for group, claims in found.arithmetic.items()} == {
        "right attempts": 1,
        "reflections, verdict wrong": 1,
        "reflections, no verdict": 1,
    }


def test_a_text_counts_once_however_many_traces_show_it() -> None:
    ledger = ClaimLedger()
    for _ in range(5):
        ledger.add("1 + 1 = 3", "right attempts")
    ledger.add("1 + 1 = 3", "wrong attempts")
    assert {group: found.with_wrong for group, found in ledger.result().items()} == {
        "right attempts": share(1, 1),
        "wrong attempts": share(1, 1),
    }


def with_text(made: Row, old: str, new: str) -> Row:
    """The row with a part of its text changed, its segments not."""
    assert old in made.text
    return replace(made, text=made.text.replace(old, new))


FAULTS = {
    "ends_wrong": row("t", [(RIGHT, "Yes."), (WRONG, "No.")]),
    "unclosed_think": with_text(SOUND, "</think>", ""),
    "second_answer": with_text(SOUND, "So here it is.", "<answer>8</answer>"),
    "no_answer": with_text(SOUND, "\n<answer>\n5 + 2\n</answer>", ""),
    "answer_differs": with_text(SOUND, "<answer>\n5 + 2\n", "<answer>\n5 * 2\n"),
    "stray_tag": with_text(SOUND, "Once more.", "Once</sample>."),
    "parts_differ": replace(SOUND, segments=SOUND.segments[:-1]),
    "attempts_differ": replace(SOUND, trace=replace(SOUND.trace, steps=SOUND.trace.steps[:1])),
    "no_attempt": replace(SOUND, segments=[s for s in SOUND.segments if s.kind != "attempt"]),
    "turns": replace(SOUND, text=""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_trace_is_counted_by_its_fault_and_named(fault: str, tmp_path: Path) -> None:
    found = look(tmp_path, [SOUND, FAULTS[fault]])
    assert found.faults.broken == share(1, 2)
    assert fault in found.faults.reasons
    assert found.faults.examples[fault] == [FAULTS[fault].trace.id]
    assert f"{fault}: 1, e.g. {FAULTS[fault].trace.id}" in "\n".join(table(found))


@pytest.mark.parametrize(("layout", "broken"), [("random", 0), ("free = A -> last", 0), ("free = A* C -> answer", 1)])
def test_only_a_layout_that_promises_a_right_end_is_held_to_it(layout: str, broken: int, tmp_path: Path) -> None:
    made = row("t", [(WRONG, "No.")], layout=layout.partition(" = ")[0])
    found = look(tmp_path, [made], layouts=[layout])
    assert found.faults.broken == share(broken, 1)


def test_what_stands_twice_is_found(tmp_path: Path) -> None:
    twin = replace(RIGHT, id="q1/rephrase/4")
    other = attempt("original/0", "Now 5 + 2 = 7.", True, question="q2")
    rows = [SOUND, SOUND, row("t2", [(RIGHT, "Yes."), (twin, "Yes.")]), row("t3", [(other, "Yes.")])]
    found = look(tmp_path, rows).duplicates
    assert (found.equal_traces, found.attempts, found.attempts_in_several_traces) == (1, 4, 2)
    assert (found.traces_that_repeat_a_text, found.questions_with_equal_text) == (1, 2)


def test_an_attempt_that_a_backtracking_trace_shows_again_is_no_repeat(tmp_path: Path) -> None:
    made = row("t", [(RIGHT, "Yes."), (WRONG, "No."), (RIGHT, None)], layout="*C*IC")
    found = look(tmp_path, [made], layouts=["*C*IC"])
    assert found.faults.broken == share(0, 1)
    assert (found.duplicates.traces_that_repeat_a_text, found.duplicates.attempts_in_several_traces) == (0, 0)


def test_phrases_without_end_are_counted_in_bounded_memory() -> None:
    seen: Counter[str] = Counter()
    for i in range(50):
        count_bounded(seen, f"phrase {i}", most=10)
    count_bounded(seen, "phrase 3", most=10)
    assert len(seen) == 11
    assert (seen[OTHER], seen["phrase 3"]) == (40, 2)


def test_a_directory_without_traces_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no traces here; expected traces/\*\.parquet"):
        audit(AuditConfig(tmp_path))


def test_a_build_that_did_not_end_is_refused_and_one_without_traces_says_where_the_reasons_are(tmp_path: Path) -> None:
    made = write(tmp_path / "made", [SOUND])
    (made / "build.json").write_text('{"command": "build", "settings": {}, "finished": false}')
    with pytest.raises(InputError, match=r"made: the build was stopped before its end; run the same build again"):
        audit(AuditConfig(made))
    shutil.rmtree(made / "traces")
    (made / "build.json").write_text('{"command": "build", "settings": {}, "finished": true}')
    with pytest.raises(InputError, match=r"made: the build made no trace: see .*made/drops"):
        audit(AuditConfig(made))


def test_a_missing_column_names_those_found(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    pq.write_table(pa.table({"trace_id": ["a"], "text": ["b"]}), tmp_path / "traces" / "part-00000.parquet")
    with pytest.raises(InputError, match=r"question_id, layout, .* are missing; found: trace_id, text"):
        audit(AuditConfig(tmp_path))


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "part-00000.parquet").write_text("no")
    with pytest.raises(InputError, match=r"part-00000\.parquet: can't be read as Parquet"):
        audit(AuditConfig(tmp_path))


def test_a_negative_number_of_examples_is_refused() -> None:
    with pytest.raises(ConfigError, match="examples: expected 0 or more, came -1"):
        AuditConfig(Path(), examples=-1)


def test_a_terminal_is_safe_from_what_phrases_hold(tmp_path: Path) -> None:
    made = with_text(SOUND, "Once more.", "\x1b[2Jonce.")
    assert "\x1b" not in "\n".join(table(look(tmp_path, [made])))
