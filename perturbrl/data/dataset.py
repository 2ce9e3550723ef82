"""Cells under known perturbations: one checked form for every file and convention."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from perturbrl.data.file_labels import read_labels
from perturbrl.data.labels import Label
from perturbrl.data.populations import Populations
from perturbrl.data.presets import ColumnOptions, FieldMap, detect_fields
from perturbrl.data.reading import (
    Matrix,
    ValueKind,
    check_cells,
    kind_of_values,
    matrix_of,
    read_cells,
    read_rows,
    require_kind,
    row_chunks,
)
from perturbrl.errors import DataError, listed
from perturbrl.schema import (
    BATCH_OBS,
    CELL_TYPE_OBS,
    CONTROL_LABEL,
    COUNTS_LAYER,
    IS_CONTROL_OBS,
    PERTURBATION_OBS,
    SIZE_FACTOR_OBS,
    CellIndex,
)


@dataclass(frozen=True, eq=False)
class PerturbationDataset:
    """Cells x genes with a canonical perturbation, a control flag and a library size for every cell.

    Args:
        adata: ``obs`` has ``perturbation`` (canonical label), ``is_control``, ``size_factor`` and, where the
            file knows them, ``cell_type`` and ``batch``; the matrix is as it was read.
        fields: which columns of the file these came from.
        value_kind: what the values of ``matrix`` are.
        measured: every label of the cells, control among them, sorted.
    """

    adata: AnnData
    fields: FieldMap
    value_kind: ValueKind
    measured: tuple[Label, ...]

    @classmethod
    def from_adata(
        cls, adata: AnnData, fields: FieldMap, value_kind: ValueKind | None = None
    ) -> "PerturbationDataset":
        """Check and standardise cells in memory or backed; ``adata`` itself is left as it is.

        Size factors are the column ``fields.size_factor_key``, else each cell's sum on the linear scale: the
        library size of counts. A cell without any count has none and is an error, not silently dropped.

        Raises:
            DataError: see ``check_cells``; or labels are missing or not text, there is no control cell, or a
                size factor is not positive; or the values cannot be of the kind ``value_kind`` says.
        """
        check_cells(adata, "the data")
        matrix = matrix_of(adata)
        kind = kind_of_values(matrix) if value_kind is None else require_kind(matrix, value_kind)
        obs = adata.obs.copy()
        labels = read_labels(obs, fields)
        obs[PERTURBATION_OBS] = pd.Categorical([str(label) for label in labels])
        obs[IS_CONTROL_OBS] = (obs[PERTURBATION_OBS] == CONTROL_LABEL).to_numpy()
        obs[SIZE_FACTOR_OBS] = _size_factors(adata, matrix, kind, fields)
        for name, key in ((CELL_TYPE_OBS, fields.cell_type_key), (BATCH_OBS, fields.batch_key)):
            if key is not None:
                obs[name] = pd.Categorical(_texts(adata.obs, key))
        return cls(_with_obs(adata, obs), fields, kind, tuple(sorted(set(labels))))

    @property
    def matrix(self) -> Matrix:
        """The values: ``layers["counts"]`` where there is one, else ``X``; perhaps on disk."""
        return matrix_of(self.adata)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self.adata.n_obs)

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """Gene names in the order of the matrix's columns."""
        return tuple(map(str, self.adata.var_names))

    @cached_property
    def barcodes(self) -> tuple[str, ...]:
        """Cell names in the order of the matrix's rows."""
        return tuple(map(str, self.adata.obs_names))

    @cached_property
    def labels(self) -> np.ndarray:
        """Label of every cell, an object array of ``Label``."""
        column = self.adata.obs[PERTURBATION_OBS].cat
        label_of = {str(label): label for label in self.measured}
        return np.array([label_of[text] for text in column.categories], dtype=object)[column.codes]

    @cached_property
    def perturbations(self) -> tuple[Label, ...]:
        """All labels but control, sorted."""
        return tuple(label for label in self.measured if not label.is_control)

    @property
    def singles(self) -> tuple[Label, ...]:
        """Labels that name one perturbation."""
        return tuple(label for label in self.perturbations if not label.is_combination)

    @property
    def combinations(self) -> tuple[Label, ...]:
        """Labels that name two perturbations or more."""
        return tuple(label for label in self.perturbations if label.is_combination)

    @property
    def control_cells(self) -> CellIndex:
        """Rows of the untreated cells."""
        return self.population_rows(CONTROL_LABEL)

    @cached_property
    def populations(self) -> Populations:
        """The populations of these cells, by label or by query of ``obs``."""
        return Populations(self.adata.obs, self.measured, self.fields.control_value)

    @cached_property
    def size_factors(self) -> np.ndarray:
        """Library size of every cell, float64."""
        return self.adata.obs[SIZE_FACTOR_OBS].to_numpy(dtype=np.float64)

    @cached_property
    def cell_types(self) -> np.ndarray:
        """Cell type of every cell, an object array of str.

        Raises:
            DataError: the file does not say.
        """
        if CELL_TYPE_OBS not in self.adata.obs.columns:
            raise DataError("the data do not say the type of each cell; give columns.cell_type_key")
        return np.asarray(self.adata.obs[CELL_TYPE_OBS], dtype=object)

    def population_rows(self, name: str) -> CellIndex:
        """Return the rows of a population's cells, in file order (see ``Populations``).

        Args:
            name: a label, in whatever spelling, or a query of ``obs`` (``cell_type=B,perturbation=IFNB``).

        Raises:
            DataError: there is no such label, column, value or cell; the closest are named.
            ConfigurationError: the text is neither a label nor a query.
        """
        return self.populations.rows(name)

    def require_label(self, target: str) -> Label:
        """Return the label of a measured perturbation, in whatever spelling (see ``Populations.label``).

        Raises:
            DataError: it was not measured, or at several doses; the closest labels are named.
        """
        return self.populations.label(target)

    def require_perturbations(self, at_least: int = 2) -> None:
        """Refuse data with too few different perturbations for what is asked.

        Raises:
            DataError: how many there are, and what can be done with them.
        """
        n = len(self.perturbations)
        if n >= at_least:
            return
        found = f"only {listed(self.perturbations, 5)}" if n else "only control cells"
        key = self.fields.perturbation_key
        where = "the file" if key is None else f"obs['{key}']"
        raise DataError(
            f"this needs at least {at_least} measured perturbation(s) beside control and {where} has {found}; give "
            "other data, or a task that needs fewer"
        )


def load_dataset(
    path: Path | str,
    columns: ColumnOptions = ColumnOptions(),  # noqa: B008  frozen
    *,
    value_kind: ValueKind | None = None,
    backed: bool = False,
    labels_needed: bool = True,
) -> PerturbationDataset:
    """Read a file, find its fields (see ``detect_fields``) and return the checked cells.

    Args:
        path: see ``read_cells``.
        columns: which columns of ``obs`` say what.
        value_kind: what the values are; ``None`` tells by them.
        backed: leave the matrix of a ``.h5ad`` on disk.
        labels_needed: see ``detect_fields``.

    Raises:
        DataError: the file, its labels or its values cannot be used.
    """
    adata = read_cells(path, backed)
    return PerturbationDataset.from_adata(
        adata, detect_fields(adata, columns, labels_needed=labels_needed), value_kind
    )


def _texts(obs: pd.DataFrame, key: str) -> np.ndarray:
    """Return a column as text; a missing value becomes ``unknown``."""
    return np.array(["unknown" if pd.isna(value) else str(value) for value in obs[key]], dtype=object)


def _size_factors(adata: AnnData, matrix: Matrix, kind: ValueKind, fields: FieldMap) -> np.ndarray:
    key = fields.size_factor_key
    if key is None:
        sizes = _linear_sums(matrix, kind)
    elif pd.api.types.is_numeric_dtype(adata.obs[key]):
        sizes = adata.obs[key].to_numpy(dtype=np.float64)
    else:
        raise DataError(f"size factors in obs['{key}'] must be numbers; give another columns.size_factor_key")
    bad = np.flatnonzero(~(sizes > 0) | ~np.isfinite(sizes))
    if len(bad):
        source = f"size factor in obs['{key}']" if key is not None else "count"
        first = adata.obs_names[bad[0]]
        raise DataError(
            f"{len(bad)} of {len(sizes)} cells have no positive {source} (first: {first}); drop them"
        )
    return sizes


def _linear_sums(matrix: Matrix, kind: ValueKind) -> np.ndarray:
    sums = np.empty(matrix.shape[0])
    for place, index in row_chunks(np.arange(matrix.shape[0])):
        rows = read_rows(matrix, index)
        sums[place] = np.asarray(
            (np.expm1(rows) if kind == "log1p" else rows).sum(axis=1, dtype=np.float64)
        ).ravel()
    return sums


def _with_obs(adata: AnnData, obs: pd.DataFrame) -> AnnData:
    """Return a shallow copy with other ``obs``; matrices are shared, or stay on disk."""
    layers = {COUNTS_LAYER: _by_row(adata.layers[COUNTS_LAYER])} if COUNTS_LAYER in adata.layers else {}
    return AnnData(
        _by_row(adata.X), obs=obs, var=adata.var, uns=adata.uns, obsm=dict(adata.obsm), layers=layers
    )


def _by_row(matrix: Matrix) -> Matrix:
    return matrix.tocsr() if isinstance(matrix, sp.spmatrix | sp.sparray) else matrix
