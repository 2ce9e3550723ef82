"""Greedy one-step designs: at every step, what brings cells nearest to their goal at once."""

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Float, Int
from tensordict import TensorDictBase
from torch import Generator, Tensor

from perturbrl import schema
from perturbrl.planning.design_problem import DesignProblem, OpenLoop, Planner, Schedule
from perturbrl.planning.shortlist import among_few, too_many
from perturbrl.schema import CellState, Members, UsedMask, WholeState

GREEDY_LEVELS: Final = 8
GREEDY_CELLS: Final = 32
GREEDY_DRAWS: Final = 256
GREEDY_GAIN: Final = 1e-3
GREEDY_MOST: Final = 400
_TOGETHER: Final = 256
_ROWS: Final = 1 << 19


class GreedyDesign(OpenLoop):
    """Step by step, add the one perturbation and dose that lowers the mean distance most.

    Works on any twin, by simulating every candidate from the same start cells. Within a step it goes on
    adding until none lowers the distance by a thousandth of what the step began with, so it may use as many
    perturbations as the limits allow. Of thousands it looks at the most promising (see ``shortlist``).
    """

    name = "greedy"

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """Grow the schedule one perturbation at a time; ``None`` where too many would be simulated."""
        schedule = among_few(problem, GREEDY_MOST, self._grown)
        self.reason = too_many(problem) if schedule is None else ""
        return schedule

    @staticmethod
    def _grown(problem: DesignProblem) -> Schedule:
        generator = Generator(device=problem.twin.start_cells.device).manual_seed(problem.seed)
        state = problem.twin.initial_state(GREEDY_CELLS, generator)
        member = problem.twin.draw_members(GREEDY_CELLS, generator)
        goal = problem.task.goal_state(problem.twin.place(state))
        schedule = problem.no_dose()
        for step in range(problem.horizon):
            noise = problem.twin.draw_noise(GREEDY_CELLS, generator)
            used = (schedule != 0).any(0)
            reach = _one_step(problem, state, noise, member)
            schedule[step] = _add_while_it_helps(problem, schedule[step], used, goal, reach)
            state = reach(schedule[step][None])[0]
        return schedule


class GreedyActions(Planner):
    """At every step and from where each cell is now, the discrete action of least expected distance.

    Outcomes are drawn on the twin, the same noise and members for every action, up to ``GREEDY_DRAWS`` per state and
    action. Nothing is done where no action lowers the distance by a thousandth of what it is. Costs are not
    looked at, nor what comes after the next step. ``MacroMDP.greedy_policy`` is the same rule on the Hamming
    distance, solved exactly.
    """

    name = "greedy"

    def plan(self, problem: DesignProblem) -> bool:
        """Remember the problem; actions are chosen when the cells are seen."""
        self.problem, self._generator = problem, Generator(device=problem.space.low.device)
        return problem.space.discrete

    @torch.no_grad()
    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """The greedy action of each cell; cells in equal states get equal ones."""
        seen = [observed[key] for key in (schema.CELL_STATE, schema.GOAL_STATE, schema.USED)]
        distinct, place = torch.cat(seen, dim=1).unique(dim=0, return_inverse=True)
        first = torch.empty(len(distinct), dtype=torch.long, device=place.device)
        first[place] = torch.arange(len(place), device=place.device)
        state, goal, used = (values[first] for values in seen)
        if step == 0:
            self._generator.manual_seed(self.problem.seed)
        expected = expected_distances(self.problem, state, goal, used, self._generator)
        enough = (1 - GREEDY_GAIN) * (self.problem.twin.place(state) - goal).norm(dim=-1)
        least, best = expected.min(dim=1)
        return torch.where(least < enough, best, 0)[place]


def expected_distances(
    problem: DesignProblem, state: WholeState, goal: CellState, used: UsedMask, generator: Generator
) -> Float[Tensor, "cells actions"]:
    """Mean distance to the goal one step after each discrete action, by simulation."""
    n_actions = problem.space.n_actions
    n_draws = max(8, min(GREEDY_DRAWS, _ROWS // (n_actions * len(state))))
    noise = problem.twin.draw_noise(n_draws, generator)
    member = problem.twin.draw_members(n_draws, generator).repeat(n_actions)
    actions = torch.arange(n_actions, device=state.device).repeat_interleave(n_draws)

    def one(state: Tensor, goal: Tensor, used: Tensor) -> Tensor:
        dose, _ = problem.space.project(actions, used.expand(len(actions), -1))
        following = problem.twin.next_state(
            state.expand(len(actions), -1),
            problem.space.expand(dose),
            noise.repeat(n_actions, *(1 for _ in noise.shape[1:])),
            member,
        )
        return (problem.twin.place(following) - goal).norm(dim=-1).view(n_actions, n_draws).mean(dim=1)

    return torch.stack([one(*cell) for cell in zip(state, goal, used, strict=True)])


def _one_step(
    problem: DesignProblem, state: CellState, noise: Tensor, member: Members
) -> Callable[[Float[Tensor, "candidates perturbations"]], Float[Tensor, "candidates cells latent"]]:
    def reach(doses: Tensor) -> Tensor:
        n, cells = doses.shape[0], state.shape[0]
        every = problem.space.expand(doses).repeat_interleave(cells, 0)
        repeats = (n, *(1 for _ in noise.shape[1:]))
        following = problem.twin.next_state(
            state.repeat(n, 1), every, noise.repeat(repeats), member.repeat(n)
        )
        return following.view(n, cells, -1)

    return reach


def _add_while_it_helps(
    problem: DesignProblem,
    dose: Float[Tensor, " perturbations"],
    used: Tensor,
    goal: CellState,
    reach: Callable[[Tensor], Tensor],
) -> Float[Tensor, " perturbations"]:
    best = float(_mean_distances(problem, reach(dose[None]), goal)[0])
    least_gain = GREEDY_GAIN * best
    while True:
        columns, values = _candidates(problem, dose, used | (dose != 0))
        if len(columns) == 0:
            return dose
        parts = zip(columns.split(_TOGETHER), values.split(_TOGETHER), strict=True)
        reached = (reach(_with_one_more(dose, *part)) for part in parts)
        distance = torch.cat([_mean_distances(problem, states, goal) for states in reached])
        if not float(distance.min()) < best - least_gain:
            return dose
        best, chosen = float(distance.min()), distance.argmin()[None]
        dose = _with_one_more(dose, columns[chosen], values[chosen])[0]


def _mean_distances(
    problem: DesignProblem, states: Float[Tensor, "candidates cells state"], goal: CellState
) -> Float[Tensor, " candidates"]:
    place = problem.twin.place(states.flatten(0, 1)).view(*states.shape[:2], -1)
    return (place - goal).norm(dim=-1).mean(-1)


def _candidates(
    problem: DesignProblem, dose: Float[Tensor, " perturbations"], used: Tensor
) -> tuple[Int[Tensor, " candidates"], Float[Tensor, " candidates"]]:
    """Perturbations that may be added to a dose, and how much of each."""
    space = problem.space
    levels = torch.arange(1, GREEDY_LEVELS + 1, device=dose.device)[:, None] / GREEDY_LEVELS
    values = torch.cat((levels * space.high, levels * space.low))
    allowed = (values.abs() > space.least) & (dose == 0)
    if space.max_perturbations is not None and int(used.sum()) >= space.max_perturbations:
        allowed &= used
    return allowed.nonzero()[:, 1], values[allowed]


def _with_one_more(
    dose: Float[Tensor, " perturbations"], columns: Int[Tensor, " some"], values: Float[Tensor, " some"]
) -> Float[Tensor, "some perturbations"]:
    return dose.repeat(len(columns), 1).scatter(1, columns[:, None], values[:, None])
