"""Worth of batches by goal: closed forms against draws and scipy."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from perturbrl.planning.experiment_goals import (
    ExperimentGoal,
    FindInteractions,
    LearnResponses,
    ReachTarget,
    expected_improvement,
)
from perturbrl.responses.joint_shifts import JointShifts

N, COMPONENTS = 6, 3


def beliefs(seed: int = 0, scale: float = 1.0) -> JointShifts:
    rng = np.random.default_rng(seed)
    roots = scale * rng.normal(size=(COMPONENTS, N, N))
    return JointShifts(
        np.eye(COMPONENTS, 5),
        rng.normal(size=(N, COMPONENTS)),
        roots @ roots.transpose(0, 2, 1),
        np.ones(COMPONENTS),
    )


def goals(seed: int) -> list[ExperimentGoal]:
    one, noise = beliefs(seed, 0.5), np.full((COMPONENTS, N), 0.1)
    wanted = np.tile(np.random.default_rng(seed + 1).normal(size=COMPONENTS), (N, 1))
    return [LearnResponses(one, noise), FindInteractions(one, noise), ReachTarget(one, noise, wanted, 4.0)]


@pytest.mark.parametrize(("mean", "sd", "best"), [(0.0, 1.0, 0.5), (2.0, 0.3, 1.0), (-1.0, 2.0, 0.0)])
def test_expected_improvement_is_the_integral_of_what_is_gained(mean: float, sd: float, best: float) -> None:
    exact, _ = quad(lambda x: max(best - x, 0.0) * norm.pdf(x, mean, sd), mean - 12 * sd, best, limit=200)
    assert expected_improvement(np.array([mean]), np.array([sd]), best) == pytest.approx([exact], abs=1e-8)


def test_a_sure_candidate_improves_by_what_it_is_nearer() -> None:
    found = expected_improvement(np.array([1.0, 3.0]), np.zeros(2), 2.0)
    assert found == pytest.approx([1.0, 0.0])


def test_moments_of_squared_distances_are_those_of_draws() -> None:
    one = beliefs()
    wanted = np.ones((N, COMPONENTS))
    goal = ReachTarget(one, np.full((COMPONENTS, N), 0.1), wanted, 3.0)
    rng = np.random.default_rng(5)
    sd = np.sqrt(np.einsum("jcc->cj", one.covariance))
    draws = one.mean - wanted + rng.standard_normal((400_000, N, COMPONENTS)) * sd
    squared = np.square(draws).sum(axis=2)
    mean, spread = goal.moments
    assert mean == pytest.approx(squared.mean(axis=0), rel=0.02)
    assert spread == pytest.approx(squared.std(axis=0), rel=0.03)


def test_the_improvement_of_a_batch_is_that_of_its_nearest_and_never_less_than_of_one() -> None:
    goal = goals(3)[2]
    alone = [goal.worth(np.array([one])) for one in range(N)]
    both = goal.worth(np.array([0, 1]))
    assert max(alone[:2]) - 1e-12 <= both <= alone[0] + alone[1] + 1e-12


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("goal", range(3))
def test_the_chosen_batch_is_worth_more_than_random_ones_and_each_is_chosen_once(
    seed: int, goal: int
) -> None:
    one = goals(seed)[goal]
    found = one.choose(3, np.ones(N)).candidates
    rng = np.random.default_rng(seed)
    random = np.mean([one.worth(rng.permutation(N)[:3]) for _ in range(50)])
    assert len(set(found.tolist())) == 3
    assert one.worth(found) >= random


def test_gains_add_up_to_the_batch() -> None:
    for goal in goals(0):
        found = goal.choose(4, np.ones(N))
        assert found.gains.sum() == pytest.approx(goal.worth(found.candidates))
        assert (np.diff(found.gains) <= 1e-9).all() or isinstance(goal, LearnResponses)


def test_what_is_possible_of_an_interaction_counts_once() -> None:
    """Two combinations whose deviations are one and the same: the second tells nothing that the first left open."""
    root = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.8]])
    one = JointShifts(np.eye(1, 5), np.zeros((3, 1)), (root @ root.T)[None], np.ones(1))
    goal = FindInteractions(one, np.full((1, 3), 1e-6))
    assert set(goal.choose(2, np.ones(3)).candidates.tolist()) in ({0, 2}, {1, 2})
    assert goal.worth(np.array([0, 1])) < goal.worth(np.array([0, 2]))


def test_costs_are_weighed() -> None:
    one = goals(0)[1]
    first = int(one.choose(1, np.ones(N)).candidates[0])
    costs = np.ones(N)
    costs[first] = 1000.0
    assert int(one.choose(1, costs).candidates[0]) != first
