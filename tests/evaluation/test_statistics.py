import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, bootstrap, mannwhitneyu, norm
from scipy.stats import t as student_t
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from perturbrl.errors import DataError
from perturbrl.evaluation.statistics import (
    _resampled_shares,
    bootstrap_interval,
    holm_correction,
    improvement_interval,
    interquartile_mean,
    mean_interval,
    performance_profile,
    probability_of_improvement,
    wilson_interval,
)


def mean(scores):
    return scores.mean(axis=-1)


def coverage(make_interval, draw, truth, n_simulations):
    intervals = [make_interval(draw()) for _ in range(n_simulations)]
    return np.mean([interval.low <= truth <= interval.high for interval in intervals])


def test_interquartile_mean_by_hand():
    assert interquartile_mean(np.array([100.0, 3.0, 1.0, 2.0, 4.0, -50.0, 5.0, 6.0])) == 3.5
    rows = np.stack([np.arange(8.0), np.arange(8.0) + 1])
    np.testing.assert_allclose(interquartile_mean(rows), [3.5, 4.5])
    assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 3.0


def test_interval_of_a_mean_is_the_t_interval():
    scores = np.random.default_rng(0).normal(size=40)
    interval = bootstrap_interval([scores], mean, n_resamples=40_000)
    half = student_t.isf(0.025, 39) * scores.std(ddof=1) / np.sqrt(40)
    assert interval.estimate == pytest.approx(scores.mean())
    assert interval.low == pytest.approx(scores.mean() - half, abs=0.03 * half)
    assert interval.high == pytest.approx(scores.mean() + half, abs=0.03 * half)


def test_interval_over_many_cells_agrees_with_scipy():
    cells = np.random.default_rng(1).exponential(size=3000)
    ours = bootstrap_interval([cells], mean, n_resamples=4000)
    theirs = bootstrap((cells,), np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.06 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.06 * width)


def test_strata_keep_the_difference_between_tasks_out_of_the_interval():
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(4, 10))
    tasks = list(noise + np.array([[0.0], [100.0], [200.0], [300.0]]))
    interval = bootstrap_interval(tasks, mean)
    pooled = bootstrap_interval([np.concatenate(tasks)], mean)
    assert interval.high - interval.low < 1.2
    assert pooled.high - pooled.low > 50


def test_interval_is_seeded():
    scores = [np.random.default_rng(3).normal(size=10)]
    assert bootstrap_interval(scores, seed=1) == bootstrap_interval(scores, seed=1)
    assert bootstrap_interval(scores, seed=1) != bootstrap_interval(scores, seed=2)


# 1,200 simulations have a standard error of 0.6 points at 95 %.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_tasks", "n_seeds", "statistic"),
    [(1, 10, mean), (3, 10, interquartile_mean), (1, 100, interquartile_mean)],
)
def test_95_percent_intervals_cover_95_percent(n_tasks, n_seeds, statistic):
    rng = np.random.default_rng([n_tasks, n_seeds])
    covered = coverage(
        lambda strata: bootstrap_interval(
            strata, statistic, n_resamples=400, seed=int(rng.integers(1 << 30))
        ),
        lambda: list(rng.normal(size=(n_tasks, n_seeds))),
        truth=0.0,
        n_simulations=1200,
    )
    assert 0.93 <= covered <= 0.97


@pytest.mark.slow
def test_95_percent_improvement_intervals_cover_95_percent():
    rng = np.random.default_rng(5)
    shift = 0.5
    covered = coverage(
        lambda pair: improvement_interval(*pair, n_resamples=400, seed=int(rng.integers(1 << 30))),
        lambda: (list(rng.normal(shift, 1, size=(3, 10))), list(rng.normal(size=(3, 10)))),
        truth=norm.cdf(shift / np.sqrt(2)),
        n_simulations=1200,
    )
    assert 0.93 <= covered <= 0.97


def test_wilson_intervals_cover_95_percent_exactly_counted():
    n, p = 60, np.linspace(0.05, 0.95, 19)
    ends = [wilson_interval(k, n) for k in range(n + 1)]
    pmf = np.array([[binom.pmf(k, n, q) for k in range(n + 1)] for q in p])
    inside = np.array([[e.low <= q <= e.high for e in ends] for q in p])
    assert 0.93 <= (pmf * inside).sum(axis=1).mean() <= 0.97


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_agrees_with_statsmodels(k_and_n):
    k, n = k_and_n
    ours = wilson_interval(k, n)
    low, high = proportion_confint(k, n, method="wilson")
    assert ours.estimate == k / n
    assert ours.low == pytest.approx(low, abs=1e-12)
    assert ours.high == pytest.approx(high, abs=1e-12)


@pytest.mark.parametrize("n_tests", [1, 2, 7, 40])
def test_holm_agrees_with_statsmodels(n_tests):
    rng = np.random.default_rng(n_tests)
    for _ in range(3):
        p_values = rng.random(n_tests).round(1) ** rng.integers(1, 4)
        np.testing.assert_allclose(
            holm_correction(p_values), multipletests(p_values, method="holm")[1], atol=1e-15
        )


def test_holm_by_hand():
    np.testing.assert_allclose(holm_correction(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])


def test_probability_of_improvement_counts_pairs():
    x, y = [np.array([1.0, 2.0, 3.0]), np.array([5.0, 5.0])], [np.array([2.0, 0.0]), np.array([5.0, 9.0])]
    assert probability_of_improvement(x, y) == pytest.approx(np.mean([(0.5 + 4) / 6, (1.0) / 4]))
    assert probability_of_improvement(y, x) == pytest.approx(1 - probability_of_improvement(x, y))


def test_resampled_probability_is_that_of_the_resampled_runs():
    x, y = np.array([0.0, 1.0]), np.array([0.0, 1.0, 2.0])
    draws = itertools.product(itertools.product(x, repeat=2), itertools.product(y, repeat=3))
    exact = np.array([mannwhitneyu(a, b).statistic / 6 for a, b in draws])
    drawn = _resampled_shares(x, y, 20_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(exact.mean(), abs=0.01)
    assert drawn.std() == pytest.approx(exact.std(), abs=0.01)
    assert {round(value, 9) for value in drawn} == {round(value, 9) for value in exact}


def test_performance_profile_weighs_tasks_equally():
    strata = [np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 1.0])]
    profile = performance_profile(strata, np.array([-1.0, 0.0, 1.0, 2.5, 3.0]))
    np.testing.assert_allclose(profile, [1.0, (0.75 + 1.0) / 2, (0.5 + 0.0) / 2, 0.125, 0.0])


def test_area_under_a_profile_is_the_mean():
    scores = np.random.default_rng(6).random(500)
    grid = np.linspace(0, 1, 4001)
    area = np.trapezoid(performance_profile([scores], grid), grid)
    assert area == pytest.approx(scores.mean(), abs=1e-3)


def test_bad_input_is_named():
    with pytest.raises(DataError, match=r"two scores per task, not \[3, 1\]"):
        bootstrap_interval([np.ones(3), np.ones(1)])
    with pytest.raises(DataError, match="1 scores are not finite"):
        bootstrap_interval([np.array([1.0, np.nan])])
    with pytest.raises(DataError, match="1 and 2 tasks"):
        probability_of_improvement([np.ones(3)], [np.ones(3)] * 2)
    with pytest.raises(DataError, match="7 successes in 5 trials"):
        wilson_interval(7, 5)
    with pytest.raises(DataError, match="must be in"):
        holm_correction(np.array([0.5, np.nan]))


def test_the_interval_of_a_few_scores_is_students():
    found = mean_interval(np.array([1.0, 2.0]))
    half = student_t.isf(0.025, 1) * np.sqrt(0.5) / np.sqrt(2)
    assert found.estimate == 1.5
    assert found.low == pytest.approx(1.5 - half)
    assert found.high == pytest.approx(1.5 + half)


def test_one_score_has_no_interval_and_none_has_no_mean():
    found = mean_interval(np.array([3.0]))
    assert found.estimate == 3.0
    assert np.isnan(found.low)
    assert np.isnan(found.high)
    for scores in ([], [1.0, np.nan]):
        with pytest.raises(DataError, match="judge at least one condition"):
            mean_interval(np.array(scores, dtype=float))
