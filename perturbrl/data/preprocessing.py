"""From counts to the numbers an encoder sees: normalised, logarithmic, of genes chosen on training cells."""

from typing import Any, Final

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.reading import InMemory, ValueKind, read_rows, row_chunks, to_dense
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.schema import CellIndex, Expression

_CELLS_TO_CHOOSE_GENES: Final = 50_000


class Preprocessor:
    """Normalise to ``target_sum`` counts per cell, take log1p, keep the genes that vary most in training.

    Values that are logarithms already are taken as they are, and linearly normalised ones get log1p only.

    Args:
        n_top_genes: how many genes to keep; ``None`` keeps all that vary among the training cells.
        target_sum: library size that counts are scaled to.

    Raises:
        ConfigurationError: a number is not positive.
    """

    def __init__(self, n_top_genes: int | None = 2000, target_sum: float = 1e4) -> None:
        if target_sum <= 0 or (n_top_genes is not None and n_top_genes < 1):
            raise ConfigurationError(
                f"n_top_genes is {n_top_genes} and target_sum {target_sum:g}; both have to be positive"
            )
        self.n_top_genes = n_top_genes
        self.target_sum = float(target_sum)
        self.genes: tuple[str, ...] = ()
        self.value_kind: ValueKind = "counts"

    def fit(self, dataset: PerturbationDataset, train_index: CellIndex) -> "Preprocessor":
        """Choose the genes on training cells (an even sample of 50,000 where there are more).

        Genes are ranked by normalised dispersion of the log values (Satija 2015, as in scanpy's ``seurat``
        flavour); one that does not vary is never kept. They stay in the order of the data.

        Args:
            dataset: the cells.
            train_index: rows to learn from; hold them against ``Split.require_train`` first.

        Raises:
            DataError: there is no training cell, or no gene varies among them.
        """
        self.value_kind = dataset.value_kind
        names = np.asarray(dataset.genes, dtype=object)
        if len(train_index) == 0:
            raise DataError("there is no training cell to choose genes on; hold out fewer cells")
        evenly = np.linspace(0, len(train_index) - 1, min(len(train_index), _CELLS_TO_CHOOSE_GENES))
        values = sp.csr_matrix(self._log_values(dataset, train_index[np.unique(evenly.astype(np.int64))]))
        varies = np.flatnonzero(_varies(values))
        if len(varies) == 0:
            raise DataError(
                f"no gene varies among the {len(train_index)} training cells; give cells that differ"
            )
        if self.n_top_genes is not None and self.n_top_genes < len(varies):
            varies = varies[_most_variable(values[:, varies], self.n_top_genes)]
        self.genes = tuple(names[varies])
        return self

    def transform(self, dataset: PerturbationDataset, index: CellIndex) -> Expression:
        """Return log values of the kept genes, [cells, genes] float32, for the rows of ``index``.

        Genes are found by name; rows are read a piece at a time.

        Raises:
            DataError: a kept gene is not in the data (never filled with zeros), or the values are of another
                kind than those the genes were chosen on.
        """
        self._check(dataset)
        column_of = {gene: column for column, gene in enumerate(dataset.genes)}
        columns = np.array([column_of[gene] for gene in self.genes])
        result = torch.empty(len(index), len(self.genes))
        for place, rows in row_chunks(index):
            values = self._log_values(dataset, rows)[:, columns]
            result[place] = torch.from_numpy(to_dense(values).astype(np.float32))
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return all that was learned as plain numbers and text, for a checkpoint."""
        return {
            "n_top_genes": self.n_top_genes,
            "target_sum": self.target_sum,
            "genes": list(self.genes),
            "value_kind": self.value_kind,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Preprocessor":
        """Restore a fitted preprocessor."""
        restored = cls(state["n_top_genes"], state["target_sum"])
        restored.genes = tuple(state["genes"])
        restored.value_kind = state["value_kind"]
        return restored

    def _check(self, dataset: PerturbationDataset) -> None:
        if not self.genes:
            raise ConfigurationError("the preprocessor has no genes yet; fit it or restore it first")
        missing = sorted(set(self.genes) - set(dataset.genes))
        if missing:
            raise DataError(
                f"the data lack {len(missing)} of the {len(self.genes)} genes in use ({_shown(missing)}); "
                "give data with all of them, or fit anew"
            )
        if dataset.value_kind != self.value_kind:
            raise DataError(
                f"the data are {dataset.value_kind}, the fitted ones {self.value_kind}; give the same kind"
            )

    def _log_values(self, dataset: PerturbationDataset, rows: CellIndex) -> InMemory:
        values = read_rows(dataset.matrix, rows)
        if dataset.value_kind == "counts":
            scale = (self.target_sum / dataset.size_factors[rows])[:, None]
            values = values * scale if isinstance(values, np.ndarray) else values.multiply(scale).tocsr()
        return values if dataset.value_kind == "log1p" else np.log1p(values)


def _shown(names: list[str], limit: int = 10) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _varies(values: sp.csr_matrix) -> np.ndarray:
    highest, lowest = values.max(axis=0), values.min(axis=0)
    return (highest.toarray() > lowest.toarray()).ravel()


def _most_variable(values: sp.csr_matrix, n: int) -> np.ndarray:
    import scanpy  # seconds to import, and only a choice among genes needs it

    found = scanpy.pp.highly_variable_genes(AnnData(values), n_top_genes=n, flavor="seurat", inplace=False)
    # scanpy keeps all genes that tie with the last one.
    order = np.argsort(-found["dispersions_norm"].fillna(-np.inf).to_numpy(), kind="stable")
    return np.sort(order[:n])
