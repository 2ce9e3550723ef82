"""The contract of a task: what cells should do, apart from how they move."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perturbrl.data.fitted import FittedModule
from perturbrl.schema import CellMask, CellState, Dose, PerCell, Population, UsedMask


@dataclass(frozen=True, eq=False)
class Gains:
    """By how much the errors of conditions fell.

    Attributes:
        parts: ``[conditions, kinds]`` decrease of each kind of error, in units of its mean at the start of training.
        weights: of the kinds.
    """

    parts: Float[Tensor, "conditions kinds"]
    weights: Float[Tensor, " kinds"]

    @property
    def total(self) -> Float[Tensor, " conditions"]:
        """Weighted sum over kinds."""
        return self.parts @ self.weights

    def by_unit(self, units: Int[Tensor, " conditions"]) -> "Gains":
        """Means over the conditions with the same number."""
        place = units.unique(return_inverse=True)[1]
        total = self.parts.new_zeros(int(place.max()) + 1, self.parts.shape[1]).index_add(
            0, place, self.parts
        )
        return Gains(total / place.bincount()[:, None], self.weights)


class Task(FittedModule, ABC):
    """What cells should do: goals, observation, reward and success, apart from the dynamics.

    Attributes:
        observation_dim: width of ``observation``; known after ``aim``.
        goal_depends_on_start: whether cells have goals of their own, so that none can start elsewhere.
        heeds_newly_used: whether the reward looks at ``newly_used``. The policy then sees, beside
            ``observation``, what a cell has received before (``ObservationFunction``).
        cost_uncertainty: price of not knowing where a cell is (``uncertainty_price``), for twins that tell.
        cost_unmeasured: price of each perturbation whose effect nobody measured, for twins that tell the evidence.
    """

    observation_dim: int
    goal_depends_on_start: bool = False
    heeds_newly_used: bool = True
    cost_uncertainty: float = 0.0
    cost_unmeasured: float = 0.0

    @abstractmethod
    def aim(
        self,
        start_cells: Population,
        goal_cells: Population,
        reference_cells: Population | None = None,
        other_cells: Sequence[Population] = (),
    ) -> None:
        """Fix the goal; none of the cells judges later.

        Args:
            start_cells: cells that episodes start from; encoder and twin may have been fitted on them.
            goal_cells: cells of the target population, which nothing was fitted on.
            reference_cells: cells of the start population, which genes and encoder were not fitted on either: only
                they may be compared with goal cells where the populations' spread counts. ``None``: start cells
                are such.
            other_cells: cells of further populations, which cells could be taken for.
        """

    @abstractmethod
    def goal_state(self, start: CellState) -> CellState:
        """The state that each starting cell should reach."""

    @abstractmethod
    def observation(self, state: CellState, goal: CellState) -> Tensor:
        """What the policy sees of a cell on its way, ``[cells, observation_dim]``; time and doses are added."""

    @abstractmethod
    def reward(
        self, state: CellState, dose: Dose, next_state: CellState, goal: CellState, newly_used: UsedMask
    ) -> PerCell:
        """Reward of one transition; ``newly_used`` marks perturbations dosed for the first time."""

    def uncertainty_price(self, growth: PerCell) -> PerCell:
        """What is taken off the reward where the standard deviation of a cell's place has grown."""
        return self.cost_uncertainty * growth

    @abstractmethod
    def is_success(self, state: CellState, goal: CellState) -> CellMask:
        """Whether a settled cell has arrived."""

    def watch(self, move: Callable[[CellState], CellState]) -> None:
        """Look at what the policy does, before every iteration; a task of each cell for itself need not.

        Args:
            move: where cells are after an episode of the policy without exploring.
        """
        return

    def gains(self, start: Population, moved: Population, goal: Population) -> "Gains | None":
        """How much nearer cells came to what was measured; ``None`` where a task does not judge populations.

        Args:
            start: cells at the start, condition by condition, as many of each.
            moved: the same cells after an episode.
            goal: measured cells, likewise.
        """
        return None

    def as_used(self, start: Population, moved: Population) -> Population:
        """Where cells are once the policy is used, which decides whether it is; all of its movement by default.

        Args:
            start: see ``gains``.
            moved: the same cells after an episode.
        """
        return moved

    def is_terminal(self, state: CellState, goal: CellState) -> CellMask:
        """Whether the episode ends here for good (no bootstrapping beyond); never by default."""
        return torch.zeros(state.shape[0], dtype=torch.bool, device=state.device)
