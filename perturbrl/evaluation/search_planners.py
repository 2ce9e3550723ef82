"""Planners that try schedules one by one on the twin: what a policy has to beat at equal knowledge.

Like `CrossEntropySearch` they maximise `ScheduleValue`: what the task pays along the way, and then for the
relaxation after the last dose.
"""

from collections.abc import Iterator
from itertools import combinations, islice, product

import torch
from jaxtyping import Float
from tensordict import TensorDictBase
from torch import Tensor

from perturbrl.envs.perturbations import PerturbationSpace
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.cross_entropy import CrossEntropySearch, ModelPredictiveControl
from perturbrl.evaluation.design_problem import DesignProblem, OpenLoop, Planner, Schedule
from perturbrl.evaluation.schedule_value import Schedules, ScheduleValue, groups_of_cells


def single_doses(space: PerturbationSpace, n_levels: int) -> Float[Tensor, "candidates perturbations"]:
    """No dose, and every perturbation alone at ``n_levels`` equal steps up to its highest and lowest dose."""
    levels = torch.arange(1, n_levels + 1, device=space.low.device) / n_levels
    ends = torch.cat((torch.diag(space.high), torch.diag(space.low)))
    doses = (ends[:, None, :] * levels[:, None]).flatten(0, 1)
    doses = doses[doses.abs().sum(1) > 0]
    return torch.cat((torch.zeros_like(space.low)[None], doses))


class Lookahead(Planner):
    """k-step lookahead: at every step, give the first action of the best sequence of k, and look again.

    An action is one perturbation at one dose, or nothing. Cells in different states get different actions:
    they are sorted into at most ``n_groups`` groups by their state (one per state where there are so few),
    and each group's plan is made for a sample of its cells. Sequences are compared by the return over the
    next k steps and the relaxation after them; stopping early is a sequence, too. All sequences are tried
    while they are no more than ``max_sequences``; beyond that only the best partial ones are continued (a
    beam search).

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
        if space.discrete:
            self.candidates = torch.arange(space.n_actions, device=space.low.device)
        else:
            self.candidates = single_doses(space, self.n_levels)
        return True

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


class ExhaustiveSearch(OpenLoop):
    """Try every set of perturbations at full dose, in every direction, held for every number of steps.

    Sets go from the empty one up to the limit of the space or ``max_size``. Of constant full doses the result
    is the best there is on the twin. Of discrete actions it tries every sequence of the horizon's length, and
    the result is the best that can be had without looking at the cells in between. Where there are more
    schedules than the budget allows, this planner cannot treat the problem; the best of a part of them would
    be no ceiling.

    Args:
        max_size: largest set.
        budget: largest number of schedules to simulate.
    """

    name = "exhaustive"
    plans_discrete = True

    def __init__(self, max_size: int = 2, budget: int = 20_000) -> None:
        if min(max_size, budget) < 1:
            raise ConfigurationError(
                f"exhaustive search got max_size {max_size} and budget {budget}; give at least 1"
            )
        self.max_size, self.budget = max_size, budget

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The best schedule, or ``None`` where there are too many."""
        schedules = self._sequences(problem) if problem.space.discrete else self._held(problem)
        if schedules is None:
            return None
        return schedules[ScheduleValue.from_start(problem)(schedules).argmax()]

    def _sequences(self, problem: DesignProblem) -> Schedules | None:
        n, horizon = problem.space.n_actions, problem.horizon
        if n**horizon > self.budget:
            return None
        places = n ** torch.arange(horizon - 1, -1, -1, device=problem.space.low.device)
        return torch.arange(n**horizon, device=places.device)[:, None] // places % n

    def _held(self, problem: DesignProblem) -> Schedules | None:
        most = self.budget // problem.horizon
        doses = list(islice(self._doses(problem.space), most + 1))
        if len(doses) > most:
            return None
        durations = torch.ones(problem.horizon, problem.horizon, device=problem.space.low.device).tril()
        return (torch.stack(doses)[:, None, None] * durations[:, :, None]).flatten(0, 1)

    def _doses(self, space: PerturbationSpace) -> Iterator[Float[Tensor, " perturbations"]]:
        size = min(self.max_size, space.n_perturbations, space.max_perturbations or self.max_size)
        ends = [[end for end in (low, high) if end] for low, high in zip(space.low, space.high, strict=True)]
        for n in range(size + 1):
            for chosen in combinations(range(space.n_perturbations), n):
                for values in product(*(ends[i] for i in chosen)):
                    dose = torch.zeros_like(space.low)
                    dose[list(chosen)] = torch.stack(values) if values else dose[:0]
                    yield dose


def search_planners() -> tuple[Planner, ...]:
    """The searching baselines of every design table."""
    return (Lookahead(), CrossEntropySearch(), ModelPredictiveControl(), ExhaustiveSearch())
