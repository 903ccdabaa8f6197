"""Users' own files and checks."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from skillfactory.errors import ConfigError, InputError
from skillfactory.records import Check, Drop, Grade, Question
from skillfactory.tasks.custom import Custom

DATA = Path(__file__).parent / "data"
HERE = "tests.test_custom" if __name__.startswith("tests.") else "test_custom"
COLOURS = {"source": str(DATA / "custom.jsonl"), "question_column": "ask", "answer_column": "target", "train": ""}


def one_of(answer: str, gold: list[str], row: dict[str, Any]) -> bool:
    """A check such as users write."""
    return answer in gold and row["grade"] in ("easy", "hard")


def graded(answer: str, gold: Any, row: dict[str, Any]) -> Grade:
    return Grade(Check.RIGHT, f"as_long_as_{len(answer)}")


def naughty(answer: str, gold: Any, row: dict[str, Any]) -> Any:
    """A check with bugs: which one shows depends on the answer."""
    if answer == "loop":
        return pow(9, 9**9) > 0
    if answer == "sleep":
        time.sleep(60)
    if answer == "exit":
        os._exit(0)
    if answer == "none":
        return None
    raise RuntimeError("oh dear")


def read(task: Custom, level: str = "all") -> list[Question]:
    return [item for item in task.questions(None, level, 0, "eval") if isinstance(item, Question)]


def test_a_check_of_ones_own_sees_answer_gold_and_row() -> None:
    task = Custom(**COLOURS, grader=f"{HERE}:one_of")  # type: ignore[arg-type]
    flag, prime = read(task)
    assert task.check(flag, " red ") == Grade(Check.RIGHT, "own_check")
    assert task.check(flag, "blue") == Grade(Check.WRONG, "own_check")
    assert task.check(prime, "3").check is Check.RIGHT
    assert task.check(prime, "") == Grade(Check.MISSING, "empty")
    grading = Custom(**COLOURS, grader=f"{HERE}:graded")  # type: ignore[arg-type]
    assert grading.check(flag, "four") == Grade(Check.RIGHT, "as_long_as_4")


def test_a_check_that_misbehaves_leaves_the_answer_undecided() -> None:
    task = Custom(**COLOURS, grader=f"{HERE}:naughty", timeout=0.2)  # type: ignore[arg-type]
    question = read(task)[0]
    found = {answer: task.check(question, answer) for answer in ("loop", "sleep", "exit", "other")}
    assert {grade.check for grade in found.values()} == {Check.UNDECIDED}
    reasons = {answer: grade.reason for answer, grade in found.items()}
    assert reasons == {"loop": "timeout", "sleep": "timeout", "exit": "worker_died", "other": "raised_RuntimeError"}
    with pytest.raises(ConfigError, match="naughty must give back a bool or a Grade, not NoneType"):
        task.check(question, "none")


@pytest.mark.parametrize(
    ("grader", "gold", "right", "wrong"),
    [
        ("exact", "Rome", " Rome\n", "rome"),
        ("number", "1,000", "1000.0", "1000 lire"),
        ("choice", "b", "(B)", "B and C"),
        ("math", "\\frac{1}{2}", "0.5", "0.49"),
    ],
)
def test_the_graders_that_are_built_in(grader: str, gold: str, right: str, wrong: str) -> None:
    task = Custom(source="unused", grader=grader)
    question = task.question({"answer": gold, "question": "What?"})
    assert task.check(question, right).check is Check.RIGHT
    assert task.check(question, wrong).check is Check.WRONG


def test_levels_come_from_a_column() -> None:
    task = Custom(**COLOURS, level_column="grade", level_names=("easy", "hard"))  # type: ignore[arg-type]
    assert task.levels == ("all", "easy", "hard")
    assert [q.level for q in read(task)] == ["easy", "hard"]
    assert [q.facts["question"] for q in read(task, "hard")] == ["Name a prime below four."]
    partly = Custom(**COLOURS, level_column="grade", level_names=("easy",))  # type: ignore[arg-type]
    dropped = [item for item in partly.questions(None, "all", 0, "eval") if isinstance(item, Drop)]
    assert [(drop.reason, drop.detail) for drop in dropped] == [("bad_level", "hard")]


def test_a_row_without_the_level_column_is_a_drop(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a", "answer": "b", "hard": "yes"}\n{"question": "c", "answer": "d"}\n')
    task = Custom(source=str(path), train="", level_column="hard", level_names=("yes",))
    question, drop = task.questions(None, "all", 0, "eval")
    assert isinstance(question, Question)
    assert isinstance(drop, Drop)
    assert (drop.reason, drop.detail) == ("bad_level", "no hard")


def test_a_file_without_a_test_split_is_dealt_to_all_three(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f'{{"question": "Say {i}.", "answer": {i}}}\n' for i in range(100)))
    task = Custom(source=str(path))
    parts = [
        {q.answer for q in task.questions(None, "all", 0, split) if isinstance(q, Question)} for split in ("sft", "rl", "eval")
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 100
    assert [len(part) > 10 for part in parts] == [True] * 3


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=r"no column 'question'; the columns are: key, ask, target, grade"):
        read(Custom(source=str(DATA / "custom.jsonl"), train=""))
    with pytest.raises(ConfigError, match="'grader' is one of exact, number, choice, math or module:function, not 'exactly'"):
        Custom(source="x", grader="exactly")
    with pytest.raises(ConfigError, match="'level_column' and 'level_names' go together"):
        Custom(source="x", level_column="grade")
    absent = Custom(**COLOURS, grader=f"{HERE}:no_such_check")  # type: ignore[arg-type]
    question = read(absent)[0]
    with pytest.raises(ConfigError, match=r"can't be started: AttributeError: .*no_such_check"):
        absent.check(question, "x")
    with pytest.raises(InputError, match="bad_gold in the str 'many': not a number"):
        Custom(source="x", grader="number").question({"answer": "many"})
