"""Encoders turn expression into the cell state a twin works with, and back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Int
from torch import Tensor

from perturbrl.data.fitted import FittedModule
from perturbrl.errors import DataError
from perturbrl.schema import CONTROL_LABEL, CellState, Expression


class Encoder(FittedModule, ABC):
    """A map between log-normalised expression and cell states, fitted on training cells only.

    Attributes:
        latent_dim: width of a cell state.
    """

    latent_dim: int

    @abstractmethod
    def fit(self, expression: Expression) -> Self:
        """Learn the map from training cells.

        Raises:
            DataError: there are too few cells or genes for the requested latent dimension.
        """

    @abstractmethod
    def encode(self, expression: Expression) -> CellState:
        """Cell states of ``expression``."""

    @abstractmethod
    def decode(self, state: CellState) -> Expression:
        """Expression that belongs to ``state``; an approximation, since the latent space is smaller."""


def check_enough(expression: Expression, latent_dim: int) -> None:
    """Refuse to fit ``latent_dim`` dimensions on fewer cells or genes than that.

    Raises:
        DataError: too few cells or genes.
    """
    cells, genes = expression.shape
    if min(cells, genes) < latent_dim + 1:
        raise DataError(
            f"{cells} training cells with {genes} genes cannot carry {latent_dim} latent dimensions; "
            f"set the encoder's latent_dim to at most {max(1, min(cells, genes) - 1)}"
        )


@dataclass(frozen=True)
class EncodedCells:
    """Training cells in both spaces, with what was done to them.

    Attributes:
        latent: ``[cells, latent]`` cell states.
        expression: ``[cells, genes]`` log-normalised expression.
        labels: canonical perturbation label of each cell.
        genes: gene names, in the order of ``expression``'s columns.
    """

    latent: CellState
    expression: Expression
    labels: tuple[str, ...]
    genes: tuple[str, ...]

    def rows_of(self, label: str) -> Int[Tensor, " rows"]:
        """Row numbers of the cells with ``label``."""
        return torch.tensor([i for i, have in enumerate(self.labels) if have == label], dtype=torch.long)

    def mean_of(self, label: str) -> Tensor:
        """Mean cell state, ``[latent]``, of the cells with ``label``.

        Raises:
            DataError: no training cell has this label.
        """
        rows = self.rows_of(label)
        if len(rows) == 0:
            raise DataError(f"no training cell is labelled '{label}'; choose one of {self.perturbations}")
        return self.latent[rows].mean(0)

    @property
    def perturbations(self) -> Sequence[str]:
        """Labels other than control, sorted."""
        return sorted(set(self.labels) - {CONTROL_LABEL})
