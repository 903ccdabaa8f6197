"""Stored responses → numbers per group and per kind, None where one is undefined; `docs/evaluation.md` says what each is."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from skillfactory.records import Check, Stop
from skillfactory.skills.transitions import Courses, ends_verified, summed
from skillfactory.stats import Estimate, clustered_share, f1, mean_of_shares, pass_at_k
from skillfactory.suites import Group

VERDICTS = ("true_correct", "false_correct", "true_incorrect", "false_incorrect", "no_verdict")
# number: the column whose mean it is, over the responses where that isn't None
MEANS = {
    "answers": "attempts",
    "reflections": "reflections",
    "with_tags": "uses_tags",
    "well_formed": "well_formed",
    "cut": "cut",
    "tokens": "tokens",
    "prompt_tokens": "prompt_tokens",
    "requests": "requests",
    "first_right": "first_right",
    "any_right": "any_right",
    "repeats": "repeats",
    "after_right": "after_right",
    "stopped_after_correct": "stopped",
    "ends_verified": "ends_verified",
    "tokens_after_right": "tokens_after_right",
    "loops": "loops",
    "looped": "looped",
}
Row = Mapping[str, Any]


def _product(share: float | None, whole: float | None) -> float | None:
    return None if share is None or whole is None else share * whole


# column: how it is made of others; what a response doesn't tell is None
DERIVED: Mapping[str, Callable[[Row], float | None]] = {
    "cut": lambda row: None if row["stop"] is None else row["stop"] == Stop.LENGTH,
    "ends_verified": lambda row: (
        None if row.get("course") is None or row["stop"] is None else row["stop"] == Stop.END and ends_verified(row["course"])
    ),
    "tokens_after_right": lambda row: _product(row["after_right"], row["tokens"]),
    "loops": lambda row: None if row.get("looped") is None else row["looped"] > 0,
}
COLUMNS = (
    *("group", "question_id", "check", "stop", "course"),
    *VERDICTS,
    *(name for name in MEANS.values() if name not in DERIVED),
)


class Tally:
    """The responses of one group, added up question by question; memory holds one number per question."""

    def __init__(self) -> None:
        self.means = array("d")  # share of right responses per question
        self._right: Counter[tuple[int, int]] = Counter()  # (responses, right ones) → questions
        self._counts: Counter[str] = Counter()
        self._sums: dict[str, float] = dict.fromkeys(MEANS, 0.0)
        self._known: Counter[str] = Counter()
        self._courses = Courses()

    def add(self, rows: Sequence[Row]) -> None:
        """Takes all responses to one question."""
        right = sum(row["check"] == Check.RIGHT for row in rows)
        self.means.append(right / len(rows))
        self._right[len(rows), right] += 1
        for row in rows:
            self._counts[row["check"]] += 1
            self._counts.update({name: row[name] for name in VERDICTS})
            self._courses.add(row.get("course"), row["first_right"], row["check"] == Check.RIGHT)
            for name, column in MEANS.items():
                value = DERIVED[column](row) if column in DERIVED else row.get(column)
                if value is not None:
                    self._sums[name] += value
                    self._known[name] += 1

    def numbers(self) -> dict[str, Any]:
        """What the responses come to, as JSON-safe values."""
        questions, responses = len(self.means), sum(n * times for (n, _), times in self._right.items())
        verdicts = {name: self._counts[name] for name in VERDICTS}
        return {
            "questions": questions,
            "responses": responses,
            "accuracy": _plain(clustered_share(np.asarray(self.means))),
            "pass_at": self._pass_at(),
            "checks": {check.value: self._counts[check] for check in Check},
            "verdicts": verdicts,
            **_f1s(verdicts),
            **self._courses.numbers(),
            **{name: self._sums[name] / self._known[name] if self._known[name] else None for name in MEANS},
        }

    def _pass_at(self) -> dict[str, float]:
        """Unbiased pass@k for k = 1, 2, 4, … and for all samples; questions with fewer responses than k are left out."""
        most = max((n for n, _ in self._right), default=0)
        found = {}
        for k in sorted({2**power for power in range(most.bit_length())} | {most} - {0}):
            fit = [(pass_at_k(n, right, k), times) for (n, right), times in self._right.items() if n >= k]
            found[str(k)] = sum(value * times for value, times in fit if value is not None) / sum(times for _, times in fit)
        return found


def _f1s(verdicts: Mapping[str, int]) -> dict[str, float | None]:
    """F1 of the model as a verifier, for each class of attempts; a reflection without a verdict claims nothing."""
    truly, falsely = (
        (verdicts["true_correct"], verdicts["true_incorrect"]),
        (verdicts["false_correct"], verdicts["false_incorrect"]),
    )
    return {"f1_correct": f1(truly[0], falsely[0], falsely[1]), "f1_incorrect": f1(truly[1], falsely[1], falsely[0])}


def measured(groups: Sequence[Group], rows: Iterable[Row], failed: Mapping[str, int]) -> dict[str, Any]:
    """The numbers of every group and every kind. The responses to a question come one after the other in `rows`.

    `failed`: group → responses on which the engine gave up. They count in nothing else.
    """
    tallies = {group.name: Tally() for group in groups}
    for (name, _), responses in groupby(rows, key=itemgetter("group", "question_id")):
        tallies[name].add(list(responses))
    found = []
    for group in groups:
        about = {"name": group.name, "kind": group.kind, "task": group.task, "level": group.level, "part": group.part}
        found.append({**about, "failed": failed.get(group.name, 0), **tallies[group.name].numbers()})
    return {"groups": found, "kinds": list(_kinds(found))}


def _kinds(groups: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The means over the groups of each kind: every group counts the same; counts are summed, and F1 is that of the sums."""
    for kind in dict.fromkeys(group["kind"] for group in groups):
        members = [group for group in groups if group["kind"] == kind]
        verdicts = {name: sum(group["verdicts"][name] for group in members) for name in VERDICTS}
        shared = [k for k in members[0]["pass_at"] if all(k in group["pass_at"] for group in members)]
        yield {
            "kind": kind,
            "groups": [group["name"] for group in members],
            **{name: sum(group[name] for group in members) for name in ("failed", "questions", "responses")},
            "accuracy": _plain(mean_of_shares([_estimate(group["accuracy"]) for group in members])),
            "pass_at": {k: _mean([group["pass_at"][k] for group in members]) for k in shared},
            "checks": {check.value: sum(group["checks"][check.value] for group in members) for check in Check},
            "verdicts": verdicts,
            **_f1s(verdicts),
            **summed(members),
            **{name: _mean([group[name] for group in members]) for name in MEANS},
        }


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are defined."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "se", "n")}


def _estimate(values: Mapping[str, Any]) -> Estimate:
    return Estimate(**values)


def table(numbers: Mapping[str, Any]) -> Iterator[str]:
    """The numbers as lines of a table: a row per group, then a row per kind of several groups."""
    head = ("group", "n", "right %", "95 %", "pass@k", "first %", "answers", "reviews", "F1 cor/inc", "tags %", "formed %")
    rows: list[tuple[str, ...]] = [(*head, "cut %", "tokens")]
    rows += [_cells(group["name"], group) for group in numbers["groups"]]
    rows += [_cells(f"mean {kind['kind']}", kind) for kind in numbers["kinds"] if len(kind["groups"]) > 1]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )


def _cells(name: str, numbers: Mapping[str, Any]) -> tuple[str, ...]:
    accuracy, last = numbers["accuracy"], max(numbers["pass_at"], key=int, default="")
    return (
        name,
        f"{numbers['questions']:,}×{numbers['responses'] / numbers['questions']:.3g}" if numbers["questions"] else "0",
        _percent(accuracy["value"]),
        f"{_percent(accuracy['low'])}-{_percent(accuracy['high'])}",
        f"{_percent(numbers['pass_at'][last])} ({last})" if last else "-",
        _percent(numbers["first_right"]),
        _decimal(numbers["answers"], 2),
        _decimal(numbers["reflections"], 2),
        f"{_decimal(numbers['f1_correct'], 2)}/{_decimal(numbers['f1_incorrect'], 2)}",
        _percent(numbers["with_tags"]),
        _percent(numbers["well_formed"]),
        _percent(numbers["cut"]),
        _decimal(numbers["tokens"], 0),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _decimal(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
