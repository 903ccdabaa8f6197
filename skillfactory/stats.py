"""Shares with their intervals, spreads of lengths and F1, and means over seeds and questions with intervals.

Results of an arm are *groups*: arrays of seeds × questions, each cell the mean of that seed's responses to that question. The
mean of an arm is the mean over its groups, whatever their sizes. Seeds and questions are both samples of what might have been,
and cross: every seed met every question.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Groups = Sequence[Array]  # each seeds × questions

_ROUNDING = 1e-12  # equal shares, such as thirds, seem to differ by less
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
    return _wilson(count / n, n, z)


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    scale = 1 + z * z / n
    middle = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    return (0.0 if p == 0 else middle - half), (1.0 if p == 1 else middle + half)


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
    values = np.asarray(lengths)
    if not len(values):
        return None
    p5, p50, p95 = (float(q) for q in np.percentile(values, (5, 50, 95)))
    return Spread(len(values), float(values.mean()), p5, p50, p95, int(values.max()))


def spread_of(counts: Mapping[int, int]) -> Spread | None:
    """The spread of lengths that come as length → how often; that of `spread`, without the list."""
    values = np.array(sorted(counts))
    times = np.array([counts[value] for value in values.tolist()])
    ends = np.cumsum(times)  # values[i] stands at the places from ends[i - 1] to ends[i] of the sorted list
    if not len(values):
        return None
    n = int(ends[-1])

    def quantile(q: float) -> float:
        place = q * (n - 1)
        below, above = (values[np.searchsorted(ends, int(at), side="right")] for at in (place, math.ceil(place)))
        return float(below + (above - below) * (place % 1))

    return Spread(n, float(values @ times) / n, quantile(0.05), quantile(0.5), quantile(0.95), int(values[-1]))


def f1(true: int, false: int, missed: int) -> float | None:
    """F1 of a class from its true positives, false positives and false negatives; None if there are none of all three."""
    return 2 * true / total if (total := 2 * true + false + missed) else None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its standard error and 95 % interval, from `n` questions; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    se: float | None
    n: int
    df: float | None = None  # degrees of freedom of the t distribution that the interval rests on


def clustered_share(shares: Array) -> Estimate:
    """The mean of per-question shares (one number from 0 to 1 for each question) with an interval clustered by question."""
    n = len(shares)
    if not n:
        return Estimate(None, None, None, None, 0)
    se = float(np.std(shares, ddof=1) / math.sqrt(n)) if n > 1 else None
    return share_estimate(float(np.mean(shares)), se, n)


def mean_of_shares(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of shares of groups that have no question in common, each counting the same; None if one is undefined."""
    values = [estimate.value for estimate in estimates if estimate.value is not None]
    errors = [estimate.se for estimate in estimates if estimate.se is not None]
    n = sum(estimate.n for estimate in estimates)
    if not estimates or len(values) < len(estimates):
        return Estimate(None, None, None, None, n)
    se = math.hypot(*errors) / len(values) if len(errors) == len(values) else None
    return share_estimate(sum(values) / len(values), se, n)


def share_estimate(value: float, se: float | None, n: int, df: float | None = None) -> Estimate:
    """A share with the Wilson interval of the number of independent trials that would give its standard error.

    That is value (1 - value) / se², the effective sample size of Korn and Graubard (1998); n where all questions agree and
    the error is 0, so that a share of 0 or 1 has an interval too, as if each question had been asked once.
    `df`: degrees of freedom, if they aren't n - 1.
    """
    value = min(1.0, max(0.0, value))
    variance = value * (1 - value)
    trials = variance / se**2 if se is not None and se > _ROUNDING and variance > 0 else float(n)
    trials = min(max(trials, 1.0), 1e15)
    quantile = t95(df) if df is not None else Z95 if n > 100 else t95(max(n - 1, 1))
    low, high = _wilson(value, trials, quantile)
    return Estimate(value, low, high, se, n, df)


def mean(arm: Groups) -> Estimate:
    """The mean of an arm's results; the interval is of new questions and, from two seeds on, of new seeds too."""
    _check([arm])
    return _normal(_mean(arm), *_variance([arm]), _size(arm))


def difference(arm: Groups, other: Groups, paired_seeds: bool = False, guarded: bool = False) -> Estimate:
    """The mean of `arm` minus that of `other`, which met the same questions in the same order; the interval is paired by them.

    `paired_seeds` if equal rows belong together (the same base, traces and data order), so that their noise cancels too.
    `guarded`: see `difference_of_shares`.
    """
    _check([arm, other], paired_seeds)
    parts = [[a - b for a, b in zip(arm, other, strict=True)]] if paired_seeds else [arm, [-table for table in other]]
    return _normal(_mean(arm) - _mean(other), *_variance(parts, guarded), _size(arm))


def difference_of_shares(arm: Groups, other: Groups, paired_seeds: bool = False) -> Estimate:
    """The `difference` of shares: its interval stays within -1 and 1, and has a width where no question differs, too.

    The variance over questions is that with two more in each group, one won and one lost (Bonett and Price 2012; its centre
    stays). These differ as others do, by sum d² / sum |d|: by 1 where each was asked once, or where none differs.
    """
    found = difference(arm, other, paired_seeds, guarded=True)
    low, high = (None if bound is None else min(1.0, max(-1.0, bound)) for bound in (found.low, found.high))
    return replace(found, low=low, high=high)


def ratio(arm: Groups, other: Groups, paired_seeds: bool = False) -> Estimate:
    """The mean of `arm` over that of `other`, as `difference` else; both are means of numbers that are never negative.

    The interval is that of the logarithm, linearised at the means (the delta method). None where `other` has the mean 0, and no
    interval where `arm` has.
    """
    _check([arm, other], paired_seeds)
    top, bottom, n = _mean(arm), _mean(other), _size(arm)
    if bottom <= 0:
        return Estimate(None, None, None, None, n)
    if top <= 0:
        return Estimate(0.0, None, None, None, n)
    above, below = [table / top for table in arm], [-table / bottom for table in other]
    parts = [[a + b for a, b in zip(above, below, strict=True)]] if paired_seeds else [above, below]
    logarithm = _normal(math.log(top / bottom), *_variance(parts), n)
    if logarithm.low is None or logarithm.high is None or logarithm.se is None:
        return Estimate(top / bottom, None, None, None, n)
    return Estimate(top / bottom, math.exp(logarithm.low), math.exp(logarithm.high), top / bottom * logarithm.se, n)


def bootstrap(arms: Sequence[Groups], paired_seeds: bool = False, seed: int = 0, draws: int = 2000) -> Array:
    """The means of arms (arms × draws) in worlds where questions and seeds are drawn anew with replacement.

    Questions are drawn within each group, the same for all arms, and independently of them the seeds of each arm, or the
    same for all if they are paired: the pigeonhole bootstrap (Owen 2007). `percentiles` of any function of the rows is an
    interval. With few seeds it is too narrow: drawn anew, S seeds vary by (S - 1) / S as much.
    """
    _check(arms, paired_seeds)
    random = np.random.default_rng(seed)
    step = max(1, 2_000_000 // max(table.shape[1] for table in arms[0]))
    chunks = [_resampled(arms, paired_seeds, random, min(step, draws - start)) for start in range(0, draws, step)]
    return np.concatenate(chunks, axis=1)


def resampled_means(values: Array, seed: int = 0, draws: int = 2000) -> Array:
    """The means of `values`, one for each question, when as many questions are drawn anew with replacement (Efron 1979).

    `percentiles(means, len(values))` is a 95 % interval. Where all agree it has no width, unlike `clustered_share`.
    """
    different, times = np.unique(values, return_counts=True)
    random = np.random.default_rng(seed)
    step = max(1, 2_000_000 // max(len(different), 1))
    sizes = (min(step, draws - start) for start in range(0, draws, step))
    parts = [random.multinomial(len(values), times / len(values), size=size) @ different for size in sizes]
    return np.asarray(np.concatenate(parts) / len(values))


def percentiles(values: Array, questions: int | None = None) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile; a little further out if they stand for so many `questions`.

    Questions drawn anew vary by (n - 1) / n as much as new ones do, and few have longer tails than the normal. So the tails cut
    off are those of a normal variable beyond sqrt(n / (n - 1)) times t's quantile (Hesterberg 2015).
    """
    tail = 0.025
    if questions is not None and questions > 1:
        tail = math.erfc(math.sqrt(questions / (questions - 1)) * t95(questions - 1) / math.sqrt(2)) / 2
    low, high = np.percentile(values, (100 * tail, 100 * (1 - tail)))
    return float(low), float(high)


def _resampled(arms: Sequence[Groups], paired_seeds: bool, random: np.random.Generator, draws: int) -> Array:
    def weights(size: int) -> Array:
        return random.multinomial(size, np.full(size, 1 / size), size=draws) / size

    asked = [weights(table.shape[1]) for table in arms[0]]
    shared, rows = weights(len(arms[0][0])) if paired_seeds else None, []
    for arm in arms:
        trained = weights(len(arm[0])) if shared is None else shared
        rows.append(sum(((trained @ table) * w).sum(1) for table, w in zip(arm, asked, strict=True)) / len(arm))
    return np.array(rows)


def _variance(arms: Sequence[Groups], guarded: bool = False) -> tuple[float | None, float]:
    """The variance of the sum of the arms' means, and its degrees of freedom.

    Crossed random effects, by analysis of variance: seed means vary by seeds and noise, question means (summed over arms, as
    all met the same ones) by questions and noise, and the noise counted twice is taken off. Degrees of freedom: Satterthwaite
    1946. None where a single seed met a single question. `guarded`: see `difference_of_shares`.
    """
    groups, parts, noise = len(arms[0]), [], 0.0
    for arm in arms:
        seeds = len(arm[0])
        if seeds > 1:
            scores = np.mean([table.mean(1) for table in arm], axis=0)
            parts.append((float(np.var(scores, ddof=1)) / seeds, seeds - 1))
    for number in range(groups):
        tables = [arm[number] for arm in arms]
        asked = tables[0].shape[1]
        if asked > 1:
            scores = np.sum([table.mean(0) for table in tables], axis=0)
            scores = _guarded(scores) if guarded else scores
            parts.append((float(np.var(scores, ddof=1)) / len(scores) / groups**2, asked - 1))
            noise += sum(_noise(table) for table in tables if len(table) > 1) / groups**2
    if not parts:
        return None, 1.0
    total = max(sum(part for part, _ in parts) - noise, max(part for part, _ in parts))
    spread = sum(part**2 / df for part, df in parts)
    return total, max(1.0, total**2 / spread) if spread else math.inf


def _guarded(differences: Array) -> Array:
    """The differences of questions, and those of one question that is won and one that is lost."""
    sizes = np.abs(differences)
    size = sizes @ sizes / sizes.sum() if sizes.max() > _ROUNDING else 1.0
    return np.append(differences, [size, -size])


def _noise(table: Array) -> float:
    """The mean's variance that is neither of seeds nor of questions: the mean square of the interaction over the size."""
    seeds, asked = table.shape
    rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    return float((rest**2).sum() / ((seeds - 1) * (asked - 1)) / (seeds * asked))


def _normal(value: float, variance: float | None, df: float, n: int) -> Estimate:
    """The estimate with the t interval of a variance. Where all agree but for rounding, its error is 0."""
    if variance is None:
        return Estimate(value, None, None, None, n)
    se = math.sqrt(variance)
    if se < _ROUNDING:
        value, se = (value if abs(value) > _ROUNDING else 0.0), 0.0
    half = t95(df) * se
    return Estimate(value, value - half, value + half, se, n, df)


@lru_cache(maxsize=256)
def t95(df: float) -> float:
    """The quantile of Student's t for a two-sided 95 % interval, `df` at least 1, right to 0.001, from df 1.5 on to 0.00001.

    With t = sqrt(df) tan(x) the density is in proportion to cos(x) ** (df - 1), which is summed up and searched.
    """
    if df > 2000:
        return Z95 + (Z95**3 + Z95) / (4 * df)
    x = np.linspace(0, math.pi / 2, 50_001)
    heights = np.maximum(np.cos(x), 0) ** (df - 1)
    below = np.concatenate([[0.0], np.cumsum(heights[1:] + heights[:-1])])
    return float(math.sqrt(df) * math.tan(np.interp(0.95 * below[-1], below, x)))


def _mean(arm: Groups) -> float:
    return float(np.mean([table.mean() for table in arm]))


def _size(arm: Groups) -> int:
    return sum(table.shape[1] for table in arm)


def _check(arms: Sequence[Groups], paired_seeds: bool = False) -> None:
    """Raises ValueError for arms that aren't of the same groups of the same questions."""
    for arm in arms:
        if not arm or any(table.ndim != 2 or not table.size or len(table) != len(arm[0]) for table in arm):
            raise ValueError("expected an arm as a list of tables, seeds × questions, none empty, with equally many seeds")
        if [table.shape[1] for table in arm] != [table.shape[1] for table in arms[0]]:
            raise ValueError("expected the same groups of equally many questions in all arms")
        if paired_seeds and len(arm[0]) != len(arms[0][0]):
            raise ValueError("expected equally many seeds in arms whose seeds are paired")
