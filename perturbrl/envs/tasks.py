"""What cells should do."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from perturbrl.envs.base import Task
from perturbrl.errors import ConfigurationError
from perturbrl.schema import CellMask, CellState, Dose, PerCell, Population, UsedMask


class ReachCellState(Task):
    """Bring cells to a target population, with as little intervention as the costs say.

    The reward of a step is the decrease of the distance to the goal, in units of the mean distance at the
    start (1 is the whole way), less the costs of the dose. A detour costs nothing then, as long as it leads on.

    Args:
        goal: ``shift`` gives each cell its own goal, its start plus the difference between the means of the
            target and the start population (the optimal-transport map between two populations of equal
            spread, so that a policy is not paid for making all cells alike); ``centroid`` gives all cells
            the mean of the target population.
        cost_l1: price of one unit of dose, per step and perturbation.
        cost_l2: price of one unit of squared dose, per step and perturbation.
        cost_per_perturbation: price of each perturbation when a cell receives it for the first time.
        cost_uncertainty: price of a standard deviation of a cell's place as long as the way at the start, by what the
            twin does not know of the doses given, or its members disagree on the way; for twins of several members
            (ResponseTwin, LandscapeTwin, JointTwin).
        cost_unmeasured: price of each perturbation whose effect is inferred and not measured, when a cell receives it
            for the first time; for twins that tell the evidence (ResponseTwin).
        success: ``discriminant`` calls a cell arrived when a shrinkage linear discriminant between reference, goal
            and other cells (see ``aim``) assigns it to the target; ``radius`` when it is within ``success_radius`` of
            its goal.
        success_radius: in units of the mean distance at the start.
        arrival: what a cell is paid for arriving (see ``success``), and loses when it leaves, in ways. Where types lie
            side by side, one that ends in the basin beside the target is paid nearly the whole way without it.
        reward: ``progress`` as above; ``closeness`` pays minus the distance after every step, so that time spent
            far away costs, and a short horizon can make staying in a nearby wrong state the best there is.
        norm: ``euclidean`` distance, or ``manhattan``: the sum over dimensions, which between Boolean states
            counts the genes that differ.

    Raises:
        ConfigurationError: a negative price, or a radius that is not positive.
    """

    start_mean: Float[Tensor, " latent"]
    goal_mean: Float[Tensor, " latent"]
    spread: Float[Tensor, " latent"]
    initial_distance: Float[Tensor, ""]
    discriminant: Float[Tensor, "latent rivals"]
    threshold: Float[Tensor, " rivals"]

    def __init__(
        self,
        goal: Literal["shift", "centroid"] = "shift",
        cost_l1: float = 0.0,
        cost_l2: float = 0.0,
        cost_per_perturbation: float = 0.0,
        cost_uncertainty: float = 0.0,
        cost_unmeasured: float = 0.0,
        success: Literal["discriminant", "radius"] = "discriminant",
        success_radius: float = 0.25,
        arrival: float = 0.0,
        reward: Literal["progress", "closeness"] = "progress",
        norm: Literal["euclidean", "manhattan"] = "euclidean",
    ) -> None:
        super().__init__()
        prices = {
            "cost_l1": cost_l1,
            "cost_l2": cost_l2,
            "cost_per_perturbation": cost_per_perturbation,
            "cost_uncertainty": cost_uncertainty,
            "cost_unmeasured": cost_unmeasured,
        }
        if not arrival >= 0:
            raise ConfigurationError(f"arrival is {arrival:g}, a price for arriving; give 0 or more")
        for name, price in prices.items():
            if not price >= 0:
                raise ConfigurationError(f"{name} is {price:g}, which would reward dosing; give 0 or more")
        if not success_radius > 0:
            raise ConfigurationError(
                f"success_radius is {success_radius:g}; give a positive share of the way"
            )
        self.goal, self.success, self.success_radius = goal, success, success_radius
        self.goal_depends_on_start = goal == "shift"
        self.heeds_newly_used = cost_per_perturbation > 0 or cost_unmeasured > 0
        self.cost_l1, self.cost_l2, self.cost_per_perturbation = cost_l1, cost_l2, cost_per_perturbation
        self.cost_uncertainty, self.cost_unmeasured, self.arrival = cost_uncertainty, cost_unmeasured, arrival
        self.pays, self.order = reward, 1 if norm == "manhattan" else 2
        for name in ("start_mean", "goal_mean", "spread", "threshold"):
            self.register_buffer(name, torch.empty(0))
        self.register_buffer("discriminant", torch.empty(0, 0))
        self.register_buffer("initial_distance", torch.ones(()))

    @property
    def observation_dim(self) -> int:  # type: ignore[override]
        """Cell state and the way that is left, side by side."""
        return 2 * self.start_mean.shape[0]

    def aim(
        self,
        start_cells: Population,
        goal_cells: Population,
        reference_cells: Population | None = None,
        other_cells: Sequence[Population] = (),
    ) -> None:
        """Fix the goal, the unit of distance and the discriminant (see ``Task``).

        The goal's shift counts from the mean of the start cells, whose noise the twin's effects share.

        Raises:
            ConfigurationError: the two populations have the same mean, so there is no way to go.
        """
        start_mean, goal_mean = start_cells.mean(0), goal_cells.mean(0)
        spread = torch.cat((start_cells, goal_cells)).std(0, correction=0)
        self.set_buffers(
            start_mean=start_mean,
            goal_mean=goal_mean,
            spread=torch.where(spread > 0, spread, torch.ones_like(spread)),
        )
        distance = (self.goal_state(start_cells) - start_cells).norm(p=self.order, dim=-1).mean()
        if distance == 0:
            raise ConfigurationError("start and target population have the same mean; choose another target")
        self.set_buffers(initial_distance=distance)
        if self.success == "discriminant":
            reference = start_cells if reference_cells is None else reference_cells
            self._fit_discriminant(reference, goal_cells, other_cells)

    def _fit_discriminant(
        self, reference_cells: Population, goal_cells: Population, other_cells: Sequence[Population]
    ) -> None:
        if min(len(reference_cells), len(goal_cells)) < 2:
            raise ConfigurationError(
                "whether a cell looks more like the target than like the start is told by cells of both that nothing "
                f"was learned from, at least 2 of each, and there are {len(goal_cells)} of the target and "
                f"{len(reference_cells)} of the start; give more cells, or judge by distance "
                "(--model.task.init_args.success radius)"
            )
        populations = (goal_cells, reference_cells, *other_cells)
        cells = torch.cat(populations).double().cpu().numpy()
        number = np.repeat(np.arange(len(populations)), [len(population) for population in populations])
        # Equal priors: the verdict on a cell must not depend on how many cells were measured of each population.
        priors = np.full(len(populations), 1 / len(populations))
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors).fit(cells, number)
        if not np.any(lda.coef_):
            raise ConfigurationError(
                "cells at the start do not vary, nor do those at the target, so no discriminant is between "
                "them; judge by distance (--model.task.init_args.success radius)"
            )
        margin, offset = _margins(lda)
        self.set_buffers(discriminant=torch.as_tensor(margin.T), threshold=torch.as_tensor(-offset))

    def goal_state(self, start: CellState) -> CellState:
        """Each cell's own goal (see ``goal`` above)."""
        if self.goal == "shift":
            return start + (self.goal_mean - self.start_mean)
        return self.goal_mean.expand_as(start)

    def observation(self, state: CellState, goal: CellState) -> Tensor:
        """Standardised cell state, and the way that is left in units of the initial distance."""
        standardised = (state - self.start_mean) / self.spread
        return torch.cat((standardised, (goal - state) / self.initial_distance), dim=-1)

    def distance(self, state: CellState, goal: CellState) -> PerCell:
        """Distance to the goal (see ``norm`` above) in units of the mean distance at the start."""
        return (goal - state).norm(p=self.order, dim=-1) / self.initial_distance

    def reward(
        self, state: CellState, dose: Dose, next_state: CellState, goal: CellState, newly_used: UsedMask
    ) -> PerCell:
        """Progress or closeness (see ``reward`` above) less the costs of the dose (see ``Task``)."""
        paid = -self.distance(next_state, goal)
        if self.pays == "progress":
            paid = self.distance(state, goal) + paid
        if self.arrival:
            came, was = (self.is_success(cells, goal).to(paid) for cells in (next_state, state))
            paid = paid + self.arrival * (came - was)
        return paid - self._cost(dose, newly_used)

    def _cost(self, dose: Dose, newly_used: UsedMask) -> PerCell:
        price = dose.new_zeros(dose.shape[0])
        if self.cost_l1:
            price = price + self.cost_l1 * dose.abs().sum(-1)
        if self.cost_l2:
            price = price + self.cost_l2 * dose.square().sum(-1)
        if self.cost_per_perturbation:
            price = price + self.cost_per_perturbation * newly_used.sum(-1)
        return price

    def uncertainty_price(self, growth: PerCell) -> PerCell:
        """See ``cost_uncertainty`` above (and ``Task``)."""
        return super().uncertainty_price(growth / self.initial_distance)

    def is_success(self, state: CellState, goal: CellState) -> CellMask:
        """Whether a settled cell counts as arrived (see ``success`` above)."""
        if self.success == "radius":
            return self.distance(state, goal) <= self.success_radius
        return (state @ self.discriminant > self.threshold).all(-1)


def _margins(lda: LinearDiscriminantAnalysis) -> tuple[np.ndarray, np.ndarray]:
    """By how much the first class is ahead of each other one: weights, and what to add."""
    if len(lda.classes_) == 2:  # scikit-learn then has one row, of the second class ahead of the first
        return -lda.coef_, -lda.intercept_
    return lda.coef_[:1] - lda.coef_[1:], lda.intercept_[:1] - lda.intercept_[1:]
