"""Arms → what each did on each column of the table, and pairs of arms against each other, with what chance would do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from skillfactory.errors import InputError
from skillfactory.gathering.questions import MEASURES
from skillfactory.gathering.scores import Asked, Row, accuracy, common, tables
from skillfactory.significance import holm, p_value
from skillfactory.stats import Array, Estimate, difference, difference_of_shares, mean, ratio

UNKNOWN = Estimate(None, None, None, None, 0)
CLOSE = 1e-9  # means over seeds that are nearer than this are equal but for rounding
Columns = Mapping[str, tuple[Asked, ...]]  # column → the groups of questions that it is the mean of


@dataclass(frozen=True, slots=True)
class Results:
    """The means of one arm: by measure and group a table of seeds × questions. A measure that isn't known is left out."""

    arm: str
    seeds: tuple[int, ...]
    tables: Mapping[str, Mapping[Asked, Array]]

    def of(self, groups: Iterable[Asked], measure: str = "right", seeds: Sequence[int] | None = None) -> list[Array] | None:
        """The tables of some groups, of some seeds; None if one of them is not known."""
        found = [self.tables[measure].get(group) for group in groups]
        places = [self.seeds.index(seed) for seed in (self.seeds if seeds is None else seeds)]
        known = [table[places] for table in found if table is not None]
        return known if len(known) == len(found) else None


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions of each group that are compared: those that all arms with the group have answered."""

    ids: Mapping[Asked, tuple[str, ...]]
    notes: tuple[str, ...]  # what was set aside


@dataclass(frozen=True, slots=True)
class Cell:
    """What an arm did on a column."""

    arm: str
    column: str
    questions: int
    seeds: int
    right: Estimate
    tokens: Estimate
    answers: Estimate


@dataclass(frozen=True, slots=True)
class Pair:
    """An arm against another on a column: the arm's mean minus the baseline's, over the same questions."""

    arm: str
    baseline: str
    column: str
    questions: int
    seeds: tuple[int, ...]  # that belong together; () if seeds are not paired
    right: Estimate
    ratio: Estimate
    p: float | None
    p_holm: float | None
    tokens: Estimate
    answers: Estimate
    won: int  # questions on which the arm is better
    lost: int
    level: int


def shared(rows: Sequence[Row], groups: Iterable[Asked]) -> Questions:
    """The questions that all arms which were asked a group have answered, and a note wherever one has answered others too."""
    ids: dict[Asked, tuple[str, ...]] = {}
    notes = []
    for group in groups:
        asked = [row for row in rows if all(group in judged.asked for judged in row.seeds.values())]
        found = tuple(common(asked, [group])[group])
        if asked and found:
            ids[group] = found
        counts = {row.name: max(len(judged.of(group)) for judged in row.seeds.values()) for row in asked}
        more = [f"{count:,} of {name}" for name, count in counts.items() if count > len(found)]
        part = [row.name for row in rows if row not in asked and any(group in judged.asked for judged in row.seeds.values())]
        if part:
            notes.append(f"{group.name}: left out for {', '.join(part)}, which was not asked it on all seeds")
        if more:
            notes.append(f"{group.name}: {len(found):,} questions are common to all arms and compared, of {', '.join(more)}")
    return Questions(ids, tuple(notes))


def results(row: Row, questions: Questions) -> Results:
    """The means of an arm on the questions that are compared."""
    made: dict[str, dict[Asked, Array]] = {}
    for measure in MEASURES:
        made[measure] = {}
        for group, ids in questions.ids.items():
            judged = row.seeds.values()
            if all(group in one.asked for one in judged) and all(one.of(group, measure).keys() >= {*ids} for one in judged):
                made[measure][group] = tables(row, {group: ids}, row.seeds, measure)[0]
    return Results(row.name, tuple(row.seeds), made)


def cells(arms: Sequence[Results], columns: Columns) -> Iterator[Cell]:
    """What each arm did on each column that it was asked in whole."""
    for one in arms:
        for column, groups in columns.items():
            right = one.of(groups)
            if right is not None:
                more = (one.of(groups, measure) for measure in ("tokens", "answers"))
                tokens, answers = (UNKNOWN if each is None else mean(each) for each in more)
                found = accuracy(right)
                yield Cell(one.arm, column, found.n, len(one.seeds), found, tokens, answers)


def pairs(chosen: Iterable[tuple[Results, Results, bool]], columns: Columns) -> list[Pair]:
    """Each pair of an arm and its baseline on each column that both were asked, corrected for all of these comparisons.

    The third of each entry says whether equal seeds of the two belong together. InputError if nothing can be compared.
    """
    made = [
        found
        for one, other, by_seed in chosen
        for column, groups in columns.items()
        if (found := _pair(one, other, column, groups, by_seed))
    ]
    if not made:
        raise InputError("the runs have no question in common: expected evaluations of one suite, part and seed")
    return [replace(pair, p_holm=p) for pair, p in zip(made, holm([pair.p for pair in made]), strict=True)]


def _pair(one: Results, other: Results, column: str, groups: tuple[Asked, ...], by_seed: bool) -> Pair | None:
    seeds = tuple(seed for seed in one.seeds if seed in other.seeds) if by_seed else ()
    right = _both(one, other, groups, "right", seeds)
    if right is None:
        return None
    more = [_both(one, other, groups, measure, seeds) for measure in ("tokens", "answers")]
    tokens, answers = (UNKNOWN if both is None else difference(*both, paired_seeds=bool(seeds)) for both in more)
    found = difference_of_shares(*right, paired_seeds=bool(seeds))
    gains = np.concatenate([a.mean(0) - b.mean(0) for a, b in zip(*right, strict=True)])
    won, lost = int((gains > CLOSE).sum()), int((gains < -CLOSE).sum())
    return Pair(
        one.arm,
        other.arm,
        column,
        questions=len(gains),
        seeds=seeds,
        right=found,
        ratio=ratio(*right, paired_seeds=bool(seeds)),
        p=p_value(found),
        p_holm=None,
        tokens=tokens,
        answers=answers,
        won=won,
        lost=lost,
        level=len(gains) - won - lost,
    )


def _both(
    one: Results, other: Results, groups: tuple[Asked, ...], measure: str, seeds: tuple[int, ...]
) -> tuple[list[Array], list[Array]] | None:
    """The tables of both arms, of the seeds that belong together if any do; None if one of them lacks a group."""
    found = one.of(groups, measure, seeds or None), other.of(groups, measure, seeds or None)
    return None if found[0] is None or found[1] is None else (found[0], found[1])
