"""Which attempts of a text are right, as far as that is known without asking anybody."""

import json
from collections.abc import Iterator
from typing import Any

from skillfactory.errors import SkillFactoryError
from skillfactory.markup import final_answer, parse
from skillfactory.records import Check, Kind, Question
from skillfactory.tasks import TASKS, resolve
from skillfactory.tasks.base import Task
from skillfactory.view.tables import Item, Table

# Their verifiers are quick and pure. Others start processes or ask libraries, and a run that came from elsewhere may name any
# module as its task: a page must not import it.
_CHECKED = frozenset({"countdown", "letter_countdown", "acronym", "multiplication"}) & frozenset(TASKS)
_MOST = 64  # attempts of a text that are checked
RIGHT = {Check.RIGHT.value: True, Check.WRONG.value: False, Check.MISSING.value: False}


def marks(item: Item, text: str, question: Item | None) -> tuple[bool | None, ...]:
    """Whether each attempt of a trace or a response is right, in order; None where that isn't known.

    A trace says it itself. An answer that is the final one of the response is graded with it. Others are checked where the
    task's verifier is one of ours; for other tasks the gold answer, word for word, is right.
    """
    if item.table is Table.TRACE:
        return tuple(item.more.get("rights", ()))
    known: dict[str, bool | None] = {}
    if question is not None and question.answer and question.facets["task"] not in _CHECKED:
        known[question.answer.strip()] = True
    if item.answer:
        known[item.answer.strip()] = RIGHT.get(item.facets["check"])
    found = list(_answers(text, tuple(item.more.get("skills", ()))))
    return tuple(_mark(answer, known, question) for answer in found[:_MOST]) + (None,) * max(0, len(found) - _MOST)


def _answers(text: str, skills: tuple[str, ...]) -> Iterator[str]:
    """The answer of each attempt block, "" where it has none."""
    for part in parse(text, skills).parts:
        if part.kind is Kind.ATTEMPT:
            yield final_answer(text[part.start : part.end])[0] or ""


def _mark(answer: str, known: dict[str, bool | None], question: Item | None) -> bool | None:
    """Whether an answer is right; where there is none, nothing was checked."""
    if not answer:
        return None
    if answer not in known:
        known[answer] = _checked(answer, question)
    return known[answer]


def _checked(answer: str, item: Item | None) -> bool | None:
    if item is None or item.facets["task"] not in _CHECKED:
        return None
    task: Task = resolve(item.facets["task"])
    try:
        question: Question = task.question(_facts(item.more.get("facts")))  # refuses facts that its check can't use
    except (SkillFactoryError, ValueError):
        return None
    return RIGHT.get(task.check(question, answer).check.value)


def _facts(stored: Any) -> dict[str, Any]:
    facts = json.loads(stored) if isinstance(stored, str) else stored
    if not isinstance(facts, dict):
        raise ValueError("no facts")
    return facts
