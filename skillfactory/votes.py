"""What several responses to one question are worth together: pass@k, and the right answers of a majority vote."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from skillfactory.stats import Array


def pass_at_k(n: int, right: int, k: int) -> float | None:
    """The chance that k of n responses, drawn without replacement, hold a right one; None if there are fewer than k.

    Unbiased for the chance that k new responses do (Chen et al. 2021, "Evaluating Large Language Models Trained on Code").
    """
    if not 0 <= right <= n or k < 1:
        raise ValueError(f"expected 0 <= right <= n and k of 1 or more, came right {right}, n {n}, k {k}")
    return None if k > n else 1 - math.comb(n - right, k) / math.comb(n, k)


Votes = Sequence[tuple[int, float]]  # for each different answer: how many gave it, and the share of these that is right
EXACT_VOTES = 64  # responses to a question up to which votes are summed up, not drawn


def majority_at_k(votes: Votes, silent: int, k: int, seed: int = 0, draws: int = 2000) -> float | None:
    """The chance that the commonest answer of k responses, drawn without replacement, is right; None if there are fewer than k.

    The `silent` responses have no answer and no vote, and k that are all silent are not right. Of answers that are equally
    common each wins as often. Exact up to EXACT_VOTES responses; beyond, the mean of `draws` draws.
    """
    n = silent + sum(count for count, _ in votes)
    if silent < 0 or k < 1 or any(count < 1 or not 0 <= right <= 1 for count, right in votes):
        raise ValueError(f"expected k and counts of 1 or more and shares from 0 to 1, came k {k}, silent {silent}, {votes}")
    if k > n:
        return None
    ordered = tuple(sorted(votes))
    return _majorities(ordered, silent)[k - 1] if n <= EXACT_VOTES else _drawn_majority(ordered, silent, k, seed, draws)


@lru_cache(maxsize=4096)
def _majorities(votes: tuple[tuple[int, float], ...], silent: int) -> tuple[float, ...]:
    """`majority_at_k` for every k from 1 to all: sums over all draws, by polynomials.

    Where the answer wins with m votes, every other one has m (a tie) or fewer. The ways to draw so are the coefficients of a
    product: for the answer given c times, sum of C(c, j) x**j over j < m, and y C(c, m) x**m. x counts the responses drawn, y
    the ties; t ties leave the answer 1 / (t + 1) of the wins.
    """
    n = silent + sum(count for count, _ in votes)
    right = np.zeros(n + 1)
    for place, (count, share_right) in enumerate(votes):
        others = votes[:place] + votes[place + 1 :]
        for m in range(1, count + 1) if share_right else ():
            ties = sum(other >= m for other, _ in others)
            ways = np.zeros((n + 1, ties + 1))
            ways[m, 0] = math.comb(count, m)
            for other, _ in others:
                ways = _times(ways, other, m)
            won = ways @ (1 / np.arange(1, ties + 2))
            right += share_right * np.convolve(won, [math.comb(silent, j) for j in range(silent + 1)])[: n + 1]
    return tuple(float(right[k] / math.comb(n, k)) for k in range(1, n + 1))


def _times(ways: Array, count: int, m: int) -> Array:
    """`ways`, multiplied with those to draw up to m of the `count` responses that give another answer."""
    size, product = len(ways), ways.copy()
    for j in range(1, min(count, m - 1) + 1):
        product[j:] += math.comb(count, j) * ways[: size - j]
    if count >= m:
        product[m:, 1:] += math.comb(count, m) * ways[: size - m, :-1]
    return product


def _drawn_majority(votes: Votes, silent: int, k: int, seed: int, draws: int) -> float:
    random = np.random.default_rng(seed)
    counts = random.multivariate_hypergeometric([count for count, _ in votes] + [silent], k, size=draws)[:, :-1]
    most = counts.max(1, initial=0, keepdims=True)
    winners = (counts == most) & (most > 0)
    return float(np.mean((winners @ np.array([right for _, right in votes])) / np.maximum(winners.sum(1), 1)))
