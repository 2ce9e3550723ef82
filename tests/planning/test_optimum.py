from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_twin import normal
from scipy.optimize import lsq_linear, minimize

from perturbrl.planning.optimum import givable_dose, optimal_dose
from perturbrl.twins.perturbations import PerturbationSpace


def space_of(n, low=-0.5, high=1.0, **options):
    return PerturbationSpace([f"G{i}" for i in range(n)], low, high, **options)


def left(effects, shift, total):
    return float(np.linalg.norm(shift.double().numpy() - total @ effects.double().numpy()))


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_box_optimum_agrees_with_a_general_minimiser(horizon):
    effects, shift = normal(4, 6), 3 * normal(6, seed=1)
    total = optimal_dose(effects, shift, space_of(4), horizon)
    e, s = effects.double().numpy(), shift.double().numpy()
    oracle = minimize(
        lambda x: np.sum((x @ e - s) ** 2), np.zeros(4), bounds=[(-0.5 * horizon, horizon)] * 4, tol=1e-14
    )
    assert left(effects, shift, total) == pytest.approx(oracle.fun**0.5, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([-1.0, 0.0]))
def test_with_few_perturbations_it_is_the_best_of_all_supports(seed, limit, low):
    effects, shift = normal(6, 4, seed=seed), 2 * normal(4, seed=seed + 1)
    total = optimal_dose(effects, shift, space_of(6, low, max_perturbations=limit), 1)
    e, s = effects.double().numpy(), shift.double().numpy()
    best = min(
        np.linalg.norm(s - lsq_linear(e[list(chosen)].T, s, (low, 1.0), tol=1e-12).x @ e[list(chosen)])
        for chosen in combinations(range(6), limit)
    )
    assert left(effects, shift, total) == pytest.approx(best, abs=1e-6)
    assert np.count_nonzero(total) <= limit
    assert ((total >= low) & (total <= 1.0)).all()


def test_equal_effects_are_no_obstacle():
    effects = torch.ones(4, 3)
    total = optimal_dose(effects, torch.full((3,), 1.5), space_of(4, 0.0, max_perturbations=2), 1)
    assert left(effects, torch.full((3,), 1.5), total) < 1e-6
    assert np.count_nonzero(total) == 2


def test_effects_of_nothing_are_no_obstacle():
    total = optimal_dose(torch.zeros(4, 3), torch.ones(3), space_of(4, max_perturbations=2), 1)
    assert total.shape == (4,)
    assert np.isfinite(total).all()


def test_a_measured_pair_is_found_among_a_hundred():
    effects = normal(105, 20)
    total = optimal_dose(effects, effects[17] + effects[63], space_of(105, 0.0, max_perturbations=2), 1)
    assert np.flatnonzero(total).tolist() == [17, 63]
    np.testing.assert_allclose(total[[17, 63]], 1.0, atol=1e-6)


def test_too_many_sets_are_not_tried():
    assert optimal_dose(normal(300, 5), normal(5), space_of(300, max_perturbations=4), 1) is None


def test_small_doses_are_left_out_and_the_rest_fitted_anew():
    effects = torch.cat((torch.eye(2), 0.01 * torch.ones(1, 2)))
    shift, space = torch.tensor([0.6, 0.02]), space_of(3, 0.0, min_dose=0.05)
    total = givable_dose(effects, shift, space, np.array([0.6, 0.02, 0.0]), 1)
    assert total.tolist() == [pytest.approx(0.6), 0.0, 0.0]


def test_what_can_be_given_is_left_alone():
    total = np.array([0.5, 0.0, 0.9])
    assert (givable_dose(normal(3, 2), normal(2), space_of(3, 0.0), total, 1) == total).all()


def test_an_optimum_of_many_small_doses_becomes_a_design_of_few():
    effects, space = normal(300, 10), space_of(300, 0.0)
    shift = effects[4] + effects[9]
    total = optimal_dose(effects, shift, space, 1)
    given = givable_dose(effects, shift, space, total, 1)
    assert ((given == 0) | (given > 0.05)).all()
    assert left(effects, shift, given) < 0.2 * float(shift.norm())
