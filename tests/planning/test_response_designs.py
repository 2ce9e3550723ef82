"""Planners on a twin whose combinations do not add up, and what they must not know of it."""

import pytest
import torch
from response_screen import response_twin, screen

from perturbrl.data.labels import Label
from perturbrl.envs.tasks import ReachCellState
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.planning.exhaustive import ExhaustiveSearch
from perturbrl.planning.planners import NearestPerturbationDesign, default_planners
from perturbrl.planning.schedule_value import ScheduleValue

TARGET = "GENE0000+GENE0003"


def problem(horizon: int = 1, **options: float) -> DesignProblem:
    """From controls to where the twin itself expects the target."""
    twin = response_twin(n_members=3) if options else response_twin()
    start = twin.place(twin.start_cells)
    dose = torch.zeros(len(start), twin.perturbations.n_perturbations)
    dose[:, [twin.perturbations.names.index(name) for name in Label.parse(TARGET).names]] = 1.0
    first = torch.zeros(len(start), dtype=torch.long)
    goal = twin.place(twin.next_state(twin.start_cells, dose, twin.draw_noise(len(start)), first))
    task = ReachCellState(**options)
    task.aim(start, goal, start)
    space = twin.perturbations.restrict(max_perturbations=2)
    return DesignProblem(twin, task, space, horizon, goal)


def test_what_needs_a_linear_twin_is_left_out_and_nothing_else() -> None:
    able = {planner.name for planner in default_planners() if planner.plan(problem())}
    assert able == {"no_op", "random", "nearest_perturbation", "greedy"}


@pytest.mark.parametrize("horizon", [1, 2])
def test_exhaustive_pairs_find_the_measured_pair(horizon: int) -> None:
    found = problem(horizon)
    schedule = ExhaustiveSearch().schedule_for(found)
    names = [name for name, dose in zip(found.space.names, schedule.amax(0), strict=True) if dose]
    assert names == list(Label.parse(TARGET).names)
    assert float(ScheduleValue.from_start(found)(schedule[None])) == pytest.approx(1.0, abs=1e-3)


def test_the_nearest_perturbation_is_that_of_the_twins_own_shifts() -> None:
    found = problem()
    cells, _ = screen()
    shifts = {name: cells.mean_of(name) - cells.mean_of("control") for name in found.space.names}
    nearest = min(shifts, key=lambda name: float((shifts[name] - found.shift).norm()))
    schedule = NearestPerturbationDesign().schedule_for(found)
    assert found.space.names[int(schedule[0].argmax())] == nearest


def test_uncertainty_has_its_price() -> None:
    dose = torch.zeros(2, 1, 5)
    dose[0, 0, [0, 3]] = dose[1, 0, [0, 4]] = 1.0  # measured together, and not
    free, priced = (ScheduleValue.from_start(problem(cost_uncertainty=price))(dose) for price in (1e-9, 1.0))
    paid = free - priced
    assert (paid > 0).all()
    assert paid[1] > paid[0]


def test_what_nobody_measured_has_its_price_once() -> None:
    dose = torch.zeros(2, 2, 5)
    dose[0, :, 0] = dose[1, :, 1] = 1.0
    told = []
    for price in (0.0, 0.25):
        found = problem(horizon=2, cost_unmeasured=price)
        found.twin.evidence = ("measured", "prior", *found.twin.evidence[2:])
        told.append(ScheduleValue.from_start(found)(dose))
    torch.testing.assert_close(told[0] - told[1], torch.tensor([0.0, 0.25]))
