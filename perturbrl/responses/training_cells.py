"""The cells that response models learn from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix
from torch import Tensor

from perturbrl.data.labels import CONTROL, Label
from perturbrl.errors import DataError
from perturbrl.schema import CONTROL_LABEL, GeneVector

ONE_CONTEXT: Final = ""
# Values of a block of cells: 64 MiB in double precision.
_BLOCK: Final = 1 << 23

Condition = tuple[Label, str]
"""What was done, and in which context (a cell type, say)."""


@dataclass(frozen=True)
class TrainingCells:
    """The cells that response models may learn from; held-out perturbations must not be among them.

    Attributes:
        expression: ``[cells, genes]`` log-normalised; sparse where thousands of genes of many cells need it.
        labels: one per cell: ``control``, ``A`` or ``A+B``, in whatever order.
        genes: name of each column.
        cell_types: one per cell, the contexts that responses differ between.

    Raises:
        DataError: lengths differ, values are not finite, or there is no control or no perturbed cell.
    """

    expression: Float[np.ndarray, "cells genes"] | Float[Tensor, "cells genes"] | csr_matrix
    labels: Sequence[str]
    genes: Sequence[str]
    cell_types: Sequence[str] | None = None

    def __post_init__(self) -> None:
        n_cells, n_genes = self.expression.shape
        types = n_cells if self.cell_types is None else len(self.cell_types)
        if (n_cells, n_genes, n_cells) != (len(self.labels), len(self.genes), types):
            raise DataError(
                f"expression of {n_cells} cells and {n_genes} genes came with {len(self.labels)} labels, "
                f"{len(self.genes)} gene names and {types} cell types; give one per cell and per gene"
            )
        if not all(np.isfinite(block).all() for _, block in self.blocks()):
            raise DataError("the training expression holds values that are not finite; remove those cells")
        kinds = {Label.parse(label) for label in set(self.labels)}
        if CONTROL not in kinds or len(kinds) < 2:
            raise DataError(
                f"responses need '{CONTROL_LABEL}' cells and at least one perturbation to learn from, not "
                f"the labels {sorted(kinds)[:10]}; check the labels and the split"
            )

    @property
    def control_types(self) -> Sequence[str]:
        """Cell type of each control cell; none where types are not known."""
        if self.cell_types is None:
            return ()
        pairs = zip(self.labels, self.cell_types, strict=True)
        return [cell_type for label, cell_type in pairs if Label.parse(label).is_control]

    def blocks(self) -> Iterator[tuple[slice, Float[np.ndarray, "_ genes"]]]:
        """Expression in double precision, some cells at a time: all cells at once may not fit into memory."""
        n_cells, n_genes = self.expression.shape
        step = max(1, _BLOCK // max(1, n_genes))
        for start in range(0, n_cells, step):
            rows = slice(start, start + step)
            some = self.expression[rows]
            dense = some if isinstance(some, np.ndarray | Tensor) else some.toarray()
            yield rows, np.asarray(dense, dtype=np.float64)

    @cached_property
    def conditions(self) -> tuple[tuple[Condition, ...], Int[np.ndarray, " cells"]]:
        """The populations, sorted, and the number of each cell's."""
        contexts = [ONE_CONTEXT] * len(self.labels) if self.cell_types is None else self.cell_types
        label_codes, texts = pd.factorize(np.array(self.labels, dtype=object))
        context_codes, names = pd.factorize(np.array(list(map(str, contexts)), dtype=object))
        pairs, found = pd.factorize(label_codes * len(names) + context_codes)
        of_pair = [(Label.parse(texts[pair // len(names)]), names[pair % len(names)]) for pair in found]
        conditions = tuple(sorted(set(of_pair)))
        place = {condition: i for i, condition in enumerate(conditions)}
        return conditions, np.array([place[condition] for condition in of_pair])[pairs]

    def means_by(self, codes: Int[np.ndarray, " cells"], n_groups: int) -> Float[np.ndarray, "groups genes"]:
        """Mean expression of groups of cells.

        Args:
            codes: number of each cell's group; negative ones belong to none.
            n_groups: how many groups there are, none of them empty.
        """
        sums = np.zeros((n_groups, len(self.genes)))
        for rows, block in self.blocks():
            inside = np.flatnonzero(codes[rows] >= 0)
            present, places = np.unique(codes[rows][inside], return_inverse=True)
            members = csr_matrix((np.ones(len(inside)), (places, inside)), shape=(len(present), len(block)))
            sums[present] += members @ block
        return sums / np.bincount(codes[codes >= 0], minlength=n_groups)[:, None]

    def centroids(self, among: Bool[np.ndarray, " cells"] | None = None) -> dict[Label, GeneVector]:
        """Mean expression of each label; only of cells ``among`` these where given."""
        conditions, codes = self.conditions
        labels = sorted({label for label, _ in conditions})
        place = {label: i for i, label in enumerate(labels)}
        of_label = np.array([place[label] for label, _ in conditions])[codes]
        kept = of_label if among is None else np.where(among, of_label, -1)
        present = np.unique(kept[kept >= 0])
        groups = np.where(kept >= 0, np.searchsorted(present, kept), -1)
        means = self.means_by(groups, len(present))
        return {labels[i]: mean for i, mean in zip(present, means, strict=True)}


def nothing_to_compare(conditions: Sequence[Condition]) -> str:
    """What is wrong where no context has both control and perturbed cells."""
    contexts = sorted({context for _, context in conditions})
    return (
        f"no context among {contexts[:6]} has both control and perturbed cells; check the labels and the column of "
        "contexts"
    )
