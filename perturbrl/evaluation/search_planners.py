"""Planners that search by simulating schedules on the twin: what a policy has to beat at equal knowledge.

All of them maximise the same value, that of `ScheduleValue`: what the task pays along the way, and then for
the relaxation after the last dose. They see the twin, the task and the training start cells, never a held-out
cell, and every schedule is judged on the same cells under the same noise.
"""

from collections.abc import Iterator
from itertools import combinations, islice, product
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from sklearn.cluster import KMeans
from tensordict import TensorDictBase
from torch import Generator, Tensor

from perturbrl import schema
from perturbrl.envs.perturbations import PerturbationSpace
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.planners import DesignProblem, Planner, Schedule, _OpenLoop
from perturbrl.schema import CellState

Schedules = Float[Tensor, "schedules time perturbations"] | Int[Tensor, "schedules time"]
"""Doses, or the integers of discrete actions."""

SEARCH_CELLS: Final = 32
EXPECTED_USED: Final = 3
ELITE_SHARE: Final = 20
_ROWS: Final = 1 << 16


class ScheduleValue:
    """The mean return of dose schedules on a twin, from given cells, the relaxation after dosing included.

    Args:
        problem: twin, task and limits.
        state: ``[cells, latent]`` where every schedule starts.
        goal: ``[cells, latent]`` the cells' goals.
        used: ``[cells, perturbations]`` what they received before.
        seed: of the noise, which is the same for every schedule.
    """

    def __init__(
        self,
        problem: DesignProblem,
        state: CellState,
        goal: CellState,
        used: Bool[Tensor, "cells perturbations"],
        seed: int = 0,
    ) -> None:
        self.problem, self.state, self.goal, self.used, self.seed = problem, state, goal, used, seed

    @classmethod
    def from_start(cls, problem: DesignProblem) -> "ScheduleValue":
        """From training start cells that have received nothing yet."""
        generator = Generator(device=problem.twin.start_cells.device).manual_seed(problem.seed)
        state = problem.twin.initial_state(SEARCH_CELLS, generator)
        used = torch.zeros(SEARCH_CELLS, problem.space.n_perturbations, dtype=torch.bool, device=state.device)
        return cls(problem, state, problem.task.goal_state(state), used, problem.seed)

    @torch.no_grad()
    def __call__(self, schedules: Schedules) -> Float[Tensor, " schedules"]:
        """Mean return over cells of each schedule."""
        together = max(1, _ROWS // len(self.state))
        return torch.cat([self._returns(part) for part in schedules.split(together)])

    def _returns(self, schedules: Schedules) -> Float[Tensor, " schedules"]:
        n, cells = len(schedules), len(self.state)
        twin, task, space = self.problem.twin, self.problem.task, self.problem.space
        generator = Generator(device=self.state.device).manual_seed(self.seed)
        state, goal, used = (x.repeat(n, 1) for x in (self.state, self.goal, self.used))
        total = state.new_zeros(n * cells)
        still = torch.zeros_like(schedules[:, 0])
        doses = [*schedules.unbind(1), *[still] * twin.relaxation_steps]
        for wanted in doses:
            dose, now_used = space.project(wanted.repeat_interleave(cells, 0), used)
            noise = twin.draw_noise(cells, generator)
            noise = noise.repeat(n, *(1 for _ in noise.shape[1:]))
            following = twin.transition(state, space.expand(dose), noise)
            total += task.reward(state, dose, following, goal, now_used & ~used)
            state, used = following, now_used
        return total.view(n, cells).mean(1)


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

    name = "lookahead"

    def __init__(
        self, depth: int = 3, n_levels: int = 1, n_groups: int = 8, max_sequences: int = 1024
    ) -> None:
        if min(depth, n_levels, n_groups, max_sequences) < 1:
            raise ConfigurationError(
                f"lookahead got depth {depth}, {n_levels} levels, {n_groups} groups and {max_sequences} "
                "sequences; give at least 1 of each"
            )
        self.depth, self.n_levels, self.n_groups, self.max_sequences = (
            depth,
            n_levels,
            n_groups,
            max_sequences,
        )

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
        state, goal, used = (observed[key] for key in (schema.CELL_STATE, schema.GOAL_STATE, schema.USED))
        generator = Generator().manual_seed(self.problem.seed + step)
        order = torch.randperm(len(state), generator=generator).to(state.device)
        groups = _groups(torch.cat((state, used), dim=1), self.n_groups, self.problem.seed)[order]
        n_groups = int(groups.max()) + 1
        action = self.candidates.new_empty(len(state), *self.candidates.shape[1:])
        for group in range(n_groups):
            members = order[groups == group]
            seen = members[: max(4, SEARCH_CELLS // n_groups)]
            value = ScheduleValue(self.problem, state[seen], goal[seen], used[seen], self.problem.seed + step)
            action[members] = self._best(value, min(self.depth, self.problem.horizon - step))
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


def _groups(features: Float[Tensor, "cells features"], n_groups: int, seed: int) -> Int[Tensor, " cells"]:
    distinct, labels = features.unique(dim=0, return_inverse=True)
    if len(distinct) <= n_groups:
        return labels
    found = KMeans(n_groups, n_init=1, random_state=seed).fit_predict(features.cpu().numpy())
    return torch.as_tensor(found, dtype=torch.long, device=features.device)


class CrossEntropySearch(_OpenLoop):
    """Cross-entropy search over whole schedules, fixed before the first dose.

    Each schedule uses every perturbation with a probability of its own and doses the used ones by independent
    normal distributions inside the dose box; probabilities, means and spreads move to those of the best
    schedules. Starting from few perturbations per schedule keeps the search from drowning in hundreds of
    small doses. The result is the best schedule ever drawn, doing nothing included.

    Args:
        n_iterations: rounds.
        population: schedules per round; by default 5 per perturbation, at least 256 and at most 1,024. The
            distribution is refitted to the best twentieth.

    Source: de Boer 2005, "A tutorial on the cross-entropy method".
    """

    name = "cem"

    def __init__(self, n_iterations: int = 40, population: int | None = None) -> None:
        if n_iterations < 1 or (population is not None and population < 2 * ELITE_SHARE):
            raise ConfigurationError(
                f"cross-entropy search got {n_iterations} rounds of {population} schedules; give at least 1 "
                f"round and {2 * ELITE_SHARE} schedules"
            )
        self.n_iterations, self.population = n_iterations, population

    def schedule_for(self, problem: DesignProblem) -> Schedule:
        """The best schedule found."""
        generator = Generator(device=problem.space.low.device).manual_seed(problem.seed)
        return self.search(ScheduleValue.from_start(problem), problem.no_dose(), generator)

    def search(self, value: ScheduleValue, first: Schedule, generator: Generator) -> Schedule:
        """The best schedule found from ``first``, which is the mean of the first round."""
        space = value.problem.space
        law = _ScheduleLaw(space, first)
        n = self.population or min(1024, max(256, 5 * space.n_perturbations))
        best, best_return = first, float(value(first[None]))
        for _ in range(self.n_iterations):
            drawn = law.draw(n, generator)
            returns = value(drawn)
            law.refit(drawn[returns.topk(n // ELITE_SHARE).indices])
            if float(returns.max()) > best_return:
                best, best_return = drawn[returns.argmax()], float(returns.max())
        return best


class _ScheduleLaw:
    """The distribution of `CrossEntropySearch`: Bernoulli use of each perturbation, normal doses."""

    def __init__(self, space: PerturbationSpace, first: Schedule) -> None:
        few = torch.full_like(space.low, min(0.5, EXPECTED_USED / space.n_perturbations))
        self.space, self.least = space, few / 10
        self.probability = torch.where((first != 0).any(0), torch.full_like(few, 0.5), few)
        self.mean = first.clone()
        self.spread = ((space.high - space.low) / 2).expand_as(first).clone()

    def draw(self, n: int, generator: Generator) -> Schedules:
        shape, device = (n, *self.mean.shape), self.mean.device
        used = torch.rand(n, 1, shape[-1], generator=generator, device=device) < self.probability
        dose = self.mean + self.spread * torch.randn(shape, generator=generator, device=device)
        return dose.clamp(self.space.low, self.space.high) * used

    def refit(self, elite: Schedules) -> None:
        used = (elite != 0).any(1, keepdim=True)
        seen = used.sum(0)
        mean = elite.sum(0) / seen.clamp_min(1)
        spread = ((elite - mean).square() * used).sum(0).div(seen.clamp_min(1)).sqrt()
        enough = seen >= 2
        self.mean = torch.where(enough, mean, self.mean)
        self.spread = torch.where(enough, spread, self.spread)
        share = used.float().mean((0, 1))
        self.probability = ((self.probability + 2 * share) / 3).clamp_min(self.least)


class ModelPredictiveControl(Planner):
    """Cross-entropy search repeated at every step from where the cells are now, all cells dosed alike.

    Each search starts from the rest of the last plan. It sees the states of the cells that it doses, as a
    policy does; the plan is made for a sample of them.

    Args:
        search: of each step.
    """

    name = "mpc"

    def __init__(self, search: CrossEntropySearch | None = None) -> None:
        self.search = search or CrossEntropySearch(n_iterations=20)

    def plan(self, problem: DesignProblem) -> bool:
        """Remember the problem; plans are made when the cells are seen."""
        if problem.space.discrete:
            return False
        self.problem = problem
        self._generator = Generator(device=problem.space.low.device)
        return True

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """The first dose of a fresh plan for the observed cells."""
        if step == 0:
            self._generator.manual_seed(self.problem.seed)
            self._plan = self.problem.no_dose()
        n = observed.batch_size[0]
        rows = torch.randperm(n, generator=self._generator, device=self._generator.device)[:SEARCH_CELLS]
        cells = [observed[key][rows] for key in (schema.CELL_STATE, schema.GOAL_STATE, schema.USED)]
        value = ScheduleValue(self.problem, *cells, seed=self.problem.seed + step)
        self._plan = self.search.search(value, self._plan, self._generator)
        dose, self._plan = self._plan[0], self._plan[1:]
        return dose.expand(n, -1)


class ExhaustiveSearch(_OpenLoop):
    """Try every set of perturbations at full dose, in every direction, held for every number of steps.

    Sets go from the empty one up to the limit of the space or ``max_size``. Of constant full doses the result
    is the best there is on the twin. Where there are more schedules than the budget allows, this planner
    cannot treat the problem; the best of a part of them would be no ceiling.

    Args:
        max_size: largest set.
        budget: largest number of schedules to simulate.
    """

    name = "exhaustive"

    def __init__(self, max_size: int = 2, budget: int = 20_000) -> None:
        if min(max_size, budget) < 1:
            raise ConfigurationError(
                f"exhaustive search got max_size {max_size} and budget {budget}; give at least 1"
            )
        self.max_size, self.budget = max_size, budget

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The best schedule, or ``None`` where there are too many."""
        most = self.budget // problem.horizon
        doses = list(islice(self._doses(problem.space), most + 1))
        if len(doses) > most:
            return None
        durations = torch.ones(problem.horizon, problem.horizon, device=problem.space.low.device).tril()
        schedules = (torch.stack(doses)[:, None, None] * durations[:, :, None]).flatten(0, 1)
        return schedules[ScheduleValue.from_start(problem)(schedules).argmax()]

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
