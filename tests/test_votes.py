"""Votes, quantiles of counted lengths and intervals by resampling, against brute force, numpy, scipy and simulated worlds."""

import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import bootstrap as theirs
from scipy.stats import multivariate_hypergeom, t

from skillfactory.stats import (
    clustered_share,
    percentiles,
    resampled_means,
    spread,
    spread_of,
)
from skillfactory.votes import EXACT_VOTES, majority_at_k, pass_at_k

Votes = list[tuple[int, float]]


def by_hand(votes: Votes, silent: int, k: int) -> float:
    """The mean over every draw of k responses."""
    said = [place for place, (count, _) in enumerate(votes) for _ in range(count)] + [-1] * silent
    found = []
    for drawn in combinations(said, k):
        counts = Counter(place for place in drawn if place >= 0)
        winners = [place for place in counts if counts[place] == max(counts.values())]
        found.append(sum(votes[place][1] for place in winners) / len(winners) if winners else 0.0)
    return sum(found) / len(found)


def test_the_vote_is_the_mean_over_all_draws_of_k_responses() -> None:
    dice = random.Random(1)
    for _ in range(40):
        votes = [(dice.randint(1, 4), dice.choice([0, 1, 0.5])) for _ in range(dice.randint(0, 4))]
        silent = dice.randint(0, 2)
        for k in range(1, min(7, silent + sum(count for count, _ in votes)) + 1):
            assert majority_at_k(votes, silent, k) == pytest.approx(by_hand(votes, silent, k), abs=1e-12)


@pytest.mark.parametrize(
    ("votes", "silent", "k", "expected"),
    [
        ([(3, 1.0), (2, 0.0)], 0, 5, 1.0),
        ([(2, 1.0), (2, 0.0)], 0, 4, 0.5),  # a tie
        ([(1, 1.0), (1, 0.0), (1, 0.0)], 7, 10, 1 / 3),  # the silent have no vote
        ([(1, 1.0)], 3, 1, 0.25),  # alone, a silent one is not right
        ([], 4, 2, 0.0),
        ([(4, 0.5)], 0, 4, 0.5),  # one answer, graded both ways
        ([(4, 1.0)], 0, 5, None),
    ],
)
def test_ties_are_shared_and_the_silent_have_no_vote(votes: Votes, silent: int, k: int, expected: float | None) -> None:
    assert majority_at_k(votes, silent, k) == pytest.approx(expected)


def test_the_vote_of_one_is_accuracy_and_the_vote_of_two_different_answers_is_too() -> None:
    votes = [(5, 1.0), (2, 0.0), (9, 0.0)]
    assert majority_at_k(votes, 4, 1) == pytest.approx(5 / 20) == pytest.approx(pass_at_k(20, 5, 1))
    assert majority_at_k([(5, 1.0), (4, 0.0)], 0, 2) == pytest.approx(5 / 9)


def test_many_responses_are_drawn_by_the_seed_and_agree_with_the_sum() -> None:
    votes = [(30, 1.0), (40, 0.0), (20, 0.0)]
    assert sum(count for count, _ in votes) > EXACT_VOTES
    drawn = majority_at_k(votes, 10, 9, seed=3, draws=4000)
    assert drawn == majority_at_k(votes, 10, 9, seed=3, draws=4000)
    law = multivariate_hypergeom([30, 40, 20, 10], 9)
    exact = 0.0
    for a in range(10):
        for b in range(10 - a):
            for c in range(10 - a - b):
                most = max(a, b, c)
                if a == most > 0:
                    exact += law.pmf([a, b, c, 9 - a - b - c]) / [a, b, c].count(most)
    assert drawn == pytest.approx(exact, abs=0.025)


@pytest.mark.parametrize(("votes", "silent", "k"), [([(0, 1.0)], 0, 1), ([(1, 2.0)], 0, 1), ([(1, 1.0)], -1, 1), ([], 2, 0)])
def test_votes_that_can_not_be_are_refused(votes: Votes, silent: int, k: int) -> None:
    with pytest.raises(ValueError, match="expected k and counts of 1 or more"):
        majority_at_k(votes, silent, k)


@pytest.mark.parametrize("n", [1, 2, 3, 20, 999])
def test_the_spread_of_counted_lengths_is_that_of_the_list(n: int) -> None:
    lengths = np.random.default_rng(n).integers(0, 40, n).tolist()
    assert spread_of(Counter(lengths)) == spread(lengths)
    assert spread_of({}) is None


def test_resampling_agrees_with_scipys_bootstrap() -> None:
    values = np.random.default_rng(4).choice([0, 0.25, 0.5, 1.0], 300)
    found = percentiles(resampled_means(values, draws=9000))
    expected = theirs((values,), np.mean, method="percentile", n_resamples=9000, random_state=5, batch=1000)
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=0.004)


def test_resampling_is_a_function_of_its_seed_and_needs_no_spread() -> None:
    values = np.random.default_rng(4).random(50)
    assert (resampled_means(values, 1, 20) == resampled_means(values, 1, 20)).all()
    assert (resampled_means(values, 1, 20) != resampled_means(values, 2, 20)).any()
    assert percentiles(resampled_means(np.ones(9))) == (1, 1)


@pytest.mark.parametrize("what", ["accuracy", "pass@4", "majority@4"])
def test_an_interval_by_resampling_questions_covers_the_truth(what: str) -> None:
    """Questions of different ease: four responses to each, of which some are right and the wrong ones agree or don't."""
    worlds, asked = 2000, 120
    dice = np.random.default_rng(8)
    ease = dice.choice([0.1, 0.4, 0.9], (worlds, asked))
    counts = dice.multinomial(4, np.stack([ease, 0.6 * (1 - ease), 0.4 * (1 - ease)], axis=-1))  # right, one wrong, other

    def worth(a: int, b: int, c: int) -> float:
        if what == "accuracy":
            return a / 4
        votes = [(count, right) for count, right in ((a, 1.0), (b, 0.0), (c, 0.0)) if count]
        return (pass_at_k(4, a, 4) if what == "pass@4" else majority_at_k(votes, 0, 4)) or 0.0

    table = np.array([[[worth(a, b, 4 - a - b) if a + b <= 4 else 0.0 for b in range(5)] for a in range(5)]])[0]
    values = table[counts[..., 0], counts[..., 1]]
    truth = values.mean()  # 240,000 questions: its own error is a tenth of an interval's
    intervals = np.array([percentiles(resampled_means(each, number, 1000), asked) for number, each in enumerate(values)])
    covered = np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))
    assert 0.93 <= covered <= 0.97


def test_few_questions_move_the_percentiles_out_as_far_as_t_does() -> None:
    drawn = np.random.default_rng(2).normal(
        0, np.sqrt(4 / 5), 400_000
    )  # means of five, drawn anew, in units of the standard error
    assert percentiles(drawn, 5) == pytest.approx((-t.ppf(0.975, 4), t.ppf(0.975, 4)), abs=0.05)
    assert percentiles(drawn, 1) == percentiles(drawn)


def test_resampling_agrees_with_the_formula_where_a_share_is_far_from_0_and_1() -> None:
    values = np.random.default_rng(9).choice([0, 0.5, 1.0], 400)
    found, low_high = clustered_share(values), percentiles(resampled_means(values))
    assert (found.low, found.high) == pytest.approx(low_high, abs=0.006)
