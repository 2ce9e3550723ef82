"""Cross-entropy search over schedules, once before the first action or again at every step."""

from typing import Final

import torch
from tensordict import TensorDictBase
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from perturbrl.errors import ConfigurationError
from perturbrl.planning.design_problem import DesignProblem, OpenLoop, Planner, Schedule
from perturbrl.planning.schedule_value import (
    GROUP_CELLS,
    MOST_WORK,
    TOO_LONG,
    Schedules,
    ScheduleValue,
    groups_of_cells,
)
from perturbrl.planning.shortlist import among_few, too_many
from perturbrl.twins.perturbations import PerturbationSpace

EXPECTED_USED: Final = 3
ELITE_SHARE: Final = 20
CEM_MOST: Final = 64


class CrossEntropySearch(OpenLoop):
    """Cross-entropy search over whole schedules, fixed before the first dose.

    Each schedule uses every perturbation with a probability of its own and doses the used ones by independent
    normal distributions inside the dose box; probabilities, means and spreads move to those of the best
    schedules. Starting from few perturbations per schedule keeps the search from drowning in hundreds of
    small doses. Of discrete actions each step has a distribution of its own, which starts with about three
    actions per schedule and nothing in the other steps. The result is the best schedule ever drawn, doing
    nothing included. Of thousands of perturbations it looks at the most promising (see ``shortlist``).

    Args:
        n_iterations: rounds.
        population: schedules per round; by default 5 per action, at least 256 and at most 1,024. The
            distribution is refitted to the best twentieth.

    Source: de Boer 2005, "A tutorial on the cross-entropy method".
    """

    name = "cem"
    plans_discrete = True

    def __init__(self, n_iterations: int = 40, population: int | None = None) -> None:
        if n_iterations < 1 or (population is not None and population < 2 * ELITE_SHARE):
            raise ConfigurationError(
                f"cross-entropy search got {n_iterations} rounds of {population} schedules; give at least 1 "
                f"round and {2 * ELITE_SHARE} schedules"
            )
        self.n_iterations, self.population = n_iterations, population

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The best schedule found; ``None`` where too many perturbations would be simulated."""
        if problem.space.discrete:
            return self._found(problem)
        schedule = among_few(problem, CEM_MOST, self._found)
        self.reason = too_many(problem) if schedule is None else ""
        return schedule

    def _found(self, problem: DesignProblem) -> Schedule:
        generator = Generator(device=problem.space.low.device).manual_seed(problem.seed)
        return self.search(ScheduleValue.from_start(problem), problem.no_dose(), generator)

    def n_drawn(self, space: PerturbationSpace) -> int:
        """Schedules per round."""
        return self.population or min(1024, max(256, 5 * space.n_actions))

    def search(self, value: ScheduleValue, first: Schedule, generator: Generator) -> Schedule:
        """The best schedule found from ``first``, which is the mean of the first round."""
        space = value.problem.space
        law = _ActionLaw(space, first) if space.discrete else _DoseLaw(space, first)
        n = self.n_drawn(space)
        best, best_return = first, float(value(first[None]))
        for _ in range(self.n_iterations):
            drawn = law.draw(n, generator)
            returns = value(drawn)
            law.refit(drawn[returns.topk(n // ELITE_SHARE).indices])
            if float(returns.max()) > best_return:
                best, best_return = drawn[returns.argmax()], float(returns.max())
        return best


class _DoseLaw:
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


class _ActionLaw:
    """The distribution of `CrossEntropySearch` over discrete actions: each step draws for itself."""

    def __init__(self, space: PerturbationSpace, first: Schedule) -> None:
        few = min(1 - 1 / space.n_actions, EXPECTED_USED / len(first))
        start = torch.full((len(first), space.n_actions), few / (space.n_actions - 1), device=first.device)
        start[:, 0] = 1 - few
        self.n_actions, self.least = space.n_actions, start / 10
        planned = one_hot(first, space.n_actions)
        self.probability = torch.where((first != 0)[:, None], (start + planned) / 2, start)

    def draw(self, n: int, generator: Generator) -> Schedules:
        return self.probability.multinomial(n, replacement=True, generator=generator).T

    def refit(self, elite: Schedules) -> None:
        share = one_hot(elite, self.n_actions).float().mean(0)
        self.probability = ((self.probability + 2 * share) / 3).maximum(self.least)


class ModelPredictiveControl(Planner):
    """Cross-entropy search repeated at every step from where the cells are now.

    Cells in different states get different actions: they are sorted into at most ``n_groups`` groups as in
    `Lookahead`, and the plan of each is made for a sample of its cells. Each search starts from the rest of
    the plan that one of them followed. It sees the states of the cells that it doses, as a policy does. Where that
    would take minutes it cannot treat the problem.

    Args:
        search: of each step.
        n_groups: groups of cells that are planned for apart.
    """

    name = "mpc"

    def __init__(self, search: CrossEntropySearch | None = None, n_groups: int = 8) -> None:
        if n_groups < 1:
            raise ConfigurationError(
                f"model predictive control got {n_groups} groups of cells; give at least 1"
            )
        self.search, self.n_groups = search or CrossEntropySearch(n_iterations=20), n_groups

    def plan(self, problem: DesignProblem) -> bool:
        """Remember the problem; plans are made when the cells are seen."""
        self.problem, n, horizon = problem, problem.space.n_perturbations, problem.horizon
        simulated = (
            self.search.n_iterations * self.search.n_drawn(problem.space) * horizon * (horizon + 1) // 2
        )
        if simulated * self.n_groups * GROUP_CELLS * n > MOST_WORK:
            self.reason = TOO_LONG.format(n=n)
            return False
        self._generator = Generator(device=problem.space.low.device)
        return True

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """The first action of a fresh plan for each cell."""
        if step == 0:
            self._generator.manual_seed(self.problem.seed)
            self._plans = torch.stack([self.problem.no_dose()] * observed.batch_size[0])
        for members, value in groups_of_cells(self.problem, observed, self.n_groups, step):
            first = self._plans[members[0]].clone()
            self._plans[members] = self.search.search(value, first, self._generator)
        now, self._plans = self._plans[:, 0], self._plans[:, 1:]
        return now
