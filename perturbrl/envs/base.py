"""The contract of a task: what cells should do, apart from how they move."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from perturbrl.data.fitted import FittedModule
from perturbrl.schema import CellMask, CellState, Dose, PerCell, Population, UsedMask


class Task(FittedModule, ABC):
    """What cells should do: goals, observation, reward and success, apart from the dynamics.

    Attributes:
        observation_dim: width of ``observation``; known after ``aim``.
        goal_depends_on_start: whether cells have goals of their own, so that none can start elsewhere.
        heeds_newly_used: whether the reward looks at ``newly_used``. The policy then sees, beside
            ``observation``, what a cell has received before (``ObservationFunction``).
    """

    observation_dim: int
    goal_depends_on_start: bool = False
    heeds_newly_used: bool = True

    @abstractmethod
    def aim(
        self, start_cells: Population, goal_cells: Population, reference_cells: Population | None = None
    ) -> None:
        """Fix the goal; none of the cells judges later.

        Args:
            start_cells: cells that episodes start from; encoder and twin may have been fitted on them.
            goal_cells: cells of the target population, which nothing was fitted on.
            reference_cells: cells of the start population, which genes and encoder were not fitted on either: only
                they may be compared with goal cells where the populations' spread counts. ``None``: start cells
                are such.
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

    @abstractmethod
    def is_success(self, state: CellState, goal: CellState) -> CellMask:
        """Whether a settled cell has arrived."""

    def is_terminal(self, state: CellState, goal: CellState) -> CellMask:
        """Whether the episode ends here for good (no bootstrapping beyond); never by default."""
        return torch.zeros(state.shape[0], dtype=torch.bool, device=state.device)
