"""Planners that try schedules one by one on the twin: what a policy has to beat at equal knowledge.

Like `CrossEntropySearch` they maximise `ScheduleValue`: what the task pays along the way, and then for the
relaxation after the last dose.
"""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from perturbrl.envs.schedule_returns import single_doses
from perturbrl.errors import ConfigurationError
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.schedule_value import (
    GROUP_CELLS,
    MOST_WORK,
    TOO_LONG,
    ScheduleValue,
    groups_of_cells,
)


class Lookahead(Planner):
    """k-step lookahead: at every step, give the first action of the best sequence of k, and look again.

    An action is one perturbation at one dose, or nothing. Cells in different states get different actions:
    they are sorted into at most ``n_groups`` groups by their state (one per state where there are so few),
    and each group's plan is made for a sample of its cells. Sequences are compared by the return over the
    next k steps and the relaxation after them; stopping early is a sequence, too. All sequences are tried
    while they are no more than ``max_sequences``; beyond that only the best partial ones are continued (a
    beam search). Where that would take minutes it cannot treat the problem.

    Args:
        depth: k.
        n_levels: dose levels of each perturbation in either direction, where doses are continuous.
        n_groups: groups of cells that are planned for apart.
        max_sequences: sequences simulated per depth, step and group.
    """

    def __init__(
        self, depth: int = 3, n_levels: int = 1, n_groups: int = 8, max_sequences: int = 4096
    ) -> None:
        if min(depth, n_levels, n_groups, max_sequences) < 1:
            raise ConfigurationError(
                f"lookahead got depth {depth}, {n_levels} levels, {n_groups} groups and {max_sequences} "
                "sequences; give at least 1 of each"
            )
        self.name = f"lookahead_{depth}"
        self.depth, self.n_levels = depth, n_levels
        self.n_groups, self.max_sequences = n_groups, max_sequences

    def plan(self, problem: DesignProblem) -> bool:
        """Remember the problem; plans are made when the cells are seen."""
        self.problem, space = problem, problem.space
        if self._work(problem) > MOST_WORK:
            self.reason = TOO_LONG.format(n=space.n_perturbations)
            return False
        if space.discrete:
            self.candidates = torch.arange(space.n_actions, device=space.low.device)
        else:
            self.candidates = single_doses(space, self.n_levels)
        return True

    def _work(self, problem: DesignProblem) -> int:
        """Numbers that an episode looks at, at most."""
        depths = (min(self.depth, problem.horizon - step) for step in range(problem.horizon))
        steps = sum(depth * (depth + 1) // 2 for depth in depths)
        return steps * self.max_sequences * self.n_groups * GROUP_CELLS * problem.space.n_perturbations

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """The best first action of each group of cells."""
        cells, kind = observed.batch_size[0], self.candidates.shape[1:]
        action = self.candidates.new_empty(cells, *kind)
        depth = min(self.depth, self.problem.horizon - step)
        for members, value in groups_of_cells(self.problem, observed, self.n_groups, step):
            action[members] = self._best(value, depth)
        return action

    def _best(self, value: ScheduleValue, depth: int) -> Tensor:
        candidates = self.candidates
        best, best_return = candidates[0], -float("inf")
        beam = candidates[None, :0]
        for _ in range(depth):
            beam = beam[: max(1, self.max_sequences // len(candidates))]
            following = torch.cat([candidates] * len(beam))[:, None]
            beam = torch.cat((beam.repeat_interleave(len(candidates), 0), following), dim=1)
            returns = value(beam)
            beam = beam[returns.argsort(descending=True, stable=True)]
            if float(returns.max()) > best_return + 1e-6:
                best_return, best = float(returns.max()), beam[0, 0]
        return best
