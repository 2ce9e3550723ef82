"""Encoders turn expression into the cell state a twin works with, and back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from perturbrl.data.cell_order import WHAT_ORDERS, CellOrder
from perturbrl.data.fitted import FittedModule
from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import ConfigurationError, DataError, listed
from perturbrl.schema import CellState, Expression


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

    def unseen_spread(self, expression: Expression) -> Float[Tensor, " latent"]:
        """Standard deviation, in each dimension, of cells not fitted on, in units of that of the cells fitted on.

        An encoder gives the noise of the cells it was fitted on a place of its own. 1 where an encoder cannot tell.

        Args:
            expression: the cells that it was fitted on.
        """
        return torch.ones(self.latent_dim)


def check_enough(expression: Expression, latent_dim: int) -> None:
    """Refuse to fit ``latent_dim`` dimensions on fewer cells or genes than that.

    Raises:
        ConfigurationError: less than one dimension is asked for.
        DataError: too few cells or genes.
    """
    cells, genes = expression.shape
    if latent_dim < 1:
        raise ConfigurationError(f"the encoder's latent_dim is {latent_dim}; give at least 1")
    if min(cells, genes) <= latent_dim:
        most = min(cells, genes) - 1
        remedy = (
            f"set the encoder's latent_dim to at most {most}" if most >= 1 else "give more cells and genes"
        )
        raise DataError(
            f"{cells} training cells with {genes} genes cannot carry {latent_dim} latent dimensions; {remedy}"
        )


@dataclass(frozen=True)
class EncodedCells:
    """Training cells in both spaces, with what was done to them.

    Attributes:
        latent: ``[cells, latent]`` cell states.
        expression: ``[cells, genes]`` log-normalised expression.
        labels: perturbation of each cell.
        genes: gene names, in the order of ``expression``'s columns.
        contexts: where each cell was measured, such as its type; ``None`` where that is not known.
        priors: what is known of perturbations beside these cells.
        order: when each cell is; ``None`` where nothing orders them.
        unordered: why nothing does, and what to give.
        allowed: the only perturbations that may be dosed, measured or not; ``None`` where nobody said.
        aliases: the name that is meant, by the other names that tables may use.
        sense: 1 where the file says that perturbations raise the gene of their name, -1 where they lower it, else 0.
    """

    latent: CellState
    expression: Expression
    labels: tuple[str, ...]
    genes: tuple[str, ...]
    contexts: tuple[str, ...] | None = None
    priors: tuple[PriorKnowledge, ...] = ()
    order: CellOrder | None = None
    unordered: str = ""
    allowed: tuple[str, ...] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    sense: int = 0

    def require_order(self) -> CellOrder:
        """When each cell is.

        Raises:
            DataError: nothing orders these cells (the message says why and what to give).
        """
        if self.order is None:
            raise DataError(self.unordered or f"nothing orders the cells; {WHAT_ORDERS}")
        return self.order

    def of_rows(self, rows: Int[Tensor, " some"]) -> "EncodedCells":
        """Some of the cells, with all that is known beside them."""
        chosen = rows.tolist()
        return replace(
            self,
            latent=self.latent[rows],
            expression=self.expression[rows],
            labels=tuple(self.labels[i] for i in chosen),
            contexts=None if self.contexts is None else tuple(self.contexts[i] for i in chosen),
            order=None if self.order is None else replace(self.order, values=self.order.values[rows]),
        )

    def rows_of(self, label: str) -> Int[Tensor, " rows"]:
        """Row numbers of the cells with ``label``, in whatever spelling."""
        return self._rows.get(Label.parse(label), torch.empty(0, dtype=torch.long))

    @cached_property
    def _rows(self) -> dict[Label, Int[Tensor, " rows"]]:
        read = np.array([Label.parse(label) for label in self.labels], dtype=object)
        labels, codes = np.unique(read, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(codes))[:-1])
        return {label: torch.from_numpy(rows) for label, rows in zip(labels, parts, strict=True)}

    def mean_of(self, label: str) -> Tensor:
        """Mean cell state, ``[latent]``, of the cells with ``label``.

        Raises:
            DataError: no training cell has this label.
        """
        rows = self.rows_of(label)
        if len(rows) == 0:
            known = listed(sorted(self._rows), 12)
            raise DataError(f"no training cell is labelled '{label}'; choose one of {known}")
        return self.latent[rows].mean(0)

    @property
    def perturbations(self) -> Sequence[Label]:
        """Labels other than control, sorted."""
        return sorted(label for label in self._rows if not label.is_control)
