"""Networks as prior knowledge: what has the same neighbours may do alike."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import eigsh

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.data.text_tables import has_no_number, lines_of, table_of
from perturbrl.errors import DataError

SPECTRAL_DIMENSIONS: Final = 64

# Columns that published edge lists name their two ends by.
_ENDS: Final = (("protein1", "protein2"), ("tf", "target"), ("source", "target"), ("node1", "node2"))


def read_edges(path: Path | str, dimensions: int = SPECTRAL_DIMENSIONS) -> PriorKnowledge:
    """A network of perturbations: a table with two names on every line and, where there is one, a weight.

    The ends are columns called as in STRING or DoRothEA (``protein1`` and ``protein2``, ``tf`` and ``target``,
    ``source`` and ``target``, ``node1`` and ``node2``), else the first two. The weight is the first column that has
    numbers; signs do not count. A first line is the columns' names where it has those, or three words and more without
    a number. A file named ``.sif`` holds a source, an interaction and targets on every line, as Cytoscape writes them.

    Features are the leading eigenvectors of the symmetrically normalised adjacency matrix, each times the root of
    its eigenvalue (von Luxburg 2007, 10.1007/s11222-007-9033-z), so that names which share neighbours are alike.
    Columns are separated by tabs, commas or spaces.

    Args:
        path: the table, plain or gzipped.
        dimensions: eigenvectors kept, at most.

    Raises:
        DataError: the file is no such table, or a name is missing, or a weight is missing or no number.
    """
    path = Path(path)
    table = (
        _interactions(path) if ".sif" in path.suffixes else table_of(path, _names_ends).reset_index(drop=True)
    )
    ends = _ends(path, table)
    weight = _weights(path, table.drop(columns=ends.columns))
    codes, names = pd.factorize(ends.to_numpy().ravel(), sort=True)
    a, b = codes.reshape(-1, 2).T
    one_way = csr_matrix((weight, (a, b)), shape=(len(names), len(names)))
    features = _spectral(one_way.maximum(one_way.T), dimensions)
    return PriorKnowledge(path.name, tuple(map(str, names)), csr_matrix(features))


def _interactions(path: Path) -> pd.DataFrame:
    """Both ends of every edge of a SIF file; a line with a name alone is a node without neighbours, and left out."""
    lines = list(lines_of(path))
    separator = "\t" if any("\t" in line for line in lines) else None
    fields = [[one.strip() for one in line.split(separator)] for line in lines]
    short = next((line for line, found in zip(lines, fields, strict=True) if len(found) == 2), None)
    if short is not None or all(len(found) < 2 for found in fields):
        raise DataError(
            f"'{path.name}' is no SIF file ('{(short or ''.join(lines[:1]))[:40]}' names no target); give a source, an "
            "interaction and targets on every line"
        )
    edges = [(found[0], target) for found in fields for target in found[2:] if target]
    return pd.DataFrame(edges, columns=["source", "target"])


def _names_ends(fields: list[str]) -> bool:
    """Of two words nobody can tell whether they name columns or the ends of an edge, unless they are known."""
    known = any(set(pair) <= set(fields) for pair in _ENDS)
    return known or (len(fields) > 2 and has_no_number(fields))


def _ends(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    if table.shape[1] < 2:
        raise DataError(
            f"'{path.name}' has {table.shape[1]} column; an edge list has two names on every line"
        )
    named = next((list(pair) for pair in _ENDS if set(pair) <= set(table.columns)), list(table.columns[:2]))
    lacking = int(table[named].isna().any(axis=1).sum())
    if lacking:
        raise DataError(f"{lacking} lines of '{path.name}' lack a name; give two on every line")
    return table[named].astype(str)


def _weights(path: Path, rest: pd.DataFrame) -> np.ndarray:
    if rest.empty:
        return np.ones(len(rest))
    columns = [pd.to_numeric(rest[name], errors="coerce") for name in rest]
    chosen = next((i for i, column in enumerate(columns) if column.notna().any()), None)
    if chosen is None:
        raise DataError(
            f"no weight of '{path.name}' is a number (first: {rest.iloc[0, 0]!r}); give numbers, or two columns of "
            "names, or call the file .sif if it names interactions"
        )
    weight = columns[chosen].abs().to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(weight))
    if len(bad):
        first = rest.iloc[bad[0], chosen]
        kind = "missing" if pd.isna(first) else f"no numbers (first: {first!r})"
        raise DataError(f"{len(bad)} weights of '{path.name}' are {kind}; give one on every line")
    return weight


def _spectral(adjacency: csr_matrix, dimensions: int) -> Float[np.ndarray, "names features"]:
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    scale = diags(np.where(degree > 0, degree, 1.0) ** -0.5)
    n = adjacency.shape[0]
    normalised = scale @ adjacency @ scale
    if n <= dimensions + 1:
        values, vectors = np.linalg.eigh(normalised.toarray())
    else:
        # A start vector of its own makes the result repeatable.
        values, vectors = eigsh(normalised, k=dimensions, which="LA", v0=np.ones(n))
    return vectors * np.sqrt(values.clip(min=0.0))
