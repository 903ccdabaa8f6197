"""Evaluations of all seeds → cells and comparisons: means over seeds and questions with their intervals (`stats`)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from skillfactory.evaluation import NUMBERS, question_shares
from skillfactory.report import Cell, Comparison, Estimate, Group
from skillfactory.stats import Array, difference, mean, ratio
from skillfactory.stats import Estimate as Found


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
    def shares(self) -> dict[str, dict[str, float]]:
        """The share of right responses by group and question."""
        return question_shares(self.output)


@dataclass(frozen=True)
class Row:
    """A row of the table: an arm under one evaluation, by seed."""

    name: str
    label: str
    arm: str  # whose chain it is
    evaluation: str
    seeds: Mapping[int, Judged] = field(default_factory=dict)


def groups_of(rows: Sequence[Row]) -> dict[str, tuple[Group, tuple[str, ...]]]:
    """The columns of the table, each with the groups of questions that it is of: kinds first, then what they are means of."""
    kinds: dict[str, list[str]] = {}
    about: dict[str, Mapping[str, Any]] = {}
    for judged in (judged for row in rows for judged in row.seeds.values()):
        for group in judged.numbers["groups"]:
            names = kinds.setdefault(group["kind"], [])
            if group["name"] not in names:
                names.append(group["name"])
                about[group["name"]] = group
    found: dict[str, tuple[Group, tuple[str, ...]]] = {}
    for kind, names in kinds.items():
        if len(names) > 1:
            name = f"mean {kind}"
            found[name] = Group(name, f"{kind}, mean", f"the mean of {', '.join(names)}"), tuple(names)
        else:
            found[names[0]] = _group(about[names[0]]), (names[0],)
    for names in kinds.values():
        found |= {name: (_group(about[name]), (name,)) for name in names if name not in found}
    return found


def cell(row: Row, column: str, groups: Sequence[str]) -> Cell | None:
    """What an arm did on some groups, over its seeds; None if it was not asked all of them."""
    tables = _tables([row], groups, row.seeds)
    if tables is None:
        return None
    told = [_numbers(judged, groups) for judged in row.seeds.values()]
    return Cell(
        row.name,
        column,
        accuracy=_estimate(mean(tables[0])),
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


def comparison(row: Row, baseline: Row, column: str, groups: Sequence[str], note: str = "") -> Comparison | None:
    """One arm against another on some groups, over the seeds and questions that both have; None if there are none."""
    seeds = [seed for seed in row.seeds if seed in baseline.seeds]
    tables = _tables([row, baseline], groups, seeds)
    if tables is None:
        return None
    gained, factor = (_estimate(estimate(tables[0], tables[1], paired_seeds=True)) for estimate in (difference, ratio))
    return Comparison(row.name, baseline.name, column, gained, factor, note)


def _group(about: Mapping[str, Any]) -> Group:
    where = f"{about['task']}, level {about['level']}" if about["level"] else str(about["task"])
    return Group(about["name"], about["name"], f"{about['kind']}: {where}")


def _tables(rows: Sequence[Row], groups: Sequence[str], seeds: Sequence[int] | Mapping[int, Any]) -> list[list[Array]] | None:
    """For each row, for each group, the shares of seeds × questions that all of them have; None if there are none."""
    judged = [[row.seeds[seed] for seed in seeds] for row in rows]
    asked = {name: list(_shared([one.shares.get(name, {}) for several in judged for one in several])) for name in groups}
    if not seeds or not all(asked.values()):
        return None
    return [
        [np.array([[one.shares[name][question] for question in asked[name]] for one in several]) for name in groups]
        for several in judged
    ]


def _shared(several: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """The questions that all have, in the order of the first."""
    first = several[0] if several else {}
    return (question for question in first if all(question in other for other in several))


def _numbers(judged: Judged, groups: Sequence[str]) -> Mapping[str, Any]:
    """The numbers of a group, or of the kind that has these groups."""
    entries: list[Mapping[str, Any]] = [*judged.numbers["groups"], *judged.numbers["kinds"]]
    return next(entry for entry in entries if tuple(entry.get("groups", (entry.get("name"),))) == tuple(groups))


def _mean(told: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The mean over seeds of a number, of those where it is defined."""
    known = [numbers[name] for numbers in told if numbers[name] is not None]
    return sum(known) / len(known) if known else None


def _estimate(found: Found) -> Estimate:
    return Estimate(found.value, found.low, found.high)
