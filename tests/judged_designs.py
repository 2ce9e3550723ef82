"""Designs on a small linear twin, judged: what tests of tables, texts and figures start from."""

import torch
from linear_twin import linear_twin, normal

from perturbrl.envs.tasks import ReachCellState
from perturbrl.evaluation.design import UnseenCells, evaluate_designs
from perturbrl.planning.design_problem import DesignProblem, Planner


class Fixed(Planner):
    """Gives the doses it is told to, in the first step."""

    def __init__(self, name, dose):
        self.name, self.dose = name, torch.as_tensor(dose)

    def plan(self, problem):
        return True

    def action(self, observed, step):
        dose = self.dose if step == 0 else torch.zeros_like(self.dose)
        return dose.expand(observed.batch_size[0], -1)


EFFECTS = 2 * normal(5, 4)


def problem_of(horizon=1, shift=None, task=None, spread=0.3, **space):
    start = spread * normal(80, 4, seed=1)
    twin = linear_twin(EFFECTS, start=start, **space)
    goal = spread * normal(70, 4, seed=2) + (EFFECTS[0] + EFFECTS[1] if shift is None else shift)
    task = ReachCellState() if task is None else task
    task.aim(start, goal)
    return DesignProblem(twin, task, twin.perturbations, horizon, goal)


def held_out(shift=None, spread=0.3):
    target = spread * normal(60, 4, seed=4) + (EFFECTS[0] + EFFECTS[1] if shift is None else shift)
    return spread * normal(50, 4, seed=3), target


def evaluate(planners, problem=None, shift=None, label="G0+G1"):
    problem = problem_of(shift=shift) if problem is None else problem
    return evaluate_designs(problem, planners, UnseenCells(*held_out(shift)), label)


PAIR, NOTHING = [1.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 5
