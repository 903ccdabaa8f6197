"""Evaluations of all seeds → cells and comparisons: means over seeds and questions with their intervals (`stats`)."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skillfactory.evaluation import NUMBERS
from skillfactory.gathering.questions import Means, question_means
from skillfactory.report import Cell, Comparison, Estimate, Group
from skillfactory.stats import Array, clustered_share, difference_of_shares, mean, mean_of_shares, ratio, share_estimate
from skillfactory.stats import Estimate as Found


class Asked(NamedTuple):
    """What tells a group of questions from another, whatever suites call them."""

    name: str
    kind: str
    task: str
    level: str
    part: str


@dataclass(frozen=True)
class Judged:
    """One evaluation of one model."""

    output: Path

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The content of evaluation.json."""
        found: dict[str, Any] = json.loads((self.output / NUMBERS).read_text("utf-8"))
        return found

    @cached_property
    def means(self) -> dict[str, Means]:
        """By measure, group and question, the mean of the responses."""
        return question_means(self.output)

    @cached_property
    def shares(self) -> Means:
        """The share of right responses by group and question."""
        return self.means["right"]

    @cached_property
    def asked(self) -> tuple[Asked, ...]:
        """Its groups, in the suite's order."""
        return tuple(_asked(group) for group in self.numbers["groups"])

    def of(self, asked: Asked, measure: str = "right") -> dict[str, float]:
        """A measure's means by question; empty if it wasn't asked this group."""
        means = self.shares if measure == "right" else self.means[measure]
        return means.get(asked.name, {}) if asked in self.asked else {}


@dataclass(frozen=True)
class Row:
    """A row of the table: an arm under one evaluation, by seed."""

    name: str
    label: str
    arm: str  # whose chain it is
    evaluation: str
    seeds: Mapping[int, Judged] = field(default_factory=dict)


def groups_of(rows: Sequence[Row]) -> dict[str, tuple[Group, tuple[Asked, ...]]]:
    """The columns of the table, each with the groups of questions that it is of: kinds first, then what they are means of.

    Groups that only share their name have columns of their own, whose names say in what they differ.
    """
    all_ = list(dict.fromkeys(asked for row in rows for judged in row.seeds.values() for asked in judged.asked))
    named = {asked: asked.name + _difference(asked, [each for each in all_ if each.name == asked.name]) for asked in all_}
    kinds = list(dict.fromkeys(asked.kind for asked in all_))
    found: dict[str, tuple[Group, tuple[Asked, ...]]] = {}
    for kind in kinds:
        members = [asked for asked in all_ if asked.kind == kind]
        if len({asked.name for asked in members}) < len(members):
            continue  # no evaluation has all of them: a mean would be of nothing
        if len(members) > 1:
            told = ", ".join(named[asked] for asked in members)
            found[f"mean {kind}"] = Group(f"mean {kind}", f"{kind}, mean", f"the mean of {told}"), tuple(members)
        else:
            found[named[members[0]]] = _group(named[members[0]], members[0]), tuple(members)
    for asked in sorted(all_, key=lambda asked: kinds.index(asked.kind)):
        found.setdefault(named[asked], (_group(named[asked], asked), (asked,)))
    return found


def _difference(asked: Asked, others: Sequence[Asked]) -> str:
    """In what a group differs from others of its name, as the end of its column's name."""
    fields = [name for place, name in enumerate(Asked._fields) if len({other[place] for other in others}) > 1]
    return f" ({', '.join(f'{name} {getattr(asked, name)}'.strip() for name in fields)})" if fields else ""


def cell(row: Row, column: str, groups: Sequence[Asked]) -> Cell | None:
    """What an arm did on some groups, over its seeds; None if it was not asked all of them."""
    tables = _tables([row], groups, row.seeds)
    if tables is None:
        return None
    told = [numbers for judged in row.seeds.values() if (numbers := numbers_of(judged, groups)) is not None]
    if len(told) < len(row.seeds):
        return None  # other groups belong to the kind too
    return Cell(
        row.name,
        column,
        accuracy=_estimate(accuracy(tables[0])),
        questions=sum(table.shape[1] for table in tables[0]),
        responses=sum(int(numbers["responses"]) for numbers in told),
        first_try=_mean(told, "first_right"),
        tokens=_mean(told, "tokens"),
        cut=_mean(told, "cut"),
        well_formed=_mean(told, "well_formed"),
        answers=_mean(told, "answers"),
        reflections=_mean(told, "reflections"),
        f1_correct=_mean(told, "f1_correct"),
        f1_incorrect=_mean(told, "f1_incorrect"),
    )


def accuracy(tables: Sequence[Array]) -> Found:
    """The mean of an arm's shares with an interval that ends where shares do; that of its evaluation if there is one seed."""
    if len(tables[0]) == 1:
        return mean_of_shares([clustered_share(table[0]) for table in tables])
    found = mean(tables)
    return found if found.value is None else share_estimate(found.value, found.se, found.n, found.df)


def comparison(row: Row, baseline: Row, column: str, groups: Sequence[Asked], note: str = "") -> Comparison | None:
    """One arm against another on some groups, over the seeds and questions that both have; None if there are none."""
    seeds = [seed for seed in row.seeds if seed in baseline.seeds]
    tables = _tables([row, baseline], groups, seeds)
    if tables is None:
        return None
    gained, factor = (
        _estimate(estimate(tables[0], tables[1], paired_seeds=True)) for estimate in (difference_of_shares, ratio)
    )
    return Comparison(row.name, baseline.name, column, gained, factor, note)


def inference(rows: Sequence[Row], cells: Sequence[Cell], compared: Sequence[Comparison]) -> Iterator[str]:
    """What a reader should know of the tokens of responses where arms with other numbers of retries are compared."""
    retries = {row.name: {judged.numbers.get("retry", 0) for judged in row.seeds.values()} for row in rows}
    labels = {row.name: row.label for row in rows}
    tokens = {(cell.arm, cell.group): cell.tokens for cell in cells}
    found: dict[tuple[str, str], dict[str, None]] = {}
    for each in compared:
        one, other = (tokens.get((name, each.group)) or 0.0 for name in (each.arm, each.baseline))
        if retries[each.arm] != retries[each.baseline] and max(one, other) > 1.05 * min(one, other):
            found.setdefault((each.arm, each.baseline), {})[f"{each.group} {one:,.0f} and {other:,.0f}"] = None
    for (arm, baseline), told in found.items():
        yield f"{labels[arm]} and {labels[baseline]} take other numbers of tokens a response: {', '.join(told)}"


def _asked(about: Mapping[str, Any]) -> Asked:
    return Asked(*(str(about.get(name) or "") for name in Asked._fields))


def _group(name: str, asked: Asked) -> Group:
    where = f"{asked.task}, level {asked.level}" if asked.level else asked.task
    return Group(name, name, f"{asked.kind}: {where}")


def common(rows: Sequence[Row], groups: Sequence[Asked], measure: str = "right") -> dict[Asked, list[str]]:
    """For each group, the questions that all seeds of all rows have answered, in the order of the first."""
    found: dict[Asked, list[str]] = {}
    for group in groups:
        first, *others = [one.of(group, measure) for row in rows for one in row.seeds.values()] or [{}]
        found[group] = [question for question in first if all(question in other for other in others)]
    return found


def tables(row: Row, asked: Mapping[Asked, Sequence[str]], seeds: Iterable[int], measure: str = "right") -> list[Array]:
    """For each group, the means of a measure, seeds × questions."""
    found = [[row.seeds[seed].of(group, measure) for seed in seeds] for group in asked]
    return [
        np.array([[means[question] for question in questions] for means in several])
        for several, questions in zip(found, asked.values(), strict=True)
    ]


def _tables(rows: Sequence[Row], groups: Sequence[Asked], seeds: Iterable[int]) -> list[list[Array]] | None:
    """For each row, for each group, the shares of seeds × questions that all of them have; None if there are none."""
    rows = [replace(row, seeds={seed: row.seeds[seed] for seed in seeds}) for row in rows]
    asked = common(rows, groups)
    if not all(asked.values()) or not all(row.seeds for row in rows):
        return None
    return [tables(row, asked, row.seeds) for row in rows]


def numbers_of(judged: Judged, groups: Sequence[Asked]) -> Mapping[str, Any] | None:
    """The numbers of a group, or of the kind that has these groups in whatever order; None if there is no such kind."""
    entries: list[Mapping[str, Any]] = [*judged.numbers["groups"], *judged.numbers["kinds"]]
    wanted = {group.name for group in groups}
    return next((entry for entry in entries if {*entry.get("groups", (entry.get("name"),))} == wanted), None)


def _mean(told: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The mean over seeds of a number, of those where it is defined."""
    known = [numbers[name] for numbers in told if numbers[name] is not None]
    return sum(known) / len(known) if known else None


def _estimate(found: Found) -> Estimate:
    return Estimate(found.value, found.low, found.high)
