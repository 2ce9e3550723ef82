"""What sets of perturbations are worth where a combination is the sum of its parts: which of millions to try.

With w the way from the start to the goal, e the parts' effects and d their doses, the distance left is
|w - sum d e|. Its square is a quadratic form of Gram products, had for all sets at once by products of matrices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perturbrl.planning.design_problem import DesignProblem
from perturbrl.twins.part_effects import PartEffects
from perturbrl.twins.perturbations import PerturbationSpace

CELLS: Final = 256
AT_ONCE: Final = 1 << 19  # numbers of a matrix that is looked at at a time

PerPerturbation = Float[Tensor, " perturbations"]
Columns = Int[Tensor, "sets size"]
Doses = Float[Tensor, "sets size"]


@dataclass(frozen=True, eq=False)
class SetScores:
    """Expected returns of sets of perturbations at given doses, doing nothing worth 0.

    Attributes:
        way: ``[latent]`` mean way from start cells to their goals.
        spread: variance of cells' ways, summed over dimensions.
        unit: distance that is worth 1.
        low: lowest total dose of an episode.
        high: highest total dose of an episode.
        least: size up to which a dose counts as unused.
        fixed: price of using each perturbation at all.
        per_dose: price of a unit of dose.
        per_sd: price of a unit of standard deviation of a cell's place.
        parts: what each does as one of so many.
    """

    way: Float[Tensor, " latent"]
    spread: float
    unit: float
    low: PerPerturbation
    high: PerPerturbation
    least: PerPerturbation
    fixed: PerPerturbation
    per_dose: PerPerturbation
    per_sd: float
    parts: Callable[[int], PartEffects]

    @classmethod
    @torch.no_grad()
    def of(cls, problem: DesignProblem) -> "SetScores | None":
        """Those of a problem; ``None`` where the twin tells no sum of parts, or actions are discrete."""
        twin, space, task = problem.twin, problem.space, problem.task
        alone = None if space.discrete else twin.part_effects(1)
        if alone is None:
            return None
        generator = torch.Generator(device=space.low.device).manual_seed(problem.seed)
        start = twin.place(twin.initial_state(CELLS, generator))
        goal = task.goal_state(start)
        way, times = goal - start, problem.horizon if alone.adds_up else 1
        fixed, per_dose = _prices(problem, start[:1], goal[:1])
        if task.cost_unmeasured:
            unmeasured = [kind != "measured" for kind in problem.evidence]
            fixed = fixed + task.cost_unmeasured * torch.tensor(unmeasured).to(fixed)
        return cls(
            way.mean(0),
            float(way.var(0, correction=0).sum()),
            _unit(problem, start, goal),
            times * space.low,
            times * space.high,
            space.least,
            fixed,
            per_dose,
            float(task.uncertainty_price(way.new_ones(1))) if task.cost_uncertainty else 0.0,
            lru_cache(lambda n_parts: _restricted(problem, n_parts)),
        )

    @cached_property
    def idle(self) -> float:
        """What doing nothing leaves, in units of return."""
        return (float(self.way.square().sum()) + self.spread) ** 0.5 / self.unit

    def form(
        self, n_parts: int
    ) -> tuple[Float[Tensor, "perturbations latent"], PerPerturbation, PerPerturbation]:
        """Effects of parts, their squared length and variance, and their product with the way."""
        own = self.parts(n_parts)
        return own.shifts, own.shifts.square().sum(1) + own.variances, own.shifts @ self.way

    def returns(self, squared: Tensor, price: Tensor, variance: Tensor | None = None) -> Tensor:
        """Expected returns where so much is left, squared and with the members' variance in it.

        Args:
            squared: what is left.
            price: of doses and of perturbations used.
            variance: over members, where it has a price.
        """
        worth = self.idle - (squared + self.spread).clamp_min(0).sqrt() / self.unit - price
        return worth if variance is None or not self.per_sd else worth - self.per_sd * variance.sqrt()

    def of_sets(
        self, columns: Columns, doses: Doses, beside: Float[Tensor, "sets latent"] | None = None
    ) -> Float[Tensor, " sets"]:
        """Expected returns of sets of equally many perturbations.

        Args:
            columns: of each.
            doses: total of each.
            beside: what sets do beside the sum of their parts.
        """
        effects, length, _ = self.form(columns.shape[1])
        moved = (doses[:, :, None] * effects[columns]).sum(1)
        moved = moved if beside is None else moved + beside
        variance = ((length[columns] - effects[columns].square().sum(2)) * doses.square()).sum(1).clamp_min(0)
        price = (self.fixed[columns] * (doses != 0) + self.per_dose[columns] * doses.abs()).sum(1)
        return self.returns((self.way - moved).square().sum(1) + variance, price, variance)

    def fitted(self, columns: Columns, doses: Doses, n_sweeps: int = 30) -> Doses:
        """The best total doses of sets, by coordinate descent from those given; 0 where too small to be given.

        A norm is below a parabola that touches it, so that each step solves one of least squares with a price per unit.
        """
        effects, length, product = self.form(columns.shape[1])
        own, pull, doses = effects[columns], product[columns], doses.clone()
        gram = own @ own.transpose(1, 2)
        gram.diagonal(dim1=1, dim2=2).copy_(length[columns])
        price, whole = self.unit * self.per_dose[columns], self.way.square().sum() + self.spread
        low, high = self.low[columns], self.high[columns]
        for _ in range(n_sweeps):
            for i in range(columns.shape[1]):
                towards = (gram @ doses[..., None])[..., 0]
                left = (whole + (doses * (towards - 2 * pull)).sum(1)).clamp_min(0).sqrt()
                wanted = pull[:, i] - towards[:, i] + gram[:, i, i] * doses[:, i]
                size = (wanted.abs() - price[:, i] * left).clamp_min(0) / gram[:, i, i].clamp_min(1e-12)
                doses[:, i] = (wanted.sign() * size).clamp(low[:, i], high[:, i])
        return doses * (doses.abs() > self.least[columns])


def _restricted(problem: DesignProblem, n_parts: int) -> PartEffects:
    """Parts in the columns of the space; combinations that have others are left out."""
    space = problem.space
    found = problem.twin.part_effects(n_parts)
    assert found is not None
    number = torch.full((space.twin_columns + 1,), -2, device=space.low.device)
    number[space.columns] = torch.arange(space.n_perturbations, device=number.device)
    number[-1] = -1
    parts = number[found.combinations]
    kept = (parts > -2).all(1)
    own = space.columns
    return PartEffects(
        found.shifts[own],
        found.variances[own],
        parts[kept],
        found.corrections[kept],
        found.adds_up,
        found.exact,
    )


def _unit(problem: DesignProblem, start: Tensor, goal: Tensor) -> float:
    """The distance that an episode pays 1 for, by what it pays for arriving at once."""
    task, n_steps = problem.task, problem.horizon
    none = start.new_zeros(len(start), problem.space.n_perturbations)

    def paid(before: Tensor, after: Tensor) -> float:
        return float(task.reward(before, none, after, goal, none.bool()).mean())

    gain = paid(start, goal) + (n_steps - 1) * paid(goal, goal) - n_steps * paid(start, start)
    return float((goal - start).norm(dim=1).mean()) / max(gain, 1e-12)


def _prices(problem: DesignProblem, start: Tensor, goal: Tensor) -> tuple[PerPerturbation, PerPerturbation]:
    """What using each perturbation costs, and a unit of its dose, told by half and by full doses of one."""
    space = problem.space
    size = torch.maximum(space.high, -space.low)
    full, half = (_price_alone(problem, start, goal, share * _furthest(space)) for share in (1.0, 0.5))
    per_dose = 2 * (full - half) / size
    return (full - per_dose * size).clamp_min(0), per_dose


def _furthest(space: PerturbationSpace) -> PerPerturbation:
    return torch.where(space.high >= -space.low, space.high, space.low)


def _price_alone(
    problem: DesignProblem, start: Tensor, goal: Tensor, dose: PerPerturbation
) -> PerPerturbation:
    """What the task takes off for each dose alone, given to a cell that stays where it is."""
    n, found, none = len(dose), [], torch.zeros_like(dose)[None]
    idle = problem.task.reward(start, none, start, goal, none.bool())
    for rows in torch.arange(n, device=dose.device).split(max(1, AT_ONCE // n)):
        one = dose.new_zeros(len(rows), n).scatter(1, rows[:, None], dose[rows, None])
        here, there = start.expand(len(rows), -1), goal.expand(len(rows), -1)
        found.append(idle - problem.task.reward(here, one, here, there, one != 0))
    return torch.cat(found)
