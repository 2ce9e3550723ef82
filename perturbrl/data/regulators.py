"""Which factor regulates which gene, and whether up or down: tables as networks of regulators are published in."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from perturbrl.errors import DataError

# Columns as CollecTRI, DoRothEA, OmniPath, pySCENIC and CellOracle call them, in lower case.
_FACTORS: Final = ("tf", "source_genesymbol", "source", "regulator")
_TARGETS: Final = ("target", "target_genesymbol", "target_gene", "gene")
_WEIGHTS: Final = ("mor", "sign", "weight", "coef_mean", "coef", "effect", "importance")
_UP_AND_DOWN: Final = ("is_stimulation", "is_inhibition")
_BASE_NETWORK: Final = "gene_short_name"  # of CellOracle: a column for each factor, 1 where it may bind
_SIGNS: Final = {"+": 1.0, "activation": 1.0, "-": -1.0, "repression": -1.0, "unknown": 0.0}
_REMEDY: Final = (
    "give columns tf (or source), target and mor (or sign, or weight), as CollecTRI, DoRothEA, pySCENIC and "
    "CellOracle write them"
)


@dataclass(frozen=True, eq=False)
class Regulators:
    """Signed edges from factors to the genes that they regulate.

    Attributes:
        source: what it is called in reports, such as the file's name.
        edges: columns ``factor``, ``target`` and ``weight``, which is negative where the factor represses.
        is_signed: whether the table says which factors repress; all weights are positive where it does not.
    """

    source: str
    edges: pd.DataFrame = field(repr=False)
    is_signed: bool = True

    @property
    def factors(self) -> tuple[str, ...]:
        """All factors, sorted."""
        return tuple(sorted(self.edges["factor"].unique()))

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets, sorted."""
        return tuple(sorted(self.edges["target"].unique()))

    def among(self, genes: Sequence[str]) -> "Regulators":
        """The edges to these genes; a factor's own gene tells nothing of what it does to others."""
        edges = self.edges
        kept = edges["target"].isin(set(genes)) & (edges["target"] != edges["factor"])
        return Regulators(self.source, edges[kept].reset_index(drop=True), self.is_signed)

    def renamed(self, names: Mapping[str, str]) -> "Regulators":
        """The same under other names.

        Args:
            names: the name that is meant, by alias.
        """
        columns = {side: self.edges[side].map(lambda name: names.get(name, name)) for side in _ENDS}
        return Regulators(self.source, _once(self.edges.assign(**columns)), self.is_signed)


_ENDS: Final = ("factor", "target")


def read_regulators(path: Path | str) -> Regulators:
    """A table of regulators, plain or gzipped, with tabs or commas.

    Every line has a factor, a target and a number: negative where the factor represses. Words (``activation``,
    ``repression``) and OmniPath's ``is_stimulation`` and ``is_inhibition`` will do, too; so will CellOracle's base
    network, with a column for each factor. Edges that the table calls unknown, or both, are left out.

    Raises:
        DataError: the file cannot be read, or is no such table.
    """
    path = Path(path)
    table = _table(path)
    by_name = {str(name).strip().lower(): name for name in table.columns}
    edges = _of_base_network(table) if _BASE_NETWORK in table else _of_edges(path, table, by_name)
    edges = edges[edges["weight"] != 0]
    if edges.empty:
        raise DataError(f"'{path.name}' has no edge with a sign or weight; {_REMEDY}")
    return Regulators(path.name, _once(edges), bool((edges["weight"] < 0).any()))


def _table(path: Path) -> pd.DataFrame:
    try:
        first = str(pd.read_csv(path, sep="\0", engine="python", nrows=0).columns[0])
        return pd.read_csv(path, sep="\t" if "\t" in first else ",")
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DataError(
            f"'{path}' cannot be read as a table of regulators ({error}); check the path and the file"
        ) from error


def _of_base_network(table: pd.DataFrame) -> pd.DataFrame:
    wide = table.set_index(_BASE_NETWORK).select_dtypes("number")
    rows, columns = np.nonzero(wide.to_numpy())
    return _edges(list(wide.columns[columns]), list(wide.index[rows]), np.ones(len(rows)))


def _of_edges(path: Path, table: pd.DataFrame, by_name: Mapping[str, str]) -> pd.DataFrame:
    factor, target = (
        next((by_name[one] for one in names if one in by_name), None) for names in (_FACTORS, _TARGETS)
    )
    if factor is None or target is None:
        raise DataError(f"'{path.name}' has the columns {list(table.columns)[:8]}; {_REMEDY}")
    lacking = int(table[[factor, target]].isna().any(axis=1).sum())
    if lacking:
        raise DataError(
            f"{lacking} lines of '{path.name}' lack a factor or a target; give both on every line"
        )
    return _edges(list(table[factor]), list(table[target]), _weights(path, table, by_name))


def _weights(path: Path, table: pd.DataFrame, by_name: Mapping[str, str]) -> np.ndarray:
    if set(_UP_AND_DOWN) <= set(by_name):
        up, down = (
            table[by_name[name]].astype(str).str.lower().isin(("true", "1", "1.0")) for name in _UP_AND_DOWN
        )
        return up.to_numpy(dtype=float) - down.to_numpy(dtype=float)
    name = next((by_name[one] for one in _WEIGHTS if one in by_name), None)
    if name is None:
        return np.ones(len(table))
    words = table[name].astype(str).str.strip().str.lower().map(_SIGNS)
    weight = pd.to_numeric(table[name], errors="coerce").fillna(words).to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(weight))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(weight)} entries in the column '{name}' of '{path.name}' are no numbers and no signs "
            f"(first: {table[name].iloc[bad[0]]!r}); give a number, + or - on every line"
        )
    return weight


def _edges(factor: Sequence[str], target: Sequence[str], weight: np.ndarray) -> pd.DataFrame:
    ends = [[str(name).strip() for name in side] for side in (factor, target)]
    return pd.DataFrame(dict(zip(_ENDS, ends, strict=True)) | {"weight": weight})


def _once(edges: pd.DataFrame) -> pd.DataFrame:
    """One line for each pair, with the mean of its weights."""
    found = edges.groupby(list(_ENDS), as_index=False)["weight"].mean()
    return found[found["weight"] != 0].reset_index(drop=True)
