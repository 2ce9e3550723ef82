"""Sets scored by products of matrices are those that trying every set finds."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_twin import normal
from scipy.optimize import minimize
from wide_twins import LATENT, problem_on, wide_linear_twin, wide_response_twin

from perturbrl.planning import best_sets, set_scores
from perturbrl.planning.best_sets import (
    best_singles,
    extended,
    fitted_pairs,
    full_pairs,
    full_singles,
    measured_sets,
    with_one_exchanged,
)
from perturbrl.planning.schedule_value import ScheduleValue
from perturbrl.planning.set_scores import SetScores

PRICES = {"cost_per_perturbation": 0.02, "cost_l1": 0.03}


def problem(seed=0, low=0.0, horizon=1, **prices):
    twin = wide_linear_twin(9, low=low)
    return problem_on(twin, normal(LATENT, seed=seed), horizon=horizon, **prices)


def best_by_trying(scores, size):
    """The best set of a linear twin, its doses by a general minimiser."""
    effects, way = scores.form(size)[0].double().numpy(), scores.way.double().numpy()
    low, high, price = (x.double().numpy() for x in (scores.low, scores.high, scores.per_dose))
    fixed = float(scores.fixed[0])

    def loss(doses, columns):
        left = np.linalg.norm(way - doses @ effects[columns]) / scores.unit
        return left + (price[columns] * np.abs(doses)).sum() + fixed * len(columns)

    found = []
    for chosen in combinations(range(len(low)), size):
        columns = list(chosen)
        bounds = list(zip(low[columns], high[columns], strict=True))
        starts = (0.3 * high[columns], 0.9 * high[columns], 0.5 * low[columns])
        ends = [minimize(loss, start, args=(columns,), bounds=bounds, tol=1e-10).fun for start in starts]
        found.append(scores.idle - min(ends))
    return max(found)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, -1.0]), st.booleans())
def test_the_best_pair_and_its_doses_are_those_of_a_general_minimiser(seed, low, priced):
    scores = SetScores.of(problem(seed, low, **(PRICES if priced else {})))
    found = fitted_pairs(scores, 36).with_fitted_doses(scores)
    tried = max(best_by_trying(scores, size) for size in (1, 2))  # a pair may leave one of its own undosed
    assert float(found.returns[0]) == pytest.approx(tried, abs=2e-3)
    recounted = scores.of_sets(found.columns, found.doses)
    torch.testing.assert_close(found.returns, recounted, atol=1e-5, rtol=1e-5)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, -1.0]))
def test_extending_every_pair_and_exchanging_finds_the_best_three(seed, low):
    scores = SetScores.of(problem(seed, low, **PRICES))
    pairs = fitted_pairs(scores, 36).with_fitted_doses(scores)
    three = extended(scores, pairs, 84).with_fitted_doses(scores)
    best = with_one_exchanged(scores, three, 84)
    assert float(best.returns[0]) >= float(three.returns[0]) - 1e-6
    tried = max(best_by_trying(scores, size) for size in (1, 2, 3))  # a set may leave one of its own undosed
    assert float(best.returns[0]) == pytest.approx(tried, abs=2e-3)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, -1.0]), st.booleans(), st.integers(1, 40))
def test_full_doses_are_scored_as_one_by_one(seed, low, spread_out, n):
    told = problem(seed, low, **PRICES)
    scores = SetScores.of(told)
    ends = [(i, dose) for i in range(9) for dose in ((1.0, low) if low else (1.0,))]
    every = [pair for pair in combinations(ends, 2) if pair[0][0] != pair[1][0]]
    columns = torch.tensor([[one[0] for one in pair] for pair in every])
    doses = torch.tensor([[one[1] for one in pair] for pair in every])
    expected = scores.of_sets(columns, doses).sort(descending=True).values
    found = full_pairs(scores, low * torch.ones(9), torch.ones(9), n)
    # Of one pair in several directions the best is kept.
    assert float(found.returns[0]) == pytest.approx(float(expected[0]), abs=1e-5)
    assert len({tuple(pair) for pair in found.columns.tolist()}) == len(found.columns)
    torch.testing.assert_close(
        scores.of_sets(found.columns, found.doses), found.returns, atol=1e-5, rtol=1e-5
    )
    if not low:
        torch.testing.assert_close(found.returns, expected[:n], atol=1e-5, rtol=1e-5)


def test_blocks_of_a_few_rows_find_the_same(monkeypatch):
    scores = SetScores.of(problem(3, -1.0, **PRICES))
    whole = fitted_pairs(scores, 7), full_pairs(scores, scores.low, scores.high, 7)
    whole += (extended(scores, whole[0], 7),)
    monkeypatch.setattr(best_sets, "AT_ONCE", 20)
    apart = fitted_pairs(scores, 7), full_pairs(scores, scores.low, scores.high, 7)
    apart += (extended(scores, apart[0], 7),)
    for one, other in zip(whole, apart, strict=True):
        assert torch.equal(one.columns, other.columns)
        torch.testing.assert_close(one.returns, other.returns)


@pytest.mark.parametrize("goal", ["shift", "centroid"])
@pytest.mark.parametrize("members", [1, 4])
def test_scores_are_what_the_twin_pays(goal, members):
    """Exactly so where all cells move alike; nearly so where ways or members differ."""
    twin = wide_response_twin(12, combinations=((2, 5),), n_members=members)
    told = problem_on(twin, normal(LATENT, seed=4), goal=goal, **PRICES)
    scores = SetScores.of(told)
    sets = full_pairs(scores, scores.low, scores.high, 66)
    totals = torch.zeros(len(sets.columns), 12).scatter(1, sets.columns, sets.doses)
    paid = ScheduleValue.from_start(told, 256)(told.schedules(totals))
    expected = sets.returns
    together = (sets.columns == torch.tensor([2, 5])).all(1)
    measured = measured_sets(scores, 2, 9)
    assert measured.columns.tolist() == [[2, 5]]
    expected = torch.where(together, measured.returns, expected)
    if members == 1 and goal == "shift":
        torch.testing.assert_close(paid, expected, atol=1e-4, rtol=1e-4)
    else:
        others = ~together if members > 1 else together | True
        assert np.corrcoef(paid[others], expected[others])[0, 1] > 0.97


def test_singles_at_full_doses_and_at_their_best():
    scores = SetScores.of(problem(1, -1.0, **PRICES))
    full = full_singles(scores, scores.low, scores.high, 9)
    best = best_singles(scores, 9)
    assert len(full.columns) == len(best.columns) == 9
    assert float(best.returns[0]) == pytest.approx(best_by_trying(scores, 1), abs=1e-4)
    by_column = dict(zip(best.columns[:, 0].tolist(), best.returns.tolist(), strict=True))
    assert all(
        by_column[c] >= r - 1e-6
        for c, r in zip(full.columns[:, 0].tolist(), full.returns.tolist(), strict=True)
    )


def test_prices_are_those_of_the_task(monkeypatch):
    monkeypatch.setattr(set_scores, "AT_ONCE", 20)
    scores = SetScores.of(problem(0, **PRICES))
    torch.testing.assert_close(scores.fixed, torch.full((9,), 0.02), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(scores.per_dose, torch.full((9,), 0.03), atol=1e-6, rtol=1e-4)
    assert scores.unit == pytest.approx(float(normal(LATENT, seed=0).norm()), rel=1e-4)
    assert scores.idle == pytest.approx(1.0, rel=1e-4)


def test_what_is_paid_for_closeness_counts_at_every_step():
    near = SetScores.of(problem(0, horizon=3, reward="closeness"))
    assert near.idle == pytest.approx(3.0, rel=1e-4)


def test_doses_that_add_up_may_be_given_at_every_step():
    assert SetScores.of(problem(0, horizon=3)).high.tolist() == [3.0] * 9
    assert (
        SetScores.of(problem_on(wide_response_twin(9), normal(LATENT), horizon=3)).high.tolist() == [1.0] * 9
    )


def test_uncertainty_has_its_price():
    twin = wide_response_twin(9, n_members=4)
    free, priced = (
        SetScores.of(problem_on(twin, normal(LATENT), cost_uncertainty=price)) for price in (1e-9, 0.5)
    )
    pairs = full_pairs(free, free.low, free.high, 36)
    variance = free.parts(2).variances[pairs.columns].sum(1)
    lost = pairs.returns - priced.of_sets(pairs.columns, pairs.doses)
    torch.testing.assert_close(lost, 0.5 * variance.sqrt() / free.unit, atol=1e-4, rtol=1e-3)


def test_what_nobody_measured_has_its_price():
    twin = wide_response_twin(9)
    problem = problem_on(twin, normal(LATENT), limit=2, cost_unmeasured=0.3)
    scores = SetScores.of(problem)
    assert scores.fixed.tolist() == pytest.approx([0.0 if i % 3 else 0.3 for i in range(9)])
    sets = full_pairs(scores, scores.low, scores.high, 36)
    totals = torch.zeros(len(sets.columns), 9).scatter(1, sets.columns, sets.doses)
    paid = ScheduleValue.from_start(problem)(problem.schedules(totals))
    others = ~(sets.columns == torch.tensor([0, 1])).all(1)  # measured together
    torch.testing.assert_close(paid[others], sets.returns[others], atol=1e-4, rtol=1e-4)


def test_there_are_no_scores_of_actions():
    assert SetScores.of(problem_on(wide_linear_twin(5, discrete=True), normal(LATENT))) is None
