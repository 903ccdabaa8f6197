"""From attempt to attempt: the course of a response in one short text, and what led from a wrong answer to a right one.

A *course* has a letter for each attempt and a sign for each reflection, in order: `w-r+` is a wrong attempt that the model
found Incorrect, then a right one that it found Correct.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from skillfactory.records import Check

RIGHT, WRONG, UNDECIDED, EMPTY = "r", "w", "u", "0"  # attempts; EMPTY is a block without an answer
# The signs of reflections are + for Correct, - for Incorrect, ? for neither.
LETTERS: Mapping[Check, str] = {Check.RIGHT: RIGHT, Check.WRONG: WRONG, Check.MISSING: EMPTY, Check.UNDECIDED: UNDECIDED}
LONGEST = 1024  # characters of a course; what comes after isn't told

BETWEEN = ("correct", "incorrect", "none")  # what the model said last of the attempt before, if anything
TURNS = ("right_right", "right_wrong", "wrong_right", "wrong_wrong")
_SAID = {"+": "correct", "-": "incorrect", "?": "none"}
_IS = {RIGHT: "right", WRONG: "wrong"}


@lru_cache(maxsize=4096)
def steps(course: str) -> Mapping[tuple[str, str], int]:
    """How often each (verdict between, turn) leads from one attempt of a course to the next.

    An attempt that is undecided or empty has no part in any. Of several reflections the last counts.
    """
    found: Counter[tuple[str, str]] = Counter()
    before, said = "", "none"
    for sign in course:
        if sign in _SAID:
            said = _SAID[sign]
            continue
        if before in _IS and sign in _IS:
            found[said, f"{_IS[before]}_{_IS[sign]}"] += 1
        before, said = sign, "none"
    return found


class Courses:
    """The courses of many responses, added up: how the first attempts ended, and what led from one attempt to the next."""

    def __init__(self) -> None:
        self._ends: Counter[str] = Counter()
        self._steps: Counter[tuple[str, str]] = Counter()
        self._known = False

    def add(self, course: str | None, first_right: bool, right: bool) -> None:
        """Takes a response: its course (None if it wasn't noted), whether its first attempt, and its final answer, is right."""
        self._ends[f"{'right' if first_right else 'wrong'}_{'right' if right else 'wrong'}"] += 1
        if course is not None:
            self._known = True
            self._steps.update(steps(course))

    def numbers(self) -> dict[str, Any]:
        """What they come to, as JSON-safe values; see `told`."""
        table = {said: {turn: self._steps[said, turn] for turn in TURNS} for said in BETWEEN}
        return told({turn: self._ends[turn] for turn in TURNS}, table if self._known else None)


def told(first_final: Mapping[str, int], table: Mapping[str, Mapping[str, int]] | None) -> dict[str, Any]:
    """The counts with the shares that follow from them, None where they are undefined."""
    shares: dict[str, float | None] = {"corrected": None, "spoiled": None}
    if table is not None:
        shares = {"corrected": turned(table, "wrong"), "spoiled": turned(table, "right")}
    return {"first_final": first_final, "transitions": table, **shares}


def summed(numbers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of several groups as one: those of the sums."""
    ends = {turn: sum(each["first_final"][turn] for each in numbers) for turn in TURNS}
    tables = [each["transitions"] for each in numbers if each["transitions"] is not None]
    table = {said: {turn: sum(each[said][turn] for each in tables) for turn in TURNS} for said in BETWEEN}
    return told(ends, table if tables else None)


def turned(counts: Mapping[str, Mapping[str, int]], before: str, said: Iterable[str] = BETWEEN) -> float | None:
    """The share of transitions from a `before` ("right" or "wrong") attempt that lead to the other; None if there are none."""
    after = "wrong" if before == "right" else "right"
    changed = sum(counts[each][f"{before}_{after}"] for each in said)
    whole = changed + sum(counts[each][f"{before}_{before}"] for each in said)
    return changed / whole if whole else None


def ends_verified(course: str) -> bool:
    """Whether the last thing of a response is the model's own verdict Correct on its last attempt."""
    return course.endswith("+") and bool(course.strip("+-?"))
