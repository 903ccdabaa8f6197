"""Shares with their intervals, spreads of lengths, pass@k and F1, and means over seeds and questions with their intervals.

Results of an arm are *groups*: arrays of seeds × questions, each cell the mean of that seed's responses to that question. The
mean of an arm is the mean over its groups, whatever their sizes. Seeds and questions are both samples of what might have been,
and cross: every seed met every question.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Groups = Sequence[Array]  # each seeds × questions

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
    if not len(lengths):
        return None
    values = np.asarray(lengths)
    p5, p50, p95 = (float(q) for q in np.percentile(values, (5, 50, 95)))
    return Spread(len(values), float(values.mean()), p5, p50, p95, int(values.max()))


def pass_at_k(n: int, right: int, k: int) -> float | None:
    """The chance that k of n responses, drawn without replacement, hold a right one; None if there are fewer than k.

    Unbiased for the chance that k new responses do (Chen et al. 2021, "Evaluating Large Language Models Trained on Code").
    """
    if not 0 <= right <= n or k < 1:
        raise ValueError(f"expected 0 <= right <= n and k of 1 or more, came right {right}, n {n}, k {k}")
    return None if k > n else 1 - math.comb(n - right, k) / math.comb(n, k)


def f1(true: int, false: int, missed: int) -> float | None:
    """F1 of a class from its true positives, false positives and false negatives; None if there are none of all three."""
    total = 2 * true + false + missed
    return 2 * true / total if total else None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its standard error and 95 % interval, from `n` questions; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    se: float | None
    n: int


def clustered_share(shares: Array) -> Estimate:
    """The mean of per-question shares (one number from 0 to 1 for each question) with an interval clustered by question."""
    n = len(shares)
    if not n:
        return Estimate(None, None, None, None, 0)
    se = float(np.std(shares, ddof=1) / math.sqrt(n)) if n > 1 else None
    return _share_estimate(float(np.mean(shares)), se, n)


def mean_of_shares(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of shares of groups that have no question in common, each counting the same; None if one is undefined."""
    values = [estimate.value for estimate in estimates if estimate.value is not None]
    errors = [estimate.se for estimate in estimates if estimate.se is not None]
    n = sum(estimate.n for estimate in estimates)
    if not estimates or len(values) < len(estimates):
        return Estimate(None, None, None, None, n)
    se = math.hypot(*errors) / len(values) if len(errors) == len(values) else None
    return _share_estimate(sum(values) / len(values), se, n)


def _share_estimate(value: float, se: float | None, n: int) -> Estimate:
    """A share with the Wilson interval of the number of independent trials that would give its standard error.

    That is value (1 - value) / se², the effective sample size of Korn and Graubard (1998); n where all questions agree and
    the error is 0, so that a share of 0 or 1 has an interval too, as if each question had been asked once.
    """
    value = min(1.0, max(0.0, value))
    variance = value * (1 - value)
    trials = variance / se**2 if se and variance > 0 else float(n)
    trials = min(max(trials, 1.0), 1e15)
    low, high = _wilson(value, trials, Z95 if n > 100 else t95(max(n - 1, 1)))
    return Estimate(value, low, high, se, n)


def mean(arm: Groups) -> Estimate:
    """The mean of an arm's results; the interval is of new questions and, from two seeds on, of new seeds too."""
    _check([arm])
    return _normal(_mean(arm), *_variance([arm]), _size(arm))


def difference(arm: Groups, other: Groups, paired_seeds: bool = False) -> Estimate:
    """The mean of `arm` minus that of `other`, which met the same questions in the same order; the interval is paired by them.

    `paired_seeds` if equal rows belong together (the same base, traces and data order), so that their noise cancels too.
    """
    _check([arm, other], paired_seeds)
    signed = [a - b for a, b in zip(arm, other, strict=True)] if paired_seeds else None
    parts: list[Groups] = [arm, [-table for table in other]] if signed is None else [signed]
    return _normal(_mean(arm) - _mean(other), *_variance(parts), _size(arm))


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
    parts: list[Groups] = [above, below]
    if paired_seeds:
        parts = [[a + b for a, b in zip(above, below, strict=True)]]
    logarithm = _normal(math.log(top / bottom), *_variance(parts), n)
    if logarithm.low is None or logarithm.high is None or logarithm.se is None:
        return Estimate(top / bottom, None, None, None, n)
    return Estimate(top / bottom, math.exp(logarithm.low), math.exp(logarithm.high), top / bottom * logarithm.se, n)


def bootstrap(arms: Sequence[Groups], paired_seeds: bool = False, seed: int = 0, draws: int = 2000) -> Array:
    """The means of arms (arms × draws) in worlds where questions and seeds are drawn anew with replacement.

    Questions are drawn within each group, the same for all arms, and independently of them the seeds of each arm, or the
    same for all if they are paired: the pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap", Annals of Applied
    Statistics 1). `percentiles` of any function of the rows is an interval that assumes no distribution. With few seeds it is
    too narrow (drawn anew, S seeds vary by (S - 1) / S as much): `difference` and `ratio` rest on t quantiles instead.
    """
    _check(arms, paired_seeds)
    random = np.random.default_rng(seed)
    step = max(1, 2_000_000 // max(table.shape[1] for table in arms[0]))
    chunks = [_resampled(arms, paired_seeds, random, min(step, draws - start)) for start in range(0, draws, step)]
    return np.concatenate(chunks, axis=1)


def percentiles(values: Array) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _resampled(arms: Sequence[Groups], paired_seeds: bool, random: np.random.Generator, draws: int) -> Array:
    def weights(size: int) -> Array:
        return random.multinomial(size, np.full(size, 1 / size), size=draws) / size

    asked = [weights(table.shape[1]) for table in arms[0]]
    shared = weights(len(arms[0][0])) if paired_seeds else None
    rows = []
    for arm in arms:
        trained = weights(len(arm[0])) if shared is None else shared
        rows.append(sum(((trained @ table) * w).sum(1) for table, w in zip(arm, asked, strict=True)) / len(arm))
    return np.array(rows)


def _variance(arms: Sequence[Groups]) -> tuple[float | None, float]:
    """The variance of the sum of the arms' means, and its degrees of freedom.

    Crossed random effects, by analysis of variance: seed means vary by seeds and noise, question means (summed over arms, as
    all met the same ones) by questions and noise, and the noise counted twice is taken off. Degrees of freedom: Satterthwaite
    1946. None where a single seed met a single question.
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
            parts.append((float(np.var(scores, ddof=1)) / asked / groups**2, asked - 1))
            noise += sum(_noise(table) for table in tables if len(table) > 1) / groups**2
    if not parts:
        return None, 1.0
    total = max(sum(part for part, _ in parts) - noise, max(part for part, _ in parts))
    spread = sum(part**2 / df for part, df in parts)
    return total, max(1.0, total**2 / spread) if spread else math.inf


def _noise(table: Array) -> float:
    """The mean's variance that is neither of seeds nor of questions: the mean square of the interaction over the size."""
    seeds, asked = table.shape
    rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    return float((rest**2).sum() / ((seeds - 1) * (asked - 1)) / (seeds * asked))


def _normal(value: float, variance: float | None, df: float, n: int) -> Estimate:
    if variance is None:
        return Estimate(value, None, None, None, n)
    se = math.sqrt(variance)
    half = t95(df) * se
    return Estimate(value, value - half, value + half, se, n)


@lru_cache(maxsize=256)
def t95(df: float) -> float:
    """The quantile of Student's t for a two-sided 95 % interval, `df` at least 1, right to 6 digits.

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
