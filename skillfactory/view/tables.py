"""What can be looked at: six tables, and what a row of each is called, asked by and marked with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Table(StrEnum):
    """A table of a run; its value is its name in addresses."""

    QUESTION = "question"
    ATTEMPT = "attempt"
    REFLECTION = "reflection"
    TRACE = "trace"
    RESPONSE = "response"
    DROP = "drop"

    @property
    def base(self) -> int:
        """The number before that of its first row: the numbers of a table are a range of their own."""
        return (list(Table).index(self) + 1) << _ROOM


_ROOM = 40  # bits of a row's number within its table
FACETS = ("task", "level", "form", "check", "verdict", "reason", "stop")
"""What rows are filtered by, beside their text. `form` is how a row came about: see FORMS."""
FORMS = {
    Table.QUESTION: "Group",
    Table.ATTEMPT: "Prompt variant",
    Table.REFLECTION: "Prompt variant",
    Table.TRACE: "Layout",
    Table.RESPONSE: "Group",
    Table.DROP: "Stage",
}
ANSWERS = (Table.RESPONSE, Table.TRACE, Table.ATTEMPT)  # what answers a question, as far as side by side goes


def named(facet: str, table: Table) -> str:
    """What readers call a facet of a table."""
    if facet == "form":
        return FORMS[table]
    if facet == "check" and table is Table.REFLECTION:
        return "Attempt"
    if facet == "verdict" and table in (Table.TRACE, Table.RESPONSE):
        return "Last verdict"
    return {"check": "Check", "stop": "Ended"}.get(facet, facet.capitalize())


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of a run as it goes into the index. An empty text is "none" or "not known"."""

    table: Table
    id: str
    question: str  # its id
    text: str
    task: str = ""
    level: str = ""
    form: str = ""
    check: str = ""  # of an attempt, of the attempt that a reflection is on, of the last attempt of a trace, of a response
    verdict: str = ""  # of a reflection; of the last one in a trace or a response
    reason: str = ""
    stop: str = ""
    answer: str | None = None
    tokens: int | None = None
    parent: str = ""  # the id of the attempt that a reflection is on
    uses: tuple[str, ...] = ()  # the ids of the attempts that a trace is made of, in order
    more: Mapping[str, Any] = field(default_factory=dict)  # JSON-safe: what else is told of it


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the index; `number` counts within its table, from 1."""

    table: Table
    number: int
    id: str
    question: str
    facets: Mapping[str, str]
    answer: str | None
    tokens: int | None
    parent: str
    more: Mapping[str, Any]
