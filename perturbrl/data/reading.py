"""Read cells from a file, say in one sentence what is wrong with it, and tell counts from log values."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.abc import CSCDataset, CSRDataset

from perturbrl.errors import DataError
from perturbrl.schema import COUNTS_LAYER, CellIndex

Matrix: TypeAlias = np.ndarray | sp.spmatrix | sp.sparray | CSRDataset | CSCDataset | h5py.Dataset
InMemory: TypeAlias = np.ndarray | sp.spmatrix | sp.sparray
ValueKind: TypeAlias = Literal["counts", "log1p", "normalised"]
FileKind: TypeAlias = Literal["h5ad", "h5mu", "10x"]

CHUNK: Final = 4096  # rows in memory at a time
_KIND_ROWS: Final = 128
_LARGEST_LOG: Final = 15.0  # log1p of 3e6: more than any log-normalised value
_READ_ERRORS: Final = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError)
_FORMATS: Final = ".h5ad, .h5mu, a 10x .h5 or a 10x folder with matrix.mtx"


def read_cells(path: Path | str, backed: bool = False) -> AnnData:
    """Read cells x genes from a ``.h5ad``, a ``.h5mu`` (its RNA), a 10x ``.h5`` or a 10x ``.mtx`` folder.

    The format is told by the content. A 10x file may name two genes alike; the later ones get a suffix there,
    while in the other formats repeated gene names are an error.

    Args:
        path: the file or folder.
        backed: leave the matrix of a ``.h5ad`` on disk and read rows when they are used.

    Raises:
        DataError: the file is missing, empty, truncated, of another format, or its content cannot be used.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"there is no file '{path}'; check the path")
    adata = _read_mtx(path) if path.is_dir() else _read_hdf5(path, backed)
    check_cells(adata, path.name)
    return adata


def _read_hdf5(path: Path, backed: bool) -> AnnData:
    kind = _file_kind(path)
    if backed and kind != "h5ad":
        raise DataError(
            f"'{path.name}' is a {kind} file and cannot stay on disk; turn backed off or convert it"
        )
    try:
        if kind == "h5mu":
            return _read_h5mu(path)
        if kind == "10x":
            return _read_10x(path)
        return anndata.read_h5ad(path, backed="r" if backed else None)
    except _READ_ERRORS as error:
        raise DataError(f"'{path.name}' is damaged ({_brief(error)}); copy or download it again") from error


def _file_kind(path: Path) -> FileKind:
    if path.stat().st_size == 0:
        raise DataError(f"'{path.name}' is empty (0 bytes); copy or download it again")
    if not h5py.is_hdf5(path):
        raise DataError(f"'{path.name}' is not an h5ad file (no HDF5 signature); give {_FORMATS}")
    try:
        with h5py.File(path) as file:
            keys = set(file)
            has_barcodes = any("barcodes" in file[key] for key in keys if isinstance(file[key], h5py.Group))
    except OSError as error:
        raise DataError(f"'{path.name}' is truncated or damaged ({_brief(error)}); copy it again") from error
    if {"mod", "obs"} <= keys:
        return "h5mu"
    if {"obs", "var"} <= keys:
        return "h5ad"
    if has_barcodes:
        return "10x"
    raise DataError(f"'{path.name}' is an HDF5 file without cells (it has {sorted(keys)}); give {_FORMATS}")


def _read_h5mu(path: Path) -> AnnData:
    with h5py.File(path) as file:
        modalities = sorted(file["mod"])
        rna = next((name for name in modalities if name.lower() in ("rna", "gex", "gene expression")), None)
        if rna is None:
            raise DataError(
                f"'{path.name}' has no RNA modality ('rna' or 'gex'), only {modalities}; rename it"
            )
        adata: AnnData = anndata.io.read_elem(file["mod"][rna])
        shared: pd.DataFrame = anndata.io.read_elem(file["obs"])
    # Labels of a multimodal file may stand with all modalities or, prefixed by its name, with one.
    shared = shared.rename(columns=lambda column: str(column).removeprefix(f"{rna}:"))
    new = [column for column in shared.columns if column not in adata.obs.columns]
    adata.obs = adata.obs.join(shared[new])
    return adata


def _read_10x(path: Path) -> AnnData:
    import scanpy  # seconds to import, and only this format needs it

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Variable names are not unique")
        adata: AnnData = scanpy.read_10x_h5(path)
    adata.var_names_make_unique()
    return adata


def _read_mtx(path: Path) -> AnnData:
    import scanpy  # seconds to import, and only this format needs it

    if not any((path / name).exists() for name in ("matrix.mtx", "matrix.mtx.gz")):
        raise DataError(f"the folder '{path.name}' has no matrix.mtx or matrix.mtx.gz; give {_FORMATS}")
    try:
        adata: AnnData = scanpy.read_10x_mtx(path, make_unique=True)
    except (*_READ_ERRORS, EOFError) as error:
        raise DataError(
            f"the 10x folder '{path.name}' is damaged ({_brief(error)}); copy it again"
        ) from error
    return adata


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


def check_cells(adata: AnnData, name: str) -> None:
    """Refuse a matrix without cells or genes, with repeated names, or with values no expression can have.

    A backed matrix is checked on a sample here, and in full as its rows are read.

    Raises:
        DataError: as above, with the first offending names or values.
    """
    if adata.X is None or 0 in adata.shape:
        raise DataError(f"'{name}' has {adata.n_obs} cells and {adata.n_vars} genes; give a file with both")
    _check_unique(adata.var_names, name, "gene", "var_names_make_unique()")
    _check_unique(adata.obs_names, name, "cell", "obs_names_make_unique()")
    matrix = matrix_of(adata)
    check_values(matrix if isinstance(matrix, InMemory) else read_rows(matrix, _sample(adata.n_obs)))


def _check_unique(names: pd.Index, file: str, what: str, remedy: str) -> None:
    repeated = names[names.duplicated()].unique()
    if len(repeated):
        shown = ", ".join(map(str, repeated[:3]))
        raise DataError(
            f"'{file}' has {len(repeated)} duplicated {what} names ({shown}); call {remedy} on it first"
        )


def check_values(values: InMemory) -> None:
    """Refuse NaN, infinite and negative values.

    Raises:
        DataError: how many values are wrong, and what to do.
    """
    data = np.asarray(values.data) if sp.issparse(values) else np.asarray(values)
    if data.size == 0:
        return
    low, high = data.min(), data.max()
    if np.isnan(low) or np.isinf(low) or np.isinf(high):
        bad = int(data.size - np.isfinite(data).sum())
        raise DataError(
            f"the matrix has {bad} values that are NaN or infinite; replace them or drop those cells"
        )
    if low < 0:
        raise DataError(
            f"the matrix has {int((data < 0).sum())} negative values (lowest {low:g}), as scaled data have; "
            f"give counts or log-normalised values in X, or counts in layers['{COUNTS_LAYER}']"
        )


def matrix_of(adata: AnnData) -> Matrix:
    """Return ``layers["counts"]`` where there is one, else ``X``."""
    return adata.layers.get(COUNTS_LAYER, adata.X)


def read_rows(matrix: Matrix, index: CellIndex) -> InMemory:
    """Return the rows of ``index`` in its order, from memory or from disk.

    Raises:
        DataError: rows read from disk hold NaN, infinite or negative values.
    """
    if isinstance(matrix, InMemory):
        return matrix[index]
    # A file is read in increasing order and each row once.
    rows, back = np.unique(index, return_inverse=True)
    values: InMemory = matrix[rows]
    check_values(values)
    return values[back]


def to_dense(values: InMemory) -> np.ndarray:
    """Return the values as a dense array; a dense one is not copied."""
    return values if isinstance(values, np.ndarray) else values.toarray()


def row_chunks(index: CellIndex, size: int = CHUNK) -> Iterator[tuple[slice, CellIndex]]:
    """Cut ``index`` into pieces that fit into memory; each comes with its place in ``index``."""
    for start in range(0, len(index), size):
        place = slice(start, start + size)
        yield place, index[place]


def kind_of_values(matrix: Matrix) -> ValueKind:
    """Tell raw counts from log1p-normalised and from linearly normalised values, on a sample of rows.

    Whole numbers are counts. Otherwise, within a cell, normalised values are whole multiples of the value of
    one count, and log1p-normalised values are after ``expm1``; where neither holds (corrected or smoothed
    values), values up to 15 are taken as logarithms.

    Args:
        matrix: cells x genes.
    """
    rows = read_rows(matrix, _sample(matrix.shape[0]))
    dense = to_dense(rows).astype(np.float64)
    if np.array_equal(dense, np.round(dense)):
        return "counts"
    linear, logarithmic = _share_of_multiples(dense), _share_of_multiples(np.expm1(np.minimum(dense, 50.0)))
    if max(linear, logarithmic) > 0.9 and linear != logarithmic:
        return "normalised" if linear > logarithmic else "log1p"
    return "log1p" if dense.max() <= _LARGEST_LOG else "normalised"


def require_kind(matrix: Matrix, kind: ValueKind) -> ValueKind:
    """Return ``kind`` if all values can be of it: counts are whole numbers, logarithms no larger than 15.

    Raises:
        DataError: they cannot; the first value that does not fit is named.
    """
    for _, rows in row_chunks(np.arange(matrix.shape[0])):
        values = read_rows(matrix, rows)
        data = np.asarray(values.data) if sp.issparse(values) else np.asarray(values)
        odd = data[_does_not_fit(data, kind)]
        if odd.size:
            rule = "whole numbers" if kind == "counts" else f"at most {_LARGEST_LOG:g}"
            raise DataError(
                f"value_kind is {kind}, whose values are {rule}, and the matrix has {odd[0]:g}; give another "
                "value_kind, or null to have it told by the values"
            )
    return kind


def _does_not_fit(values: np.ndarray, kind: ValueKind) -> np.ndarray:
    if kind == "counts":
        return values != np.round(values)
    return values > (_LARGEST_LOG if kind == "log1p" else np.inf)


def _sample(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, _KIND_ROWS)).astype(np.int64))


def _share_of_multiples(values: np.ndarray) -> float:
    """Return the share of whole multiples of a row's smallest value, among values 1.5 to 50 times it."""
    smallest = np.where(values > 0, values, np.inf).min(axis=1, keepdims=True)
    ratio = values / smallest
    ratio = ratio[(ratio > 1.5) & (ratio < 50.0)]
    return float((np.abs(ratio - np.round(ratio)) < 0.02).mean()) if ratio.size else 0.0
