"""How likely a difference is by chance alone, and what is left of it where several were looked at."""

import math
from collections.abc import Sequence

from skillfactory.stats import Estimate

_STEPS = 10_000  # of the continued fraction, which takes about the square root of the larger parameter of them
_TINY = 1e-300


def p_value(found: Estimate) -> float | None:
    """The two-sided p-value of a difference from 0, which is below 0.05 where its 95 % interval leaves 0 out; None without one.

    Where all questions agree on a difference, so that there is no spread to hold it against, it is that of the sign test.
    """
    if found.value is None or found.se is None or found.df is None:
        return None
    if found.se == 0:
        return min(1.0, 2.0 ** (1 - found.n)) if found.value else 1.0
    return two_sided(found.value / found.se, found.df)


def two_sided(t: float, df: float) -> float:
    """The chance that Student's t with `df` degrees of freedom (infinite: the normal) is as far from 0 as `t` or farther."""
    if df > 1e6:
        return math.erfc(abs(t) / math.sqrt(2))
    return _incomplete_beta(df / (df + t * t), df / 2, 0.5)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """The p-values of a family adjusted by Holm's step-down method (Holm 1979), in their order.

    Whatever the dependence between them: if none of the differences is real, the chance that an adjusted value is at most 0.05
    anywhere is at most 5 %. An unknown value stays unknown, and counts as one of the family.
    """
    order = sorted((value, place) for place, value in enumerate(values) if value is not None)
    adjusted: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (value, place) in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * value))
        adjusted[place] = least
    return adjusted


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction on the side where that converges fast."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    return front * _continued(x, a, b) / a


def _continued(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1 / _apart(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 / _apart(1 + term * d), _apart(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _apart(value: float) -> float:
    """`value`, kept away from 0."""
    return value if abs(value) > _TINY else _TINY
