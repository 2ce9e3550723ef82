"""The task of the forward problem: cells of each condition should be where they were measured."""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from perturbrl.envs.base import Gains, Task
from perturbrl.errors import ConfigurationError
from perturbrl.schema import CellMask, CellState, Dose, PerCell, Population, UsedMask
from perturbrl.twins.residual import SUMMARY_COLUMNS

COMPARED: Final = 64  # cells of each condition whose distances to a cell are taken
_CONSTANT: Final = 1e-6  # a column that varies less is the same in all cells
# Products would lose the small distances that a step makes.
_EXACT: Final = "donot_use_mm_for_euclid_dist"


class MatchResponse(Task):
    """Bring the cells of every condition nearer to those measured under it than where they start.

    The error of a condition has two parts, each in units of its mean over conditions at the start: the squared
    distance between the means of moved and measured cells, and the energy distance between the two populations. Its
    decrease is shared among the cells: a cell is paid what the error changes by, per cell moved, where the population
    is now (the error's first variation), so that rewards add up to the gradient of the population's own error. Where
    the population is now is looked up before every iteration (``watch``). A constant of each condition makes the mean
    reward of one step the decrease itself.

    A state's last column is the number of the cell's condition, from 0; cells of a condition that it was not aimed at
    have negative numbers and are paid nothing. What is not moved (prior columns) is equal in start and goal cells of a
    condition, and is part of what the policy sees.

    Args:
        population_share: weight of the energy distance; the rest is that of the means.
        sees: what the policy sees: the ``summary`` of a condition that ends a state of `ResidualTwin`, or ``all``
            columns. Of few conditions it learns more than the summary by heart.

    Raises:
        ConfigurationError: the weight is no share.
    """

    goal_depends_on_start = True
    heeds_newly_used = False

    centre: Float[Tensor, " observed"]
    spread: Float[Tensor, " observed"]
    moving: Int[Tensor, " own"]
    start_mean: Float[Tensor, "conditions own"]
    goal_mean: Float[Tensor, "conditions own"]
    now_mean: Float[Tensor, "conditions own"]
    watched: Float[Tensor, "conditions compared latent"]
    goal: Float[Tensor, "conditions compared own"]
    now: Float[Tensor, "conditions compared own"]
    units: Float[Tensor, "2"]
    paid: Float[Tensor, " conditions"]

    def __init__(self, population_share: float = 0.5, sees: Literal["summary", "all"] = "summary") -> None:
        super().__init__()
        if not 0 <= population_share <= 1:
            raise ConfigurationError(f"population_share is {population_share:g}; give a share in [0, 1]")
        self.population_share, self.sees = population_share, sees
        self.register_buffer("moving", torch.empty(0, dtype=torch.long))
        self.register_buffer("units", torch.ones(2))
        for name in ("centre", "spread", "paid"):
            self.register_buffer(name, torch.empty(0))
        for name in ("start_mean", "goal_mean", "now_mean"):
            self.register_buffer(name, torch.empty(0, 0))
        for name in ("watched", "goal", "now"):
            self.register_buffer(name, torch.empty(0, 0, 0))

    @property
    def observation_dim(self) -> int:  # type: ignore[override]
        """Columns of the state that are seen."""
        return self.centre.shape[0]

    # -- aiming ------------------------------------------------------------------------------------------

    def aim(
        self,
        start_cells: Population,
        goal_cells: Population,
        reference_cells: Population | None = None,
        other_cells: Sequence[Population] = (),
    ) -> None:
        """Take over where each condition starts and what was measured (see ``Task``).

        Args:
            start_cells: ``[cells, latent]``, as many of each condition, condition by condition.
            goal_cells: measured cells, likewise.
            reference_cells: not looked at.
            other_cells: not looked at.

        Raises:
            ConfigurationError: start and goal cells are not of the same conditions.
        """
        start, goal = _by_condition(start_cells), _by_condition(goal_cells)
        if not torch.equal(start[:, 0, -1], goal[:, 0, -1]):
            raise ConfigurationError(
                f"cells start under {len(start)} conditions and were measured under {len(goal)}; give the same "
                "conditions, in one order"
            )
        spread, moving = start_cells.std(0), (start.mean(1) != goal.mean(1)).any(0).nonzero()[:, 0]
        self.set_buffers(
            centre=self._seen(start_cells).mean(0),
            spread=self._seen(torch.where(spread > _CONSTANT, spread, torch.ones_like(spread))),
            moving=moving,
            start_mean=start[..., moving].mean(1),
            goal_mean=goal[..., moving].mean(1),
            watched=_some(start),
            goal=_some(goal)[..., moving],
        )
        errors = _errors(start[..., moving], goal[..., moving])
        self.set_buffers(units=errors.mean(0).clamp_min(torch.finfo(errors.dtype).tiny))
        self._look_at(self.watched)

    def watch(self, move: Callable[[CellState], CellState]) -> None:
        """Look where the policy brings start cells now (see ``Task``)."""
        self._look_at(move(self.watched.flatten(0, 1)).view_as(self.watched))

    def _look_at(self, moved: Float[Tensor, "conditions compared latent"]) -> None:
        before, now = self.watched[..., self.moving], moved[..., self.moving]
        step = now.mean(1) - before.mean(1)
        parts = torch.stack((step.square().sum(-1), _energy_distance(before, now)), dim=-1)
        self.set_buffers(now=now, now_mean=self.start_mean + step, paid=(parts / self.units) @ self._weights)

    @property
    def _weights(self) -> Float[Tensor, "2"]:
        return torch.tensor((1.0 - self.population_share, self.population_share)).to(self.units)

    # -- episodes ----------------------------------------------------------------------------------------

    def goal_state(self, start: CellState) -> CellState:
        """The start, moved by the difference between the means of the measured and the start cells."""
        number, known = self._number(start)
        shift = (self.goal_mean - self.start_mean)[number] * known[:, None]
        return start.index_add(1, self.moving, shift)

    def observation(self, state: CellState, goal: CellState) -> Tensor:
        """Seen columns, standardised over start cells; neither the goal nor the condition's number is seen."""
        return (self._seen(state) - self.centre) / self.spread

    def _seen(self, state: Float[Tensor, "*cells latent"]) -> Float[Tensor, "*cells observed"]:
        return state[..., -1 - SUMMARY_COLUMNS : -1] if self.sees == "summary" else state[..., :-1]

    def reward(
        self, state: CellState, dose: Dose, next_state: CellState, goal: CellState, newly_used: UsedMask
    ) -> PerCell:
        """The cell's share of the decrease of its condition's error (see the class)."""
        number, known = self._number(state)
        gained = self._slope(state, number) - self._slope(next_state, number)
        return (gained + self.paid[number]) * known

    def _slope(self, state: CellState, number: Int[Tensor, " cells"]) -> PerCell:
        """How the error of a condition changes with one cell more in a state, where the population is now."""
        cell = state[:, self.moving]
        of_mean = 2.0 * ((self.now_mean - self.goal_mean)[number] * cell).sum(-1)
        of_population = 2.0 * (
            _mean_distance(cell, self.goal[number]) - _mean_distance(cell, self.now[number])
        )
        return torch.stack((of_mean, of_population), dim=-1) / self.units @ self._weights

    def is_success(self, state: CellState, goal: CellState) -> CellMask:
        """Whether a cell is nearer its goal than where it started."""
        number, known = self._number(state)
        way = (self.goal_mean - self.start_mean)[number].norm(dim=-1)
        return known & ((goal - state).norm(dim=-1) < way)

    def _number(self, state: CellState) -> tuple[Int[Tensor, " cells"], Bool[Tensor, " cells"]]:
        number = state[:, -1].round().long()
        return number.clamp(0, len(self.goal_mean) - 1), (number >= 0) & (number < len(self.goal_mean))

    # -- judging -----------------------------------------------------------------------------------------

    def gains(self, start: Population, moved: Population, goal: Population) -> Gains:
        """See ``Task``."""
        before, after, measured = (_by_condition(cells)[..., self.moving] for cells in (start, moved, goal))
        return Gains((_errors(before, measured) - _errors(after, measured)) / self.units, self._weights)

    def as_used(self, start: Population, moved: Population) -> Population:
        """The cells of a condition, all moved by their mean movement (see ``Task``).

        So much of a policy is used (``twins.corrected_kriging``): predicted cells are counts around a mean, and how
        they spread is told by measured cells.
        """
        before = _by_condition(start)
        step = (_by_condition(moved) - before).mean(1, keepdim=True)
        return (before + step).flatten(0, 1)


def _by_condition(cells: Population) -> Float[Tensor, "conditions each latent"]:
    """Cells that stand condition by condition, as many of each."""
    n_conditions = int((cells[:, -1].diff() != 0).sum()) + 1
    return cells.view(n_conditions, -1, cells.shape[1])


def _some(cells: Float[Tensor, "conditions each latent"]) -> Float[Tensor, "conditions compared latent"]:
    return cells[:, :: -(-cells.shape[1] // COMPARED)]


def _errors(
    cells: Float[Tensor, "conditions _ own"], goal: Float[Tensor, "conditions _ own"]
) -> Float[Tensor, "conditions 2"]:
    """Squared distance of the means, and energy distance, of each condition."""
    of_mean = (cells.mean(1) - goal.mean(1)).square().sum(-1)
    return torch.stack((of_mean, _energy_distance(cells, goal)), dim=-1)


def _energy_distance(
    a: Float[Tensor, "conditions _ own"], b: Float[Tensor, "conditions _ own"]
) -> Float[Tensor, " conditions"]:
    return 2.0 * _mean_pair(a, b) - _mean_pair(a, a) - _mean_pair(b, b)


def _mean_pair(
    a: Float[Tensor, "conditions _ own"], b: Float[Tensor, "conditions _ own"]
) -> Float[Tensor, " conditions"]:
    return torch.cdist(a, b, compute_mode=_EXACT).mean((-2, -1))


def _mean_distance(cell: Float[Tensor, "cells own"], others: Float[Tensor, "cells compared own"]) -> PerCell:
    return torch.cdist(cell[:, None], others, compute_mode=_EXACT).mean((-2, -1))
