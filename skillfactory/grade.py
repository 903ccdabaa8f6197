"""Verifying in bulk: rows of facts or gold answers and of model texts in, the same rows with their grades out."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError
from skillfactory.markup import final_answer
from skillfactory.places import is_remote, place
from skillfactory.progress import Progress, Silent
from skillfactory.records import Check, Grade, Question
from skillfactory.rows import Batch, Row, appending, columns_of, count_rows, parsed_json, read_batches
from skillfactory.tasks import resolve
from skillfactory.tasks.base import Task

ASKED = ("facts", "answer")  # one of them says what the question is; facts come first
GIVEN = ("candidate", "response")  # one of them says what the model gave; the candidate comes first
COLUMNS = (*ASKED, *GIVEN, "question")  # what is read of a row
ADDED = ("extracted", "check", "reason")
BAD_ROW = "bad_row"
EXAMPLES = 5  # bad rows that the summary quotes


@dataclass(frozen=True, slots=True)
class Summary:
    """How many rows were graded, and what came of them. Bad rows are among the undecided, all under one reason."""

    rows: int
    checks: Mapping[str, int]  # every check, also at 0
    reasons: Mapping[str, int]  # most frequent first
    bad_rows: Sequence[str]  # the first few, with their number (from 1, blank lines left out)


Rows = list[Row | str]
Spread = Callable[[Callable[[Rows], list[Row]], Iterable[Rows]], Iterable[list[Row]]]
"""What `map` is: someone who does work on batches, and gives back what comes of it in their order."""


def grade_file(
    path: str | Path, task: str | Task, output: str | Path, progress: Progress | None = None, spread: Spread = map
) -> Summary:
    """Grades every row of `path` into `output` (JSONL or Parquet, by their names) and says what came of it.

    `task` is a task or the name of one without options; `spread` does the grading, here or elsewhere (`cluster.crew`).

    A row holds `facts` (an object, or one as JSON text) or a gold `answer` (with its `question`, if there is one), and
    `candidate` (a bare answer) or `response` (a whole text, of which the final answer counts). Out come all its columns and
    `extracted`, `check` and `reason`. A row that can't be graded is undecided, its reason begins with "bad_row: ", and the
    run goes on. InputError if the file can't be read, is empty, or lacks a column. Memory doesn't grow with the rows.
    """
    path, output = (place(file) if isinstance(file, str) else file for file in (path, output))
    task = resolve(task) if isinstance(task, str) else task
    total = count_rows(path)
    if output == path or (not is_remote(output) and not is_remote(path) and output.exists() and output.samefile(path)):
        raise InputError(f"the output would overwrite the input {path}; give it another name")
    progress = progress or Silent()
    tally = _Tally()
    progress.begin("grade", "rows", total)
    try:
        with appending(path, output, ADDED, texts=COLUMNS) as write:
            waiting: deque[Batch] = deque()
            for graded in spread(partial(_all_graded, task), _asked(path, waiting)):
                batch = waiting.popleft()
                tally.add(graded)
                write(batch, graded)
                progress.advance(len(graded))
            if tally.rows == 0:
                raise InputError(f"{path} has no rows")
    finally:
        progress.end()
    return Summary(tally.rows, dict(tally.checks), dict(tally.reasons.most_common()), tuple(tally.bad_rows))


def _asked(path: Path, waiting: deque[Batch]) -> Iterator[Rows]:
    """What is to be graded of each batch; the whole ones are put into `waiting`."""
    for number, batch in enumerate(read_batches(path, COLUMNS)):
        if number == 0:
            _check_columns(path, columns_of(batch))
        waiting.append(batch)
        yield [row if isinstance(row, str) else {name: row[name] for name in COLUMNS if name in row} for row in batch.rows]


def _all_graded(task: Task, rows: Rows) -> list[Row]:
    return [_graded(task, row) for row in rows]


class _Tally:
    """A summary in the making."""

    def __init__(self) -> None:
        self.rows = 0
        self.checks: Counter[str] = Counter({check.value: 0 for check in Check})
        self.reasons: Counter[str] = Counter()
        self.bad_rows: list[str] = []

    def add(self, graded: Sequence[Row]) -> None:
        for row in graded:
            self.rows += 1
            self.checks[row["check"]] += 1
            code, _, detail = row["reason"].partition(": ")  # only bad rows have details; counted one by one they'd fill memory
            self.reasons[code] += 1
            if code == BAD_ROW and len(self.bad_rows) < EXAMPLES:
                self.bad_rows.append(f"row {self.rows}: {detail}")


def _check_columns(path: Path, found: Sequence[str]) -> None:
    """InputError if the first rows together lack what is needed; a single row that does is a bad row."""
    for names, what in ((ASKED, "the question"), (GIVEN, "the model's answer")):
        if not set(names) & set(found):
            raise InputError(
                f"{path} has no column for {what}: expected '{names[0]}' or '{names[1]}', "
                f"found {', '.join(found) or 'none'}; rename the column"
            )


def _graded(task: Task, row: Row | str) -> dict[str, Any]:
    """The columns that are added to a row."""
    try:
        if isinstance(row, str):
            raise InputError(row)
        question, extracted = _question(task, row), None
        given = next((name for name in GIVEN if row.get(name) is not None), None)
        if given is None:
            raise InputError(f"it has no {' and no '.join(GIVEN)}")
        if not isinstance(row[given], str):
            raise InputError(f"'{given}' must be text, not {type(row[given]).__name__}")
        extracted, reason = final_answer(row[given]) if given == "response" else (row[given], "")
    except InputError as error:
        return {"extracted": None, "check": Check.UNDECIDED.value, "reason": f"{BAD_ROW}: {error}"}
    grade = Grade(Check.MISSING, reason) if extracted is None else task.check(question, extracted)
    return {"extracted": extracted, "check": grade.check.value, "reason": grade.reason}


def _question(task: Task, row: Row) -> Question:
    """The question that a row is about."""
    facts = row.get("facts")
    if facts is None:
        if row.get("answer") is None:
            raise InputError(f"it has no {' and no '.join(ASKED)}")
        return task.question({name: row[name] for name in ("answer", "question") if row.get(name) is not None})
    if isinstance(facts, str):
        try:
            facts = parsed_json(facts)
        except (ValueError, RecursionError) as error:
            raise InputError(f"'facts' is text that isn't JSON ({error})") from error
    if not isinstance(facts, Mapping):
        raise InputError(f"'facts' must be an object, or one as JSON text, not {type(facts).__name__}")
    return task.question(
        {name: value for name, value in facts.items() if value is not None}
    )  # a struct has nulls for absent ones
