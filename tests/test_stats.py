"""Shares, spreads and intervals, against scipy, numpy, known cases and simulated worlds."""

import math
import random
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest, t, ttest_rel

from skillfactory.stats import (
    Estimate,
    Groups,
    Share,
    bootstrap,
    clustered_share,
    difference,
    difference_of_shares,
    f1,
    mean,
    mean_of_shares,
    percentiles,
    ratio,
    share,
    spread,
    t95,
    wilson,
)
from skillfactory.votes import pass_at_k


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


@pytest.mark.parametrize("n", [1, 4, 34])
def test_pass_at_k_is_the_mean_over_all_draws_of_k_responses(n: int) -> None:
    for right in {0, 1, n // 2, n}:
        for k in {1, 2, min(n, 3)} - {k for k in (2, 3) if k > n}:
            draws = list(combinations([True] * right + [False] * (n - right), k))
            assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    assert pass_at_k(n, 0, n + 1) is None


def test_f1_is_the_harmonic_mean_of_precision_and_recall_and_unknown_without_any_case() -> None:
    assert f1(6, 2, 4) == pytest.approx(2 / (1 / (6 / 8) + 1 / (6 / 10)))
    assert f1(0, 3, 0) == 0
    assert f1(0, 0, 0) is None


@pytest.mark.parametrize("df", [1, 2, 3.5, 4, 10, 99.5, 1999, 2001, 1e6, math.inf])
def test_the_quantile_of_t_is_scipys(df: float) -> None:
    assert t95(df) == pytest.approx(t.ppf(0.975, df), abs=2e-6)


def covered(interval: Callable[[np.random.Generator], tuple[Estimate, float]], worlds: int = 2000) -> float:
    """How often an interval holds the truth."""
    random = np.random.default_rng(11)
    inside = 0
    for _ in range(worlds):
        found, truth = interval(random)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
    return inside / worlds


@pytest.mark.parametrize(("share", "samples"), [(0.02, 1), (0.3, 1), (0.3, 4), (0.9, 2)])
def test_the_interval_of_a_share_is_clustered_by_question(share: float, samples: int) -> None:
    """Half of the questions are twice as easy as the others, or nearly; responses to one are alike."""

    def world(random: np.random.Generator) -> tuple[Estimate, float]:
        ease = np.clip(share + np.where(random.random(150) < 0.5, 1, -1) * min(share, 1 - share) * 0.8, 0, 1)
        return clustered_share(random.binomial(samples, ease) / samples), share

    found = covered(world, worlds=2000)
    assert 0.93 <= found <= (0.97 if share > 0.1 else 0.98), "of three expected right ones each moves the interval far"


def test_a_share_of_0_has_an_interval_as_if_each_question_had_been_asked_once() -> None:
    found = clustered_share(np.zeros(200))
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(wilson(0, 200)[1])
    thirds = clustered_share(np.full(300, 1 / 3))
    assert (thirds.low, thirds.high) == pytest.approx(wilson(100, 300)), "equal shares are no certainty either"
    assert clustered_share(np.zeros(0)) == Estimate(None, None, None, None, 0)


def test_the_mean_of_shares_weighs_groups_equally() -> None:
    groups = [clustered_share(np.array(values)) for values in ([0.0, 1.0] * 50, [1.0, 1.0, 0.0, 1.0] * 5)]
    found = mean_of_shares(groups)
    assert found.value == pytest.approx((0.5 + 0.75) / 2)
    assert found.se == pytest.approx(math.hypot(groups[0].se or 0, groups[1].se or 0) / 2)
    assert mean_of_shares([groups[0], clustered_share(np.zeros(0))]).value is None


def study(random: np.random.Generator, seeds: int, levels: tuple[float, float], noise: float = 0.1) -> tuple[Groups, Groups]:
    """Two arms with the given means over two groups of the same questions, whose difficulty they share."""
    ease = [random.normal(0, 0.2, asked) for asked in (60, 90)]
    arms: list[Groups] = []
    for level in levels:
        trained = random.normal(0, 0.05, (seeds, 1)) if seeds > 1 else np.zeros((1, 1))
        arms.append([level + trained + each + random.normal(0, noise, (seeds, len(each))) for each in ease])
    return arms[0], arms[1]


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_interval_of_a_difference_covers_the_truth(seeds: int) -> None:
    assert (
        0.93 <= covered(lambda random: (difference(*study(random, seeds, (0.5, 0.3))), 0.2)) <= (0.975 if seeds == 3 else 0.97)
    )
    assert 0.93 <= covered(lambda random: (mean(study(random, seeds, (0.5, 0.3))[0]), 0.5)) <= 0.97


def won(random: np.random.Generator, asked: int, gain: float, lost: float) -> Groups:
    """One seed's differences: each question is won, lost or level."""
    return [random.choice([1.0, -1.0, 0.0], (1, asked), p=[gain + lost, lost, 1 - gain - 2 * lost])]


@pytest.mark.parametrize("lost", [0.0, 0.05])
@pytest.mark.parametrize(("asked", "gain"), [(24, 0.02), (24, 0.05), (48, 0.02), (100, 0.02), (100, 0.05), (500, 0.02)])
def test_a_difference_that_few_questions_show_is_held_at_least_as_often_as_told(asked: int, gain: float, lost: float) -> None:
    nothing = [np.zeros((1, asked))]
    found = covered(lambda random: (difference_of_shares(won(random, asked, gain, lost), nothing), gain))
    assert 0.93 <= found <= (0.97 if asked == 500 else 1), "of three that differ each moves the interval far"


def test_where_no_question_differs_the_interval_has_a_width_and_where_all_do_it_ends_at_1() -> None:
    none, all_ = [np.zeros((1, 24))], [np.ones((1, 24))]
    level = difference_of_shares(none, none)
    assert level.low is not None
    assert level.high is not None
    assert level.low == -level.high < -0.05
    best = difference_of_shares(all_, none)
    assert best.high == 1
    assert best.low is not None
    assert 0.8 < best.low < 1


def test_the_interval_of_a_mean_of_shares_covers_the_truth() -> None:
    def world(random: np.random.Generator) -> tuple[Estimate, float]:
        parts = [(0.3, 60), (0.6, 90), (0.8, 150)]
        return mean_of_shares([clustered_share(random.binomial(2, p, n) / 2) for p, n in parts]), 1.7 / 3

    assert 0.93 <= covered(world) <= 0.97


def test_the_interval_of_a_ratio_covers_the_truth() -> None:
    assert 0.93 <= covered(lambda random: (ratio(*study(random, 5, (0.9, 0.6))), 1.5)) <= 0.97


def test_one_seed_and_one_group_make_the_paired_t_test() -> None:
    a, b = np.random.default_rng(2).random((2, 40))
    theirs = ttest_rel(a, b).confidence_interval(0.95)
    found = difference([a[None]], [b[None]])
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    found = difference([a[:, None]], [b[:, None]], paired_seeds=True)  # forty seeds, one question
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_pairing_takes_off_what_seeds_have_in_common() -> None:
    random = np.random.default_rng(4)
    arm = study(random, 5, (0.5, 0.5), noise=0.01)[0]
    other = [table - 0.1 for table in arm]
    paired, apart = difference(arm, other, paired_seeds=True), difference(arm, other)
    assert paired.se == pytest.approx(0, abs=1e-9)
    assert apart.se is not None
    assert apart.se > 0.01


def test_the_bootstrap_agrees_with_the_formulas_where_seeds_are_many() -> None:
    arms = study(np.random.default_rng(5), 40, (0.6, 0.4))
    drawn = bootstrap(arms, draws=4000)
    for values, found in ((drawn[0] - drawn[1], difference(*arms)), (drawn[0] / drawn[1], ratio(*arms))):
        low, high = percentiles(values)
        assert found.low is not None
        assert found.high is not None
        assert (high - low) == pytest.approx(found.high - found.low, rel=0.08)
        assert (high + low) / 2 == pytest.approx((found.high + found.low) / 2, rel=0.05)


def test_the_bootstrap_is_a_function_of_its_seed() -> None:
    arms = study(np.random.default_rng(6), 3, (0.6, 0.4))
    assert (bootstrap(arms, draws=50) == bootstrap(arms, draws=50)).all()
    assert (bootstrap(arms, draws=50) != bootstrap(arms, seed=1, draws=50)).any()


def test_a_ratio_to_nothing_is_unknown() -> None:
    some, none = [np.full((2, 5), 0.5)], [np.zeros((2, 5))]
    assert ratio(some, none) == Estimate(None, None, None, None, 5)
    assert ratio(none, some) == Estimate(0.0, None, None, None, 5)


@pytest.mark.parametrize(
    ("arm", "other", "message"),
    [
        ([np.ones((2, 3))], [np.ones((2, 4))], "equally many questions"),
        ([np.ones((2, 3))], [np.ones((3, 3))], "equally many seeds in arms whose seeds are paired"),
        ([np.ones(3)], [np.ones(3)], "seeds × questions"),
        ([], [], "none empty"),
    ],
)
def test_arms_that_can_not_be_compared_are_refused(arm: Groups, other: Groups, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difference(arm, other, paired_seeds=True)


def test_the_variance_of_a_mean_holds_seeds_questions_and_noise_once_each() -> None:
    random = np.random.default_rng(8)
    seeds, asked, found = 10, 20, []
    for _ in range(500):
        trained, ease = random.normal(0, 0.5, (seeds, 1)), random.normal(0, 0.5, asked)
        found.append(mean([trained + ease + random.normal(0, 2, (seeds, asked))]).se)
    truth = 0.25 / seeds + 0.25 / asked + 4 / (seeds * asked)
    assert np.mean(np.square(np.array(found))) == pytest.approx(truth, rel=0.15)
