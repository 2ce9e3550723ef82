"""What a cell's state knows of the doses that it received."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.schema import Dose


@dataclass(frozen=True)
class DoseMemory:
    """Columns of a state that hold the highest dose of each perturbation received.

    One column for each perturbation, or, where a cell can receive few of many, a pair for each that it can receive:
    its number and its dose. With 2,000 perturbations of which 2 may be given, that is 4 columns.

    Attributes:
        n_perturbations: that there are.
        most: different ones that a cell may receive; of more, the highest doses are known.
    """

    n_perturbations: int
    most: int

    @property
    def _in_pairs(self) -> bool:
        return 2 * self.most < self.n_perturbations

    @property
    def width(self) -> int:
        """How many columns."""
        return 2 * self.most if self._in_pairs else self.n_perturbations

    def highest(self, columns: Float[Tensor, "cells columns"]) -> Dose:
        """The highest doses that columns hold."""
        if not self._in_pairs:
            return columns
        number, dose = columns.split(self.most, dim=1)
        none = columns.new_zeros(len(columns), self.n_perturbations)
        return none.scatter_add(1, number.long(), dose)

    def columns(self, highest: Dose) -> Float[Tensor, "cells columns"]:
        """Columns that hold the highest doses."""
        if not self._in_pairs:
            return highest
        dose, number = highest.topk(self.most, dim=1)
        return torch.cat((number.to(dose) * (dose > 0), dose), dim=1)
