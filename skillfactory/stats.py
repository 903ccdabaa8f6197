"""Shares with their intervals, and spreads of lengths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054  # the normal quantile of a two-sided 95 % interval


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `n` with its 95 % Wilson interval; the three are None where n is 0: not known is not 0."""

    count: int
    n: int
    share: float | None
    low: float | None
    high: float | None


def share(count: int, n: int) -> Share:
    """The share `count / n` with its 95 % Wilson score interval (Wilson 1927), which takes the n to be independent."""
    if not 0 <= count <= n:
        raise ValueError(f"expected 0 <= count <= n, came count {count}, n {n}")
    if n == 0:
        return Share(0, 0, None, None, None)
    low, high = wilson(count, n)
    return Share(count, n, count / n, low, high)


def wilson(count: int, n: int, z: float = Z95) -> tuple[float, float]:
    """The Wilson score interval of a share `count / n`, n above 0; it holds the share itself, at 0 and 1 too."""
    p = count / n
    scale = 1 + z * z / n
    middle = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    return (0.0 if count == 0 else middle - half), (1.0 if count == n else middle + half)


@dataclass(frozen=True, slots=True)
class Spread:
    """How lengths are spread: n of them, their mean, 5th, 50th and 95th percentile and maximum."""

    n: int
    mean: float
    p5: float
    p50: float
    p95: float
    max: int


def spread(lengths: Sequence[int]) -> Spread | None:
    """The spread of `lengths`, percentiles interpolated linearly; None if there are none."""
    if not len(lengths):
        return None
    values = np.asarray(lengths)
    p5, p50, p95 = (float(q) for q in np.percentile(values, (5, 50, 95)))
    return Spread(len(values), float(values.mean()), p5, p50, p95, int(values.max()))
