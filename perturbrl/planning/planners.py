"""Designs to compare a policy with that need no search: each says which doses to give, from what a policy may know."""

import torch
from jaxtyping import Float
from scipy.optimize import nnls
from tensordict import TensorDictBase
from torch import Generator, Tensor

from perturbrl.planning.beam import BeamSearch
from perturbrl.planning.cross_entropy import CrossEntropySearch, ModelPredictiveControl
from perturbrl.planning.design_problem import DesignProblem, OpenLoop, Planner, Schedule
from perturbrl.planning.exhaustive import ExhaustiveSearch
from perturbrl.planning.greedy import GreedyActions, GreedyDesign
from perturbrl.planning.lookahead import Lookahead
from perturbrl.planning.optimum import givable_dose
from perturbrl.planning.schedule_value import SEARCH_CELLS


class NoOpDesign(OpenLoop):
    """Do nothing."""

    name = "no_op"
    plans_discrete = True

    def schedule_for(self, problem: DesignProblem) -> Schedule:
        """No dose at any step."""
        return problem.no_dose()


class RandomActions(Planner):
    """Every cell gets a perturbation of its own at every step, drawn uniformly (discrete actions only).

    Doing nothing is not among the draws, as in ``MacroMDP.random_values``.
    """

    name = "random"

    def plan(self, problem: DesignProblem) -> bool:
        """Remember how many actions there are."""
        self._n_actions, self._seed, self._generator = problem.space.n_actions, problem.seed, Generator()
        return problem.space.discrete

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """One draw per cell; an episode repeats itself for the same seed."""
        if step == 0:
            self._generator.manual_seed(self._seed)
        drawn = torch.randint(1, self._n_actions, observed.batch_size, generator=self._generator)
        return drawn.to(observed.device)


class RandomDesign(OpenLoop):
    """Two perturbations (or as many as allowed, if fewer) drawn at random, at uniformly drawn doses."""

    name = "random"

    def schedule_for(self, problem: DesignProblem) -> Schedule:
        """One random dose, repeated at every step."""
        space = problem.space
        generator = Generator().manual_seed(problem.seed)
        n = min(2, space.n_perturbations, space.max_perturbations or 2)
        chosen = torch.randperm(space.n_perturbations, generator=generator)[:n].to(space.low.device)
        share = torch.rand(n, generator=generator).to(space.low.device)
        schedule = problem.no_dose()
        schedule[:, chosen] = space.low[chosen] + share * (space.high - space.low)[chosen]
        return schedule


class NearestPerturbationDesign(OpenLoop):
    """The one perturbation, as measured, whose effect comes nearest to the wanted shift.

    The effect is the mean shift of start cells in one step; it is known of twins learned from cells.
    """

    name = "nearest_perturbation"

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The nearest perturbation at dose 1 (or the highest, if that is less), given in the first step."""
        dose, parts = problem.space.high.clamp_max(1.0), problem.twin.part_effects(1)
        if parts is None and not problem.twin.needs_data:
            return None
        told = None if parts is None else dose[:, None] * parts.shifts[problem.space.columns]
        effects = _mean_shifts(problem, dose) if told is None else told
        best = (effects - problem.shift).norm(dim=1).argmin()
        schedule = problem.no_dose()
        schedule[0, best] = dose[best]
        return schedule


@torch.no_grad()
def _mean_shifts(
    problem: DesignProblem, dose: Float[Tensor, " perturbations"]
) -> Float[Tensor, "perturbations latent"]:
    """What each perturbation alone does to some start cells in one step."""
    twin, generator = problem.twin, Generator(device=dose.device).manual_seed(problem.seed)
    state, member = twin.initial_state(SEARCH_CELLS, generator), twin.draw_members(SEARCH_CELLS, generator)
    noise, start = twin.draw_noise(SEARCH_CELLS, generator), twin.place(state).mean(0)
    ends = []
    for column in range(len(dose)):
        one = torch.zeros_like(dose)[None]
        one[0, column] = dose[column]
        alone = problem.space.expand(one).expand(SEARCH_CELLS, -1)
        ends.append(twin.place(twin.next_state(state, alone, noise, member)).mean(0))
    return torch.stack(ends) - start


class NonNegativeLeastSquares(OpenLoop):
    """Non-negative least squares of the wanted shift on the effects; doses above the limit are cut by it."""

    name = "nnls"

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The weights as total doses."""
        effects = problem.linear_effects
        if effects is None:
            return None
        weights, _ = nnls(effects.double().cpu().numpy().T, problem.shift.double().cpu().numpy())
        return problem.schedule(weights)


class BoundedLeastSquares(OpenLoop):
    """The best dose in the box for a linear twin, in closed form, without doses too small to be given."""

    name = "optimum"

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The optimal total doses."""
        total, effects = problem.optimal_dose, problem.linear_effects
        if total is None or effects is None:
            limit, n = problem.space.max_perturbations, problem.space.n_perturbations
            self.reason = (
                "" if effects is None else f"sets of {limit} of {n:,} perturbations are too many for it"
            )
            return None
        return problem.schedule(givable_dose(effects, problem.shift, problem.space, total, problem.horizon))


def default_planners() -> tuple[Planner, ...]:
    """The baselines of every design table, weakest first; those for doses and those for discrete actions."""
    return (
        NoOpDesign(),
        RandomDesign(),
        RandomActions(),
        NearestPerturbationDesign(),
        GreedyDesign(),
        GreedyActions(),
        NonNegativeLeastSquares(),
        BoundedLeastSquares(),
    )


def search_planners() -> tuple[Planner, ...]:
    """The searching baselines of every design table."""
    return (Lookahead(), CrossEntropySearch(), ModelPredictiveControl(), ExhaustiveSearch(), BeamSearch())


def certifying_planners() -> tuple[Planner, ...]:
    """What finds the best design known: whatever searches among thousands, and the closed form."""
    return (
        NoOpDesign(),
        NearestPerturbationDesign(),
        GreedyDesign(),
        GreedyActions(),
        BoundedLeastSquares(),
        CrossEntropySearch(),
        ExhaustiveSearch(),
        BeamSearch(),
    )
