"""What a policy sees of a cell: all that decides what can follow, and nothing that grows with thousands of doses."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perturbrl.envs.base import Task
from perturbrl.schema import CellState, Dose, UsedMask
from perturbrl.twins.perturbations import PerturbationSpace
from perturbrl.twins.splitmix import random_bits

MOST_COLUMNS: Final = 64  # bits of a random number


@dataclass(frozen=True)
class ObservationFunction:
    """The task's observation, what a cell has received before (where that matters), and the time that is left.

    What a cell has received decides what follows where perturbations are limited in number or the reward looks
    at newly used ones. The share of the limit that is left and the set of used perturbations are observed then:
    up to 64 perturbations one by one, beyond that by the sum of one fixed random vector for each. These vectors
    have 64 entries of +1/8 or -1/8, so like one-hot rows they have length 1 and are nearly at right angles: the
    squared distance between the images of two sets is about the number of perturbations in which they differ. Two
    different sets of one size have equal images with a probability of at most 2^-64 (sets of other sizes leave
    another share of the limit), so of the 8e13 pairs of sets of two among 5,000, none must be expected to be
    mistaken for each other. Sums are exact in single precision, so equal sets look equal to the last bit
    everywhere.

    Args:
        task: aimed, so that the width of its own observation is known.
        space: what may be dosed.
        horizon: steps of an episode.
        by_dose: whether what follows depends on the highest dose of each perturbation that a cell received, which is
            seen then in place of whether it received it.
    """

    task: Task
    space: PerturbationSpace
    horizon: int
    by_dose: bool = False

    @property
    def remembers(self) -> bool:
        """Whether it says what a cell has received before."""
        return self.horizon > 1 and (self.by_dose or self.space.is_limited or self.task.heeds_newly_used)

    @property
    def width(self) -> int:
        """Columns of an observation."""
        received = 1 + min(self.space.n_perturbations, MOST_COLUMNS) if self.remembers else 0
        return self.task.observation_dim + received + 1

    def __call__(
        self,
        place: CellState,
        goal: CellState,
        used: UsedMask,
        count: Int[Tensor, "cells 1"],
        doses: Dose | None = None,
    ) -> Float[Tensor, "cells observation"]:
        """The observation of each cell after ``count`` steps.

        Args:
            place: where cells are.
            goal: where they should be.
            used: what they received.
            count: steps.
            doses: the highest dose of each perturbation that they received, where that matters.
        """
        time_left = 1.0 - count / self.horizon
        received = (self._received(used, doses),) if self.remembers else ()
        return torch.cat((self.task.observation(place, goal), *received, time_left), dim=-1)

    def _received(self, used: UsedMask, doses: Dose | None) -> Float[Tensor, "cells columns"]:
        mask = used.float()
        left = 1.0 - mask.sum(-1, keepdim=True) / self.space.most_used
        seen = mask if doses is None else doses
        image = seen if self.space.n_perturbations <= MOST_COLUMNS else seen @ self._vectors
        return torch.cat((left, image), dim=-1)

    @cached_property
    def _vectors(self) -> Float[Tensor, "perturbations columns"]:
        device = self.space.low.device
        numbers = random_bits(torch.arange(self.space.n_perturbations, device=device), 0)
        bits = (numbers[:, None] >> torch.arange(MOST_COLUMNS, device=device)) & 1
        return (2.0 * bits - 1.0) / MOST_COLUMNS**0.5
