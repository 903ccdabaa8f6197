"""Questions of an evaluation are found among those of the traces, whatever their form."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from silver import attempt, row, write

from skillfactory.audit import AuditConfig, audit
from skillfactory.audit.contamination import Contamination, Evaluation, Search, canonical_form, unordered, words
from skillfactory.audit.table import table
from skillfactory.errors import ConfigError, InputError
from skillfactory.stats import share

PROMPT = "Make 24 from the numbers 8, 3, and 5."
Rows = Sequence[Mapping[str, Any]]
FACTS = {"numbers": [8, 3, 5], "target": 24}


def jsonl(path: Path, rows: Rows) -> Path:
    """`path`, which then holds the rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def search(folder: Path, rows: Rows, prompt: str = PROMPT, sources: tuple[Path, ...] = ()) -> Contamination:
    """What is found of a question with this prompt and of an unlike one among the evaluation rows."""
    other = attempt("original/0", "Hm.", True, "q2")
    mine = row("t", [(attempt("original/0", "So.", True), "Yes.")], prompt=prompt)
    traces = write(folder / "made", [mine, row("u", [(other, "Yes.")], prompt="Spell a word backwards.")])
    config = AuditConfig(traces, (jsonl(folder / "eval.jsonl", rows),), questions=sources)
    found = audit(config).contamination
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("key", "question"),
    [
        ("text", PROMPT),
        ("text", "make 24  from the numbers: 8; 3; and 5"),
        ("order", "Make 24 from the numbers 5, 8, 3."),
        ("", "Make 25 from the numbers 8, 3, and 5."),
        ("", "Make 24 from the numbers 8, 3, and 6."),
    ],
)
def test_a_question_is_found_by_its_words(key: str, question: str, tmp_path: Path) -> None:
    found = search(tmp_path, [{"question": question}])
    assert found.questions == share(1 if key else 0, 2)
    assert found.by_key == {"text": 0, "part": 0, "order": 0, "canonical": 0} | ({key: 1} if key else {})
    assert (found.examples, found.traces) == ((["q1"], 1) if key else ([], 0))


def test_a_question_is_found_between_instructions(tmp_path: Path) -> None:
    prompt = f"Solve the puzzle below, please.\n\n{PROMPT}\nThink first."
    assert search(tmp_path, [{"question": f"{PROMPT}\nThink first."}], prompt).by_key["part"] == 1


def test_a_prompt_may_be_a_list_of_messages(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    assert search(tmp_path, [{"prompt": turns}]).by_key["text"] == 1


def test_equal_facts_are_found_in_any_wording(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "source.jsonl", [{"id": "q1", "task": "countdown", "facts": FACTS}])
    rows = [{"question": "Reach 24 with 3, 5 and 8!", "task": "countdown", "facts": {"numbers": [3, 8, 5], "target": 24}}]
    assert search(tmp_path, rows, sources=(source,)).by_key["canonical"] == 1


def test_facts_may_be_json_text_and_a_run_is_read_from_its_questions(tmp_path: Path) -> None:
    (tmp_path / "run" / "questions").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    facts = pa.table({"id": ["q1"], "task": ["countdown"], "facts": [json.dumps(FACTS)]})
    pq.write_table(facts, tmp_path / "run" / "questions" / "part-00000.parquet")
    rows = [{"question": "Reach 24 with these.", "task": "countdown", "facts": json.dumps(FACTS)}]
    assert search(tmp_path, rows, sources=(tmp_path / "run",)).by_key["canonical"] == 1


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    rows: Rows = [
        {"question": "One."},
        {"answer": "no question"},
        {"question": "Two.", "task": "countdown", "facts": {"numbers": "many"}},
        {"question": "Three.", "task": "os:system", "facts": {"command": "true"}},
    ]
    found = search(tmp_path, rows)
    assert found.evaluation_rows == 4
    assert found.skipped == {"no_question": 1, "unusable_facts": 1, "foreign_task": 1}


def test_a_task_named_in_data_is_never_imported() -> None:
    assert canonical_form({"task": "tests.never_imported:Task", "facts": FACTS}) == ("", "foreign_task")


def test_the_report_names_questions_found(tmp_path: Path) -> None:
    mine = row("t", [(attempt("original/0", "So.", True), "Yes.")], prompt=PROMPT)
    config = AuditConfig(write(tmp_path / "made", [mine]), (jsonl(tmp_path / "e.jsonl", [{"question": PROMPT}, {}]),))
    text = "\n".join(table(audit(config)))
    assert (
        "among 2 evaluation rows: 100.0% (1 of 1; 95 % interval 20.7-100.0 %); 1 traces\n  found by text 1\n  e.g. q1" in text
    )
    assert "1 (no_question)" in text


@pytest.mark.parametrize(
    ("rows", "message"),
    [([{"text": "x"}], "no row holds a question; expected a column `question` or `prompt`"), ([], "no row holds a question")],
)
def test_an_evaluation_without_questions_is_refused(rows: Rows, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        search(tmp_path, rows)


def test_a_folder_without_questions_is_refused(tmp_path: Path) -> None:
    made = write(tmp_path / "made", [row("t", [(attempt("original/0", "So.", True), "Yes.")])])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no questions here; expected \.jsonl or \.parquet files"):
        audit(AuditConfig(made, (tmp_path / "empty",)))


def test_an_evaluation_or_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    there = jsonl(tmp_path / "eval.jsonl", [{"question": "What is it?"}])
    for against, source in ((tmp_path / "none", there), (there, tmp_path / "none")):
        with pytest.raises(InputError, match=r"none: no such file or folder$"):
            Search([against], [source], 3)
    with pytest.raises(ConfigError, match=r"questions: serves the search .*; name these with --against"):
        AuditConfig(tmp_path, questions=(tmp_path / "none",))


def test_normal_forms_ignore_what_they_should_and_nothing_else() -> None:
    assert words("  It's ＡＢＣ,\n1.5 % ") == "it s abc 1 5"
    assert unordered("use 10, 9 and 2 for T, A, C: 3") == "use 10 2 9 for a c t 3"
    assert unordered("a word and I") == "a word and i"
    assert unordered("target 24 from 8, 3") != unordered("target 8 from 24, 3")


def test_a_list_of_any_length_takes_linear_time() -> None:
    evaluation = Evaluation()
    evaluation.add({"question": "1, " * 200_000})
    assert evaluation.match("1 " * 200_000) == "text"
