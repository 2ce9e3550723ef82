"""Cells of an atlas in the encoder's space: those a landscape is learned from, and those that judge it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Generator

from perturbrl.data.cell_order import OrderOptions
from perturbrl.data.dataset import load_dataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.splits import HeldOutCells
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import DataError
from perturbrl.schema import CellIndex, CellState
from perturbrl.twins.landscape import LandscapeTwin

NEIGHBOURS: Final = 15


@dataclass(frozen=True, eq=False)
class Atlas:
    """One draw of an atlas into training cells and the fifth that judges.

    Attributes:
        cells: training cells.
        encoder: principal components of these.
        states: ``[held, latent]`` of the cells held out.
        types: of these.
    """

    cells: EncodedCells
    encoder: PCAEncoder
    states: CellState
    types: np.ndarray

    @property
    def training_types(self) -> np.ndarray:
        """Types of the training cells."""
        if self.cells.contexts is None:
            raise DataError("the atlas has no cell types; give obs['cell_type']")
        return np.array(self.cells.contexts)

    @cached_property
    def classifier(self) -> KNeighborsClassifier:
        """Tells a type by the nearest training cells."""
        return KNeighborsClassifier(NEIGHBOURS).fit(self.cells.latent.numpy(), self.training_types)

    @cached_property
    def _near(self) -> NearestNeighbors:
        return NearestNeighbors(n_neighbors=NEIGHBOURS).fit(self.cells.latent.numpy())

    def recognised(self, states: CellState) -> np.ndarray:
        """The type of each state."""
        return self.classifier.predict(states.numpy())

    def manifold_distance(self, states: CellState) -> float:
        """Mean distance to the nearest training cells."""
        return float(self._near.kneighbors(states.numpy())[0].mean())

    def pseudotime(self, states: CellState) -> np.ndarray:
        """Mean order of the nearest training cells."""
        return self._order[self._near.kneighbors(states.numpy())[1]].mean(1)

    @cached_property
    def training_pseudotime(self) -> np.ndarray:
        """The same of training cells, each without itself."""
        return self._order[self._near.kneighbors(None)[1]].mean(1)

    @property
    def _order(self) -> np.ndarray:
        return self.cells.require_order().values.numpy()


def read_atlas(path: Path, seed: int, ordering: OrderOptions, allowed: Sequence[str] | None = None) -> Atlas:
    """All genes, 20 components, a fifth of the cells held out.

    Args:
        path: h5ad.
        seed: of the draw.
        ordering: what orders the cells.
        allowed: genes that may be dosed, where they are measured.
    """
    dataset = load_dataset(path)
    split = HeldOutCells(seed=seed).split(dataset)
    genes = Preprocessor(n_top_genes=None).fit(dataset, split.train)
    encoder = PCAEncoder(20).fit(genes.transform(dataset, split.train))
    measured = MeasuredCells(dataset, split, genes, encoder, ordering)
    cells = measured.training()
    if allowed is not None:
        cells = replace(cells, allowed=tuple(gene for gene in allowed if gene in set(cells.genes)))
    held = encoder.encode(genes.transform(dataset, split.test))
    return Atlas(cells, encoder, held, np.array(dataset.cell_types[split.test], dtype=str))


def states_of(measured: MeasuredCells, rows: CellIndex) -> CellState:
    """States of any cells of the file, by the encoder of the training cells."""
    return measured.encoder.encode(measured.preprocessor.transform(measured.dataset, rows))


@torch.no_grad()
def moved(
    twin: LandscapeTwin, states: CellState, transitions: int, seed: int, dose: torch.Tensor | None = None
) -> list[CellState]:
    """States after each transition, the start first; ``dose`` is held in all of them."""
    generator = Generator().manual_seed(seed)
    member = twin.draw_members(len(states), generator)
    given = states.new_zeros(len(states), twin.perturbations.n_perturbations)
    given = given if dose is None else given + dose
    path = [states]
    for _ in range(transitions):
        path.append(twin.next_state(path[-1], given, twin.draw_noise(len(states), generator), member))
    return path
