"""Measured cells by label and part of their split, as expression and as states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch

from perturbrl.data.cell_order import (
    CellOrder,
    OrderOptions,
    diffusion_order,
    judged_order,
    order_column,
    order_in_words,
    why_unordered,
)
from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import CONTROL
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.senses import sense_of
from perturbrl.data.split import Split
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.schema import PERTURBATION_TYPE_OBS, CellIndex, CellState, Expression

Part = Literal["train", "goal", "reference", "test", "all"]


@dataclass(frozen=True, eq=False)
class MeasuredCells:
    """A data set's cells, with what was fitted on its training cells.

    Args:
        dataset: the cells.
        split: their parts; ``None`` where they are new to a trained model, and only the part ``all`` is known.
        preprocessor: fitted on the training cells.
        encoder: fitted on the training cells.
        ordering: what orders the cells.
    """

    dataset: PerturbationDataset
    split: Split | None
    preprocessor: Preprocessor
    encoder: Encoder
    ordering: OrderOptions = OrderOptions()  # noqa: RUF009  frozen

    @property
    def genes(self) -> tuple[str, ...]:
        """Genes kept, in the order of expression's columns."""
        return tuple(self.preprocessor.genes)

    def require_split(self) -> Split:
        """The parts.

        Raises:
            ConfigurationError: these cells were not split.
        """
        if self.split is None:
            raise ConfigurationError(
                "these cells were not split into parts, because the model was trained on others; give the file it "
                "was trained on"
            )
        return self.split

    def rows(self, label: str, part: Part) -> np.ndarray:
        """Row numbers of the cells with ``label`` in one part of the split."""
        of_label = self.dataset.population_rows(label)
        return of_label if part == "all" else np.intersect1d(of_label, getattr(self.require_split(), part))

    def expression(self, label: str, part: Part) -> Expression:
        """Log-normalised expression of the cells with ``label`` in one part of the split.

        Raises:
            DataError: there are none.
        """
        rows = self.rows(label, part)
        if len(rows) == 0:
            raise DataError(
                f"no '{label}' cell is in the {part} part of the split; lower the held-out share or add cells"
            )
        return self.preprocessor.transform(self.dataset, rows)

    def states(self, label: str, part: Part) -> CellState:
        """Cell states of the cells with ``label`` in one part of the split.

        Raises:
            DataError: there are none.
        """
        return self._encoded(self.expression(label, part))

    def every_state(self) -> CellState:
        """Cell states of all cells, whatever part they are in, in the order of the data."""
        return self._encoded(self.preprocessor.transform(self.dataset, np.arange(self.dataset.n_cells)))

    def reference(self, source: str) -> CellState:
        """Cell states of the source's reference cells (see ``Split``); no row where there are none."""
        if len(self.rows(source, "reference")):
            return self.states(source, "reference")
        return torch.empty(0, self.encoder.latent_dim, device=self._device)

    def other_types(self, populations: Sequence[str]) -> tuple[CellState, ...]:
        """Training cells of each cell type, without those of ``populations``; types of one cell are left out."""
        if self.dataset.fields.cell_type_key is None:
            return ()
        taken = np.concatenate([self.dataset.population_rows(name) for name in populations])
        rows = np.setdiff1d(self.require_split().train, taken)
        types = self.dataset.cell_types[rows]
        kept = [rows[types == name] for name in sorted(set(types)) if (types == name).sum() > 1]
        return tuple(self._encoded(self.preprocessor.transform(self.dataset, own)) for own in kept)

    def training(self, rows: CellIndex | None = None) -> EncodedCells:
        """Cells to learn from, in both spaces: those of ``rows``, or all training cells."""
        rows = self.require_split().train if rows is None else rows
        expression = self.preprocessor.transform(self.dataset, rows)
        labels = tuple(self.dataset.labels[rows])
        known = self.dataset.fields.cell_type_key is not None
        types = tuple(self.dataset.cell_types[rows]) if known else None
        latent = self._encoded(expression).cpu()
        order = self._order(rows, latent)
        obs = self._obs(rows)
        unordered = "" if order is not None else why_unordered(self._ordered_obs(rows))
        return EncodedCells(
            latent,
            expression,
            labels,
            self.genes,
            types,
            order=order,
            unordered=unordered,
            sense=sense_of(obs[PERTURBATION_TYPE_OBS]) if PERTURBATION_TYPE_OBS in obs else 0,
        )

    @property
    def order_source(self) -> str:
        """What orders cells, in words, or why nothing does."""
        return order_in_words(self._ordered_obs(self.require_split().train), self.ordering)

    def held_out(self) -> CellState:
        """Cell states of the cells that judge and that nobody perturbed."""
        rows = self.require_split().test
        rows = rows[self.dataset.labels[rows] == CONTROL]
        return self._encoded(self.preprocessor.transform(self.dataset, rows))

    def judged_order(self, label: str, part: Part) -> CellOrder | None:
        """When the cells with ``label`` in one part of the split are, to judge by; ``None`` where nothing orders them.

        Raises:
            DataError: the named column or root cannot be used.
        """
        column = order_column(self._ordered_obs(self.require_split().train), self.ordering)
        if column is not None:
            return column.of(self._obs(self.rows(label, part)))
        if self.ordering.root is None:
            return None
        cells = self.training()
        return judged_order(
            self.states(label, part).cpu().numpy(), cells.latent.numpy(), cells.require_order()
        )

    def _order(self, rows: CellIndex, latent: CellState) -> CellOrder | None:
        """The order of training cells, from them alone."""
        column = order_column(self._ordered_obs(rows), self.ordering)
        if column is not None:
            return column.of(self._obs(rows))
        root = self.ordering.root
        if root is None:
            return None
        among = np.flatnonzero(np.isin(rows, self.dataset.population_rows(root)))
        known = self.dataset.fields.cell_type_key is not None
        return diffusion_order(latent, among, root, self.dataset.cell_types[rows] if known else None)

    def _ordered_obs(self, rows: CellIndex) -> pd.DataFrame:
        """Of the cells that must be ordered alike: those learned from and those that judge."""
        return self._obs(rows if self.split is None else np.union1d(self.split.train, self.split.test))

    def _obs(self, rows: CellIndex) -> pd.DataFrame:
        return self.dataset.adata.obs.iloc[rows]

    @property
    def _device(self) -> torch.device:
        """The encoder's, which follows the twin's."""
        return next(self.encoder.buffers()).device

    def _encoded(self, expression: Expression) -> CellState:
        return self.encoder.encode(expression.to(self._device))
