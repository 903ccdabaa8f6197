"""A few responses of each arm, to be read: the same questions for all arms, their attempts graded."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from skillfactory.gathering.scores import Judged, Row
from skillfactory.markup import final_answer, parse
from skillfactory.records import Check, Kind, Question, Stop
from skillfactory.report import Example
from skillfactory.suites import load_suite
from skillfactory.tasks import resolve

EACH = 2  # questions of each kind of group
_GRADED = 64  # attempts of a response


def examples(rows: Sequence[Row], suites: Mapping[str, str]) -> Iterator[Example]:
    """For each row, its responses to the first questions of the first group of each kind, in its first seed.

    `suites`: evaluation → the suite that it asks.
    """
    for row in rows:
        if row.seeds:
            seed, judged = next(iter(row.seeds.items()))
            yield from _examples(row, seed, judged, suites[row.evaluation])


def _examples(row: Row, seed: int, judged: Judged, suite: str) -> Iterator[Example]:
    kinds = {group["kind"]: group["name"] for group in reversed(judged.numbers["groups"])}
    for name in reversed(kinds.values()):
        wanted = list(judged.shares.get(name, {}))[:EACH]
        questions = {row["id"]: row for row in _rows(judged, "questions", name, "id", wanted)}
        group = next(group for group in load_suite(suite) if group.name == name)
        task = resolve(group.task, group.option)
        for response in _rows(judged, "responses", name, "question_id", wanted):
            about = questions.get(response["question_id"])
            if response["sample"] or about is None:
                continue
            fields = {key: about[key] for key in ("id", "task", "level", "prompt", "answer")}
            question = Question(**fields, facts=json.loads(about["facts"]))
            yield Example(
                row.name,
                question.prompt,
                question.answer,
                response["text"],
                right=_known(Check(response["check"])),
                attempts=tuple(_known(task.check(question, answer).check) for answer in _answers(response["text"])),
                group=name,
                seed=seed,
                tokens=response["tokens"],
                cut=response["stop"] == Stop.LENGTH,
            )


def _rows(judged: Judged, table: str, group: str, column: str, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a stored table of one group, of some questions."""
    filters = [("group", "=", group), (column, "in", wanted)]
    found: list[dict[str, Any]] = pq.read_table(judged.output / table, filters=filters).to_pylist() if wanted else []
    return found


def _answers(text: str) -> Iterator[str]:
    """The answer of each attempt block, "" where it has none."""
    blocks = [part for part in parse(text).parts if part.kind is Kind.ATTEMPT]
    for part in blocks[:_GRADED]:
        yield final_answer(text[part.start : part.end])[0] or ""


def _known(check: Check) -> bool | None:
    return None if check is Check.UNDECIDED else check is Check.RIGHT
