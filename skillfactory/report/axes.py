"""Axes of plots: round tick marks, scales from values to coordinates, and fewer points where there are too many to see."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

_BEYOND = 1e100  # numbers past this are accidents: they would leave no room for the others


def can_be_drawn(value: float | None) -> bool:
    """Whether a value is known, finite and not absurd."""
    return value is not None and -_BEYOND < value < _BEYOND


def drawable(values: Iterable[float | None]) -> list[float]:
    """The values that can be drawn."""
    return [value for value in values if value is not None and can_be_drawn(value)]


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from `ticks[0]`…`ticks[-1]` to the coordinates `start`…`end`."""

    ticks: tuple[float, ...]
    start: float
    end: float

    def at(self, value: float) -> float:
        """The coordinate of a value; values outside stop at the ends."""
        low, high = self.ticks[0], self.ticks[-1]
        part = min(1.0, max(0.0, (value - low) / (high - low)))
        return self.start + part * (self.end - self.start)

    def moved(self, start: float, end: float) -> "Axis":
        """The same scale elsewhere."""
        return Axis(self.ticks, start, end)


def axis(values: Iterable[float | None], least: float = 0.0, wanted: int = 4) -> Axis:
    """A scale that holds zero, `least` and all values that can be drawn, its ends on round tick marks."""
    found = [0.0, least, *drawable(values)]
    low, high = min(found), max(found)
    if high - low < 1e-9:
        high = low + 1
    step = _round(max((high - low) / wanted, 1e-12))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(tuple(index * step for index in range(first, last + 1)), 0.0, 1.0)


def _round(size: float) -> float:
    """The next round step of at least `size`: 1, 2, 2.5 or 5 times a power of ten."""
    power = float(10.0 ** math.floor(math.log10(size)))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor >= size * (1 - 1e-9))


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most `most` points: neighbours are put together, as their mean; the order stays."""
    if len(points) <= most:
        return list(points)
    ends = [len(points) * index // most for index in range(most + 1)]
    bins = [points[start:end] for start, end in pairwise(ends)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in bins]


def apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places moved so that neighbours stand at least `gap` apart, within `low`…`high` as far as there is room."""
    order = sorted(range(len(places)), key=lambda index: (places[index], index))
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    moved = list(places)
    floor = low
    for index in order:
        moved[index] = floor = max(floor, places[index])
        floor += gap
    ceiling = high
    for index in reversed(order):
        moved[index] = ceiling = min(ceiling, moved[index])
        ceiling -= gap
    return moved
