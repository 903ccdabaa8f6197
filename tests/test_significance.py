"""Laws of p-values: they are those of other programs, and chance alone is significant as often as it should be."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from skillfactory.significance import holm, p_value, two_sided
from skillfactory.stats import Estimate, difference

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("df", [1.0, 1.5, 3.7, 10.0, 55.5, 499.0, 20_000.0, 900_000.0])
def test_the_tails_of_t_are_those_of_scipy(df: float) -> None:
    for t in (0.0, 1e-3, 0.1, 0.5, 1.0, 1.96, 3.0, 8.0, 30.0):
        expected = 2 * scipy_stats.t.sf(t, df)
        assert two_sided(t, df) == two_sided(-t, df) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_without_end_of_degrees_of_freedom_t_is_the_normal() -> None:
    assert two_sided(1.959963984540054, math.inf) == pytest.approx(0.05, rel=1e-12)


def test_a_p_value_is_below_5_percent_where_the_interval_leaves_0_out() -> None:
    for size in (3, 4, 6, 9, 15, 30, 60, 200) * 10:
        gains = RANDOM.normal(0.3, 1, (1, size))
        found = difference([gains], [np.zeros_like(gains)])
        p = p_value(found)
        assert found.low is not None
        assert found.high is not None
        assert p is not None
        assert (p < 0.05) == (found.low > 0 or found.high < 0)
        assert p == pytest.approx(scipy_stats.ttest_1samp(gains[0], 0).pvalue, rel=1e-6)


def test_p_values_without_a_spread_are_those_of_the_sign_test() -> None:
    gains = np.ones((1, 9))
    assert p_value(difference([gains], [gains])) == 1.0
    assert p_value(difference([gains], [0 * gains])) == pytest.approx(scipy_stats.binomtest(9, 9).pvalue)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("parts", [3, 7, 10])
def test_questions_that_agree_but_for_rounding_agree(parts: int, seeds: int) -> None:
    shares = np.array([[k / parts for k in range(1, parts + 1)]] * seeds)
    lower = np.array([[k / parts for k in range(parts)]] * seeds)
    for paired in (False, True):
        assert p_value(difference([shares], [lower], paired)) == pytest.approx(2 ** (1 - parts))
        assert p_value(difference([shares], [shares + 1e-17], paired)) == 1.0
    sums = np.array([[k / 10 + 0.2 for k in range(1, 8)]])
    equal = np.array([[(k + 2) / 10 for k in range(1, 8)]])
    assert p_value(difference([sums], [equal])) == 1.0, "0.1 + 0.2 is no more than 0.3"


def test_what_has_no_interval_has_no_p_value() -> None:
    assert p_value(Estimate(None, None, None, None, 0)) is None
    assert p_value(difference([np.ones((1, 1))], [np.zeros((1, 1))])) is None


def test_holms_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.01, None]) == [0.02, None]


def responses(arms: int, seeds: int, questions: int, samples: int, luck: float = 0.0) -> np.ndarray:
    """Shares of right responses, arms × seeds × questions, of equally good arms: questions and trainings differ by luck."""
    logits = RANDOM.normal(-0.5, 1.5, questions) + RANDOM.normal(0, luck, (arms, seeds, 1))
    return RANDOM.binomial(samples, 1 / (1 + np.exp(-logits))) / samples


def test_chance_alone_is_significant_5_times_in_100_and_5_times_in_100_families_at_most() -> None:
    plain, families, times, size = 0, 0, 2000, 3
    for _ in range(times):
        base, *arms = responses(1 + size, 1, 60, 4)
        values = [p_value(difference([arm], [base])) for arm in arms]
        plain += sum(value <= 0.05 for value in values if value is not None)
        families += min(value for value in holm(values) if value is not None) <= 0.05
    assert 0.04 < plain / (times * size) < 0.06
    assert families / times < 0.05 + 3 * math.sqrt(0.05 * 0.95 / times)


@pytest.mark.parametrize("paired", [True, False])
def test_seeds_that_differ_by_luck_are_no_difference(paired: bool) -> None:
    times, found = 400, 0
    for _ in range(times):
        one, other = responses(2, 5, 60, 2, luck=0.3)
        p = p_value(difference([one], [other], paired_seeds=paired))
        found += p is not None and p <= 0.05
    assert 0.015 < found / times < 0.085
