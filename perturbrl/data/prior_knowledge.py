"""What is known of perturbations beside their measurements: gene sets, networks, tables of features."""

import gzip
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import eigsh

from perturbrl.errors import DataError, listed

SMALLEST_SET: Final = 3
LARGEST_SET: Final = 500
SPECTRAL_DIMENSIONS: Final = 64
_SPARSE: Final = ("data", "indices", "indptr")

# Columns that published edge lists name their two ends by.
_ENDS: Final = (("protein1", "protein2"), ("tf", "target"), ("source", "target"), ("node1", "node2"))


@dataclass(frozen=True, eq=False)
class ScreenShifts:
    """What perturbations did in another screen.

    Attributes:
        genes: of the columns.
        values: ``[names, genes]`` shift of mean log expression from control.
    """

    genes: tuple[str, ...]
    values: Float[np.ndarray, "names genes"]

    def of_genes(self, genes: Sequence[str]) -> Float[np.ndarray, "names wanted"]:
        """Shifts of these genes, 0 where one was not measured there."""
        place = {gene: column for column, gene in enumerate(self.genes)}
        kept = [(i, place[gene]) for i, gene in enumerate(genes) if gene in place]
        wanted, columns = np.array(kept, dtype=np.int64).reshape(-1, 2).T
        found = np.zeros((len(self.values), len(genes)))
        found[:, wanted] = self.values[:, columns]
        return found


@dataclass(frozen=True, eq=False)
class PriorKnowledge:
    """Features of perturbations, from which similar ones are told.

    Attributes:
        source: what it is called in reports, such as the file's name.
        names: perturbations that it knows.
        features: one row per name; a row of zeros says nothing.
        screen: what each did in another screen, where the features come from one.
    """

    source: str
    names: tuple[str, ...]
    features: csr_matrix = field(repr=False)
    screen: ScreenShifts | None = field(default=None, repr=False)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def _lengths(self) -> Float[np.ndarray, " names"]:
        return np.sqrt(np.asarray(self.features.multiply(self.features).sum(axis=1)).ravel())

    @cached_property
    def _directions(self) -> csr_matrix:
        length = self._lengths
        found = csr_matrix(diags(1.0 / np.where(length > 0, length, 1.0)) @ self.features)
        found.eliminate_zeros()
        return found

    def knows(self, name: str) -> bool:
        """Whether anything is said of a perturbation."""
        row, ends = self._row_of.get(name), self._directions.indptr
        return row is not None and bool(ends[row + 1] > ends[row])

    def similarity(self, a: Sequence[str], b: Sequence[str]) -> Float[np.ndarray, "a b"]:
        """Cosine of the features, 0 where one of the two is not known; of a known one with itself 1."""
        return np.asarray((self.directions(a) @ self.directions(b).T).toarray(), dtype=np.float64)

    def likens(self, names: Sequence[str]) -> Callable[[str], bool]:
        """Whether a perturbation has a feature that one of these has, told without comparing it with each."""
        used = self.directions(names).getnnz(axis=0) > 0
        rows, row_of = self._directions, self._row_of

        def is_like_one(name: str) -> bool:
            row = row_of.get(name)
            return row is not None and bool(used[rows.indices[rows.indptr[row] : rows.indptr[row + 1]]].any())

        return is_like_one

    def prominence(self, names: Sequence[str]) -> Float[np.ndarray, " names"]:
        """Length of the features in units of their mean: how much is said of each; 1 where nothing is."""
        rows = np.array([self._row_of.get(name, -1) for name in names], dtype=int)
        lengths, known = np.where(rows >= 0, self._lengths[rows], 0.0), self._lengths > 0
        typical = float(self._lengths[known].mean()) if known.any() else 1.0
        return np.where(lengths > 0, lengths / typical, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint."""
        arrays = {name: torch.from_numpy(getattr(self.features, name)) for name in _SPARSE}
        return {
            "source": self.source,
            "names": list(self.names),
            "n_features": self.features.shape[1],
            **arrays,
            **(_plain(self.screen) if self.screen else {}),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "PriorKnowledge":
        """Restore what ``to_dict`` saved."""
        names, arrays = tuple(content["names"]), tuple(content[name].numpy() for name in _SPARSE)
        features = csr_matrix(arrays, shape=(len(names), content["n_features"]))
        return cls(content["source"], names, features, _screen_of(content))

    def renamed(self, names: Mapping[str, str]) -> "PriorKnowledge":
        """The same under other names; what the source has under both stays under the name itself.

        Args:
            names: the name that is meant, by alias.
        """
        place: dict[str, int] = {}
        for row, name in sorted(enumerate(self.names), key=lambda one: one[1] in names):
            place.setdefault(names.get(name, name), row)
        rows = list(place.values())
        screen = self.screen and replace(self.screen, values=self.screen.values[rows])
        return PriorKnowledge(self.source, tuple(place), csr_matrix(self.features[rows]), screen)

    def directions(self, names: Sequence[str]) -> csr_matrix:
        """Features of length 1, a row of zeros where a perturbation is not known."""
        asked = [(i, self._row_of[name]) for i, name in enumerate(names) if name in self._row_of]
        rows, columns = np.array(asked, dtype=np.int64).reshape(-1, 2).T
        chosen = csr_matrix((np.ones(len(asked)), (rows, columns)), shape=(len(names), len(self.names)))
        return csr_matrix(chosen @ self._directions)


def _plain(screen: ScreenShifts) -> dict[str, Any]:
    return {"screen_genes": list(screen.genes), "screen_values": torch.from_numpy(screen.values)}


def _screen_of(content: dict[str, Any]) -> ScreenShifts | None:
    if "screen_genes" not in content:
        return None
    return ScreenShifts(tuple(content["screen_genes"]), content["screen_values"].numpy())


def read_gene_sets(path: Path | str) -> PriorKnowledge:
    """Gene sets of a GMT file, plain or gzipped: a line holds a name, a description and genes, tab-separated.

    Sets of fewer than ``SMALLEST_SET`` or more than ``LARGEST_SET`` genes say little and are left out. A gene's
    features are its sets, each weighted by one over the root of its size, so that a small set says more.

    Raises:
        DataError: the file is not there, or is no GMT file.
    """
    path = Path(path)
    sets = {name: genes for name, genes in _gmt_lines(path) if SMALLEST_SET <= len(genes) <= LARGEST_SET}
    if not sets:
        raise DataError(
            f"'{path.name}' has no gene set of {SMALLEST_SET} to {LARGEST_SET} genes; give a GMT file, one set a "
            "line: name, description and genes, separated by tabs"
        )
    names = tuple(sorted(set().union(*sets.values())))
    row_of = {name: row for row, name in enumerate(names)}
    entries = [
        (row_of[gene], column, len(genes)) for column, genes in enumerate(sets.values()) for gene in genes
    ]
    rows, columns, sizes = np.array(entries).T
    features = csr_matrix((sizes**-0.5, (rows, columns)), shape=(len(names), len(sets)))
    return PriorKnowledge(path.name, names, features)


def _gmt_lines(path: Path) -> Iterator[tuple[str, frozenset[str]]]:
    for number, line in enumerate(_lines(path), start=1):
        fields = line.split("\t")
        if len(fields) < 3:
            raise DataError(
                f"'{path.name}' is no GMT file: line {number} ('{line[:40]}') has {len(fields)} tab-separated fields; "
                "give a name, a description and genes on every line"
            )
        yield fields[0], frozenset(gene for gene in fields[2:] if gene)


def _lines(path: Path) -> Iterator[str]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read as text ({error}); check the path and the file") from error
    yield from (line for line in text.splitlines() if line.strip())


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
    table = _interactions(path) if ".sif" in path.suffixes else _table(path, _names_ends)
    ends = _ends(path, table)
    weight = _weights(path, table.drop(columns=ends.columns))
    codes, names = pd.factorize(ends.to_numpy().ravel(), sort=True)
    a, b = codes.reshape(-1, 2).T
    one_way = csr_matrix((weight, (a, b)), shape=(len(names), len(names)))
    features = _spectral(one_way.maximum(one_way.T), dimensions)
    return PriorKnowledge(path.name, tuple(map(str, names)), csr_matrix(features))


def _interactions(path: Path) -> pd.DataFrame:
    """Both ends of every edge of a SIF file; a line with a name alone is a node without neighbours, and left out."""
    lines = list(_lines(path))
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


def _table(path: Path, is_header: Callable[[list[str]], bool]) -> pd.DataFrame:
    lines = list(_lines(path))
    first = lines[0] if lines else ""
    separator = next((mark for mark in "\t," if mark in first), r"\s+")
    header = 0 if is_header(re.split(separator, first.strip())) else None
    try:
        return pd.read_csv(StringIO("\n".join(lines)), sep=separator, header=header)
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"'{path}' cannot be read as a table ({error}); give one with tabs or commas"
        ) from error


def _has_no_number(fields: list[str]) -> bool:
    return not any(re.fullmatch(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?", field.strip()) for field in fields[1:])


def _names_ends(fields: list[str]) -> bool:
    """Of two words nobody can tell whether they name columns or the ends of an edge, unless they are known."""
    known = any(set(pair) <= set(fields) for pair in _ENDS)
    return known or (len(fields) > 2 and _has_no_number(fields))


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


def read_features(path: Path | str) -> PriorKnowledge:
    """A table of features, one perturbation a line: its name, then numbers; a first line without numbers names columns.

    Raises:
        DataError: the file is no such table, a name occurs twice, or a feature is missing or no number.
    """
    path = Path(path)
    table = _table(path, _has_no_number)
    numbers = table.iloc[:, 1:].apply(pd.to_numeric, errors="coerce")
    finite = np.isfinite(numbers.to_numpy(dtype=np.float64))
    if numbers.shape[1] == 0 or not finite.all():
        row = int(np.argmin(finite.all(axis=1))) if numbers.shape[1] else 0
        raise DataError(
            f"{int((~finite).sum())} of {numbers.size} features of '{path.name}' are missing or no numbers (first: of "
            f"{table.iloc[row, 0]!s}); give a name and then numbers on every line"
        )
    column = table.iloc[:, 0].astype(str)
    names, repeated = tuple(column), sorted(column[column.duplicated()].unique())
    if repeated:
        raise DataError(f"'{path.name}' has features of {listed(repeated, 5)} twice; give each name once")
    centred = numbers.to_numpy(dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    return PriorKnowledge(path.name, names, csr_matrix(centred))


def read_aliases(path: Path | str) -> dict[str, str]:
    """A table of two columns, an alias and the name that is meant by it; a first line ``alias``, ``name`` is no alias.

    Raises:
        DataError: the file is no such table, an alias has two names, or a name is itself an alias.
    """
    path = Path(path)
    table = _table(path, lambda fields: [one.strip() for one in fields] == ["alias", "name"])
    if table.shape[1] != 2 or table.isna().any(axis=None):
        raise DataError(
            f"'{path.name}' has {table.shape[1]} columns and {int(table.isna().sum().sum())} empty fields; give an "
            "alias and the name that is meant on every line"
        )
    pairs = table.astype(str).drop_duplicates()
    aliases, names = (pairs.iloc[:, k].str.strip() for k in (0, 1))
    repeated = sorted(aliases[aliases.duplicated()].unique())
    if repeated:
        raise DataError(f"'{path.name}' gives {listed(repeated, 5)} several names; give each alias one")
    found = dict(zip(aliases, names, strict=True))
    chained = sorted(name for name in set(names) & set(aliases) if found[name] != name)
    if chained:
        raise DataError(
            f"'{path.name}' has {listed(chained, 5)} both as a name and as an alias of another; say for each alias "
            "the name that the data use"
        )
    return found
