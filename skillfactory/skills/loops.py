"""Loops in a text: a stretch that stands again and again with nothing between.

The rule is exact and its search takes time in proportion to the text, whatever that holds: at every `length / 4` characters it
asks where the next few come again, and how far the text goes on equal to itself at that distance. A loop of the rule's size
holds such a place with three periods after it. If the nearest distance isn't the loop's, the text breaks it within two periods,
and what is looked for next includes the break; so the loop's own distance is found after a few steps at most.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Rule:
    """What counts as a loop."""

    copies: int = 4  # of the stretch, in a row; the search rests on 4 or more
    length: int = 800  # characters of all copies together, at least
    period: int = 1000  # characters of the stretch, at most


class Loop(NamedTuple):
    """Where a loop stands, characters `start` to `end` (end excluded), and how long the repeated stretch is."""

    start: int
    end: int
    period: int

    @property
    def repeated(self) -> int:
        """The characters that say nothing new: all after the first copy."""
        return self.end - self.start - self.period


RULE = Rule()
_FEW = 64  # characters that are looked for


def loops(text: str, rule: Rule = RULE) -> list[Loop]:
    """The loops of a text in order. They don't overlap: the search for the next one begins where one ends."""
    found: list[Loop] = []
    step, width, find = rule.length // 4, _width(rule), text.find
    reaches = cycle(_reaches(rule))
    free = at = 0  # what stands before `free` belongs to a loop found
    last = len(text) - step
    while at < last:
        if find(text[at : at + width], at + 1, at + next(reaches)) < 0:  # most places: nothing comes again
            at += step
            continue
        loop = _around(text, at, free, rule)
        if loop is None:
            at += step
        else:
            found.append(loop)
            free = at = loop.end
            reaches = cycle(_reaches(rule))
    return found


@lru_cache(maxsize=8)
def _reaches(rule: Rule) -> tuple[int, ...]:
    """How far ahead each place is searched, in turn.

    The loop of a long period is long itself, so every second place or every fourth is enough to meet it early: a loop of the
    period p is met within its first max(length / 4, p) characters, with three periods to come.
    """
    step, reaches = rule.length // 4, [rule.period]
    while step * len(reaches) < rule.period:
        reaches = [*reaches, *(min(reach, 2 * step * len(reaches)) for reach in reaches)]
    return tuple(reach + _width(rule) for reach in reaches)


def repeated_share(text: str) -> float:
    """The share of a text, from 0 to 1, that loops add after their first copies."""
    return sum(loop.repeated for loop in loops(text)) / len(text) if text else 0.0


def _width(rule: Rule) -> int:
    """How many characters of a place must come again: few enough for the shortest loop."""
    return min(32, rule.length // 4)


def _around(text: str, at: int, free: int, rule: Rule) -> Loop | None:
    """The loop that holds the place `at`, with the least distance at which the text comes again there; None without one."""
    end = at + min(_FEW, rule.length // 4)
    while True:
        again = text.find(text[at:end], at + 1, end + rule.period)
        if again < 0:
            return None
        period = again - at
        last = _last_equal(text, end, period)
        least = max(rule.length, rule.copies * period)
        if last - at >= least - max(rule.length // 4, period):  # else it's too short: an earlier place would have met it
            start = at
            while start > free and text[start - 1] == text[start - 1 + period]:
                start -= 1
            if last - start >= least:
                return Loop(start, last, period)
        if last == len(text):
            return None
        end = last + 1


def _last_equal(text: str, at: int, period: int) -> int:
    """The end of the stretch that begins before `at` and repeats itself at the distance `period`, which it does up to `at`."""
    place, size = at, 64
    while size:
        ahead = text[place + period : place + period + size]
        if ahead and text[place : place + len(ahead)] == ahead:
            place += len(ahead)
            size *= 2
        else:
            size = min(size, len(ahead)) // 2
    return place + period
