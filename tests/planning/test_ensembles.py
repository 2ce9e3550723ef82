"""Planners judge every candidate in several members of an ensemble, and never in the one a cell lives in alone."""

import pytest
import torch
from design_problems import ensemble_problem
from tensordict import TensorDict

from perturbrl.evaluation.simulation import simulate
from perturbrl.planning.cross_entropy import CrossEntropySearch, ModelPredictiveControl
from perturbrl.planning.design_problem import Planner
from perturbrl.planning.exhaustive import ExhaustiveSearch
from perturbrl.planning.greedy import GreedyActions, GreedyDesign, expected_distances
from perturbrl.planning.lookahead import Lookahead
from perturbrl.planning.schedule_value import ScheduleValue


class Always(Planner):
    """The same dose for every cell at every step."""

    name = "always"

    def __init__(self, dose):
        self.dose = dose

    def plan(self, problem):
        return True

    def action(self, observed, step):
        return self.dose.expand(observed.batch_size[0], -1)


@pytest.mark.parametrize("n_cells", [1, 3, 40])
@pytest.mark.parametrize(
    "planner",
    [
        GreedyDesign(),
        ExhaustiveSearch(),
        Lookahead(depth=1),
        CrossEntropySearch(n_iterations=5),
        ModelPredictiveControl(CrossEntropySearch(n_iterations=5)),
    ],
    ids=lambda planner: planner.name,
)
def test_a_plan_must_hold_in_all_members(planner, n_cells):
    problem = ensemble_problem()
    assert planner.plan(problem)
    doses = simulate(problem, planner, torch.zeros(n_cells, 2)).doses
    assert (doses[:, 0, 0] == 0).all()
    assert (doses[:, 0, 1] > 0.9).all()


def test_actions_are_compared_in_the_same_members():
    problem = ensemble_problem(discrete=True)
    state, goal = torch.zeros(1, 2), torch.tensor([[2.0, 0.0]])
    used = torch.zeros(1, 2, dtype=torch.bool)
    nothing, gamble, sure = expected_distances(problem, state, goal, used, torch.Generator().manual_seed(0))[
        0
    ]
    assert (float(nothing), float(gamble)) == pytest.approx((2.0, 2.0), abs=1e-6)
    assert float(sure) == pytest.approx(1.7, abs=1e-6)
    planner = GreedyActions()
    assert planner.plan(problem)
    seen = TensorDict({"cell_state": state, "goal_state": goal, "used": used}, batch_size=[1])
    assert planner.action(seen, 0).tolist() == [2]


def test_schedules_are_compared_in_the_same_members():
    value = ScheduleValue.from_start(ensemble_problem())
    doses = torch.rand(30, 1, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.0])
    together = value(doses)
    assert torch.allclose(together, torch.zeros(30), atol=1e-6)
    assert torch.equal(value(doses[4:5]), together[4:5])


def test_designs_are_simulated_in_the_same_members():
    problem = ensemble_problem(horizon=2)
    problem.twin.start_from(torch.zeros(1, 2))
    planner = Always(torch.tensor([1.0, 0.0]))
    first, again = (simulate(problem, planner, torch.zeros(9, 2)) for _ in range(2))
    assert torch.equal(first.final, again.final)
    assert sorted(set(first.final[:, 0].tolist())) == [-2.0, 2.0]
