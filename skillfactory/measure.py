"""Stored responses → numbers per group and per kind, None where one is undefined; `docs/evaluation.md` says what each is."""

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from skillfactory.records import Check, Stop
from skillfactory.seeds import derive
from skillfactory.skills.transitions import Courses, ends_verified, summed
from skillfactory.skills.usage import Usage, averaged
from skillfactory.stats import (
    Array,
    Estimate,
    clustered_share,
    f1,
    mean_of_shares,
    percentiles,
    resampled_means,
    spread_of,
)
from skillfactory.suites import Group
from skillfactory.tasks.numbers import amount, unwrapped
from skillfactory.votes import majority_at_k, pass_at_k

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
    "cut": lambda row: _cut(row),
    "ends_verified": lambda row: (
        None if row.get("course") is None or row["stop"] is None else row["stop"] == Stop.END and ends_verified(row["course"])
    ),
    "tokens_after_right": lambda row: _product(row["after_right"], row["tokens"]),
    "loops": lambda row: None if row.get("looped") is None else row["looped"] > 0,
}
COLUMNS = (
    *("group", "question_id", "answer", "check", "reason", "stop"),
    *VERDICTS,
    "course",
    *("blocks", "untagged"),
    *(name for name in MEANS.values() if name not in DERIVED),
)
Statistic = tuple[str, str]  # which number, and its k if it has one
MAX_BALLOT = 1000  # characters; what is longer votes for itself as it stands
_CHOICE = re.compile(r"(\([A-Za-z]\)|[A-J][).:])\s+[^\W_]")  # a letter and what the choice says
_FRACTION = re.compile(r"\\[dtc]frac(?![a-z])")
_SPACING = re.compile(r"\\(?:left|right)(?![a-z])|\\[!,;:]")
_ATOM = r"-?(?:[0-9]+|\\?[a-z]+)"
_RATIO = re.compile(rf"([+-]?)\\frac(?:\{{({_ATOM})\}}\{{({_ATOM})\}}|([0-9])([0-9]))")  # the whole of an answer


@lru_cache(maxsize=4096)
def ballot(answer: str) -> str:
    """What an answer votes for: answers with the same ballot are the same answer, whatever the gold one is.

    Boxes, dollar signs and bold type around the whole of it, white space, upper case, the width of characters and a full stop
    at the end don't count, nor do the brackets of a lone letter and what a choice says after its letter; a number votes for its
    value, so 1,000.0 is 1000, and a sign for money or percent beside it doesn't count. A fraction in LaTeX is as 1/2.
    """
    if len(answer) > MAX_BALLOT:
        return "".join(unicodedata.normalize("NFKC", answer).casefold().split())
    bare = unwrapped(unwrapped(answer).removesuffix("."))
    choice = _CHOICE.match(bare)
    text = "".join(unicodedata.normalize("NFKC", choice[1] if choice else bare).casefold().split())
    text = _SPACING.sub("", _FRACTION.sub(r"\\frac", text)).replace("{,}", ",")
    whole = _RATIO.fullmatch(text)
    text = f"{whole[1]}{whole[2] or whole[4]}/{whole[3] or whole[5]}" if whole else text
    value = amount(text)
    letter = text.strip("().:")
    return str(value) if value is not None else letter if len(letter) == 1 and letter.isalpha() else text


class Tally:
    """The responses of one group, added up question by question; memory holds a few numbers per question."""

    def __init__(self) -> None:
        self.means = array("d")  # share of right responses per question
        self._right: Counter[tuple[int, int]] = Counter()  # (responses, right ones) → questions
        self._majorities: dict[int, array[float]] = {}  # k → the chance that a vote of k is right, per question
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()  # why there is no answer
        self.lengths: Counter[int] = Counter()  # tokens → responses
        self._sums: dict[str, float] = dict.fromkeys(MEANS, 0.0)
        self._known: Counter[str] = Counter()
        self._courses = Courses()
        self._usage = Usage()

    def add(self, rows: Sequence[Row]) -> None:
        """Takes all responses to one question."""
        right = sum(row["check"] == Check.RIGHT for row in rows)
        self.means.append(right / len(rows))
        self._right[len(rows), right] += 1
        self._vote(rows)
        for name in VERDICTS:
            self._counts[name] += sum(row[name] for row in rows)
        for row in rows:
            self._counts[row["check"]] += 1
            if row["check"] == Check.MISSING:
                self._reasons[row["reason"]] += 1
            if row["tokens"] is not None:
                self.lengths[row["tokens"]] += 1
            self._usage.add(row.get("blocks"), row.get("untagged"))
            self._courses.add(row.get("course"), row["first_right"], row["check"] == Check.RIGHT)
        for name, column in MEANS.items():
            derived = DERIVED.get(column)
            values = [row.get(column) for row in rows] if derived is None else [derived(row) for row in rows]
            known = [value for value in values if value is not None]
            if known:
                self._sums[name] += sum(known)
                self._known[name] += len(known)

    def _vote(self, rows: Sequence[Row]) -> None:
        """Lets the responses to a question vote, for every k."""
        found: dict[str, list[bool]] = {}
        for row in rows:
            if row["check"] != Check.MISSING and row["answer"] is not None:
                found.setdefault(ballot(row["answer"]), []).append(row["check"] == Check.RIGHT)
        votes = [(len(rights), sum(rights) / len(rights)) for rights in found.values()]
        silent = len(rows) - sum(count for count, _ in votes)
        seed = derive(0, "vote", rows[0]["question_id"])
        for k in _ks(len(rows)):
            value = majority_at_k(votes, silent, k, seed)
            self._majorities.setdefault(k, array("d")).append(value or 0.0)

    def numbers(self) -> dict[str, Any]:
        """What the responses come to, as JSON-safe values."""
        questions, responses = len(self.means), sum(n * times for (n, _), times in self._right.items())
        verdicts = {name: self._counts[name] for name in VERDICTS}
        found = self._found()
        return {
            "questions": questions,
            "responses": responses,
            "accuracy": _plain(clustered_share(np.asarray(self.means))),
            "pass_at": {k: float(np.mean(values)) for (name, k), values in found.items() if name == "pass_at"},
            "majority_at": {k: float(np.mean(values)) for (name, k), values in found.items() if name == "majority_at"},
            "checks": {check.value: self._counts[check] for check in Check},
            "unanswered": {reason: count / responses for reason, count in sorted(self._reasons.items())},
            "clustered": {
                name: {k: _plain(clustered_share(values)) for (one, k), values in found.items() if one == name}
                for name in ("pass_at", "majority_at")
            },
            "verdicts": verdicts,
            **_f1s(verdicts),
            **self._courses.numbers(),
            "skills": self._usage.numbers(),
            **{name: self._sums[name] / self._known[name] if self._known[name] else None for name in MEANS},
            "token_quantiles": _quantiles(self.lengths),
        }

    def resampled(self, name: str) -> dict[Statistic, Array]:
        """The statistics of the group `name` in worlds where its questions are drawn anew; see `stats.resampled_means`."""
        return {each: resampled_means(values, derive(0, "bootstrap", name, *each)) for each, values in self._found().items()}

    def _found(self) -> dict[Statistic, Array]:
        """The statistics that have a number for each question. Questions with fewer responses than k have none for it."""
        if not self.means:
            return {}
        found: dict[Statistic, Array] = {("accuracy", ""): np.asarray(self.means)}
        most = max(n for n, _ in self._right)
        for k in _ks(most):
            fit = [(pass_at_k(n, right, k) or 0.0, times) for (n, right), times in self._right.items() if n >= k]
            found["pass_at", str(k)] = np.repeat([value for value, _ in fit], [times for _, times in fit])
        return found | {("majority_at", str(k)): np.asarray(self._majorities[k]) for k in _ks(most)}


def _ks(most: int) -> list[int]:
    """1, 2, 4, … and `most`, in order."""
    return sorted({2**power for power in range(most.bit_length())} | {most} - {0}) if most else []


def _cut(row: Row) -> bool | None:
    """Whether the token limit cut a response; None where it isn't known how it ended, as in imported data."""
    return None if row["stop"] is None else row["stop"] == Stop.LENGTH


def _quantiles(lengths: Counter[int]) -> dict[str, Any]:
    """The 5th, 50th and 95th percentile of lengths and the longest; None if there are none."""
    found = spread_of(lengths)
    return {name: getattr(found, name, None) for name in ("p5", "p50", "p95", "max")}


def _intervals(drawn: Mapping[Statistic, Array], questions: int) -> dict[str, Any]:
    """The 95 % intervals that the drawn worlds give."""
    ends = {each: list(percentiles(values, questions)) for each, values in drawn.items()}
    of_k = {name: {k: ends[each] for each in ends for k in [each[1]] if each[0] == name} for name in ("pass_at", "majority_at")}
    return {"accuracy": ends.get(("accuracy", "")), **of_k}


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
    found: list[dict[str, Any]] = []
    drawn: dict[str, dict[Statistic, Array]] = {}
    for group in groups:
        about = {"name": group.name, "kind": group.kind, "task": group.task, "level": group.level, "part": group.part}
        tally = tallies[group.name]
        drawn[group.name] = tally.resampled(group.name)
        numbers = {**tally.numbers(), "bootstrap": _intervals(drawn[group.name], len(tally.means))}
        found.append({**about, "failed": failed.get(group.name, 0), **numbers})
    return {"groups": found, "kinds": list(_kinds(found, tallies, drawn))}


def _kinds(
    groups: Sequence[Mapping[str, Any]], tallies: Mapping[str, Tally], drawn: Mapping[str, Mapping[Statistic, Array]]
) -> Iterator[dict[str, Any]]:
    """The means over the groups of each kind: every group counts the same; counts are summed, and F1 is that of the sums."""
    for kind in dict.fromkeys(group["kind"] for group in groups):
        members = [group for group in groups if group["kind"] == kind]
        worlds = [drawn[group["name"]] for group in members]
        everywhere = [each for each in worlds[0] if all(each in world for world in worlds)]
        verdicts = {name: sum(group["verdicts"][name] for group in members) for name in VERDICTS}
        reasons = sorted({reason for group in members for reason in group["unanswered"]})
        lengths = sum((tallies[group["name"]].lengths for group in members), Counter[int]())
        yield {
            "kind": kind,
            "groups": [group["name"] for group in members],
            **{name: sum(group[name] for group in members) for name in ("failed", "questions", "responses")},
            "accuracy": _plain(mean_of_shares([_estimate(group["accuracy"]) for group in members])),
            "pass_at": _at(members, "pass_at"),
            "majority_at": _at(members, "majority_at"),
            "clustered": {name: _clustered(members, name) for name in ("pass_at", "majority_at")},
            "checks": {check.value: sum(group["checks"][check.value] for group in members) for check in Check},
            "verdicts": verdicts,
            **_f1s(verdicts),
            **summed(members),
            "skills": averaged(members),
            "unanswered": {reason: _mean([group["unanswered"].get(reason, 0.0) for group in members]) for reason in reasons},
            **{name: _mean([group[name] for group in members]) for name in MEANS},
            "token_quantiles": _quantiles(lengths),
            "bootstrap": _intervals(
                {each: np.mean([world[each] for world in worlds], axis=0) for each in everywhere},
                sum(group["questions"] for group in members),
            ),
        }


def _at(groups: Sequence[Mapping[str, Any]], name: str) -> dict[str, float | None]:
    """The means over groups of a number with a k, for every k that all of them have."""
    shared = [k for k in groups[0][name] if all(k in group[name] for group in groups)]
    return {k: _mean([group[name][k] for group in groups]) for k in shared}


def _clustered(groups: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The same with its interval clustered by question."""
    found = [group["clustered"][name] for group in groups]
    shared = [k for k in found[0] if all(k in each for each in found)]
    return {k: _plain(mean_of_shares([_estimate(each[k]) for each in found])) for k in shared}


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are defined."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "se", "n")}


def _estimate(values: Mapping[str, Any]) -> Estimate:
    return Estimate(**values)


def table(numbers: Mapping[str, Any]) -> Iterator[str]:
    """The numbers as lines of a table: a row per group, one per kind of several groups; columns without any are left out."""
    head = ("group", "n", "right %", "95 %", "pass@k", "maj@k", "first %", "answers", "reviews", "F1 cor/inc", "tags %")
    rows: list[tuple[str, ...]] = [(*head, "formed %", "cut %", "tokens")]
    rows += [_cells(group["name"], group) for group in numbers["groups"]]
    rows += [_cells(f"mean {kind['kind']}", kind) for kind in numbers["kinds"] if len(kind["groups"]) > 1]
    columns = [column for column in zip(*rows, strict=True) if set(column[1:]) - {"-", "-/-"}]
    widths = [max(map(len, column)) for column in columns]
    for first, *others in zip(*columns, strict=True):
        yield "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))])


def _cells(name: str, numbers: Mapping[str, Any]) -> tuple[str, ...]:
    accuracy = numbers["accuracy"]
    return (
        name,
        f"{numbers['questions']:,}×{numbers['responses'] / numbers['questions']:.3g}" if numbers["questions"] else "0",
        _percent(accuracy["value"]),
        f"{_percent(accuracy['low'])}-{_percent(accuracy['high'])}",
        _best(numbers["pass_at"]),
        _best(numbers["majority_at"]),
        _percent(numbers["first_right"]),
        _decimal(numbers["answers"], 2),
        _decimal(numbers["reflections"], 2),
        f"{_decimal(numbers['f1_correct'], 2)}/{_decimal(numbers['f1_incorrect'], 2)}",
        _percent(numbers["with_tags"]),
        _percent(numbers["well_formed"]),
        _percent(numbers["cut"]),
        _decimal(numbers["tokens"], 0),
    )


def _best(by_k: Mapping[str, float]) -> str:
    """The number for the largest k, with k; of a single response there is nothing to tell beyond its accuracy."""
    last = max(by_k, key=int, default="1")
    return "-" if last == "1" else f"{_percent(by_k[last])} ({last})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _decimal(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
