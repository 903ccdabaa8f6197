"""Shares and spreads, against scipy and numpy."""

import random

import pytest
from scipy.stats import binomtest

from skillfactory.stats import Share, share, spread, wilson


@pytest.mark.parametrize("n", [1, 2, 7, 50, 1000, 10**7])
def test_the_interval_is_scipys(n: int) -> None:
    for count in {0, 1, n // 3, n // 2, n - 1, n}:
        theirs = binomtest(count, n).proportion_ci(0.95, method="wilson")
        assert wilson(count, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_interval_holds_the_share_and_stays_within_0_and_1() -> None:
    random.seed(3)
    for _ in range(500):
        n = random.randint(1, 300)
        found = share(random.randint(0, n), n)
        assert found.low is not None
        assert found.share is not None
        assert found.high is not None
        assert 0 <= found.low <= found.share <= found.high <= 1


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    random.seed(5)
    inside = 0
    for _ in range(2000):
        low, high = wilson(sum(random.random() < 0.2 for _ in range(60)), 60)
        inside += low <= 0.2 <= high
    assert 0.93 <= inside / 2000 <= 0.97


def test_a_share_of_nothing_is_unknown_rather_than_0() -> None:
    assert share(0, 0) == Share(0, 0, None, None, None)


def test_more_than_all_is_refused() -> None:
    with pytest.raises(ValueError, match="count 3, n 2"):
        share(3, 2)


def test_a_spread_gives_the_percentiles_of_the_lengths() -> None:
    found = spread(range(101))
    assert found is not None
    assert (found.n, found.mean, found.p5, found.p50, found.p95, found.max) == (101, 50, 5, 50, 95, 100)


def test_no_lengths_have_no_spread() -> None:
    assert spread([]) is None
