"""Which cell types cells come to rest in, and by which steps they get there."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from perturbrl.errors import ConfigurationError, DataError, listed
from perturbrl.schema import CellIndex
from perturbrl.twins.couplings import Couplings, as_distributions

ALL_CELLS: Final = "cells"
_PASSING: Final = 0.85  # share of later cells of other types above which a type's latest cells do not stay
_LATEST: Final = 0.75
_EARLIEST: Final = 0.05  # of all cells, to tell from where cells come
_ROUNDS: Final = 30
_MOST_REWEIGHTED: Final = 50.0
_PROGENITORS: Final = re.compile(
    r"progenitor|precursor|stem|multipotent|pluripotent|undiff|primitive|epiblast|\bpre-|"
    r"\b(HSPC|HSC|MPP|LMPP|CMP|GMP|MEP|CLP|EP|ESC|NPC|IPC|IP|RGC)s?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Lineages:
    """The cell types of training cells, and which of them are mature.

    Attributes:
        names: cell types; one, ``cells``, where types are not known.
        kinds: ``[cells]`` number of each cell's type.
        mature: ``[types]`` whether cells come to rest there. Cells pass through the others, the progenitors.
    """

    names: tuple[str, ...]
    kinds: CellIndex
    mature: Bool[np.ndarray, " types"]

    @cached_property
    def matures(self) -> Bool[np.ndarray, " cells"]:
        """Whether a cell is of a mature type."""
        return self.mature[self.kinds]


def find_lineages(
    types: Sequence[str] | None, order: np.ndarray, couplings: Couplings, progenitors: Sequence[str] | None
) -> Lineages:
    """Tell mature types from progenitors.

    Progenitors are those that the user names. Where nobody names them, they are the types whose name says so (stem,
    progenitor, precursor, GMP, ...), and those whose latest quarter has nearly all later cells in other types.
    Which way cells go does not tell the others apart: in Paul 2015 basophils have as many monocytes for later
    neighbours as a progenitor has of its offspring, so a type is kept unless something says that it passes.

    Args:
        types: of each cell; ``None`` where not known.
        order: when each cell is.
        couplings: its later cells.
        progenitors: types that cells pass through.

    Raises:
        ConfigurationError: a named progenitor is no type of the training cells.
        DataError: no type would be mature.
    """
    names, kinds = np.unique(
        np.asarray(types if types is not None else [ALL_CELLS] * len(order)), return_inverse=True
    )
    if progenitors is None:
        passing = np.array([bool(_PROGENITORS.search(name)) for name in names])
        passing |= _passes(kinds, order, couplings)
    else:
        unknown = sorted(set(progenitors) - set(names))
        if unknown:
            raise ConfigurationError(
                f"progenitors {unknown} are no cell types of the training cells ({listed(names.tolist(), 12)}); "
                "correct the list"
            )
        passing = np.isin(names, progenitors)
    if passing.all() and len(names) > 1:
        raise DataError(
            f"cells would pass through all {len(names)} cell types ({listed(names.tolist(), 12)}) and rest in none; "
            "name those that they pass through (the twin's progenitors)"
        )
    return Lineages(tuple(str(name) for name in names), kinds, ~passing | (len(names) == 1))


def _passes(kinds: CellIndex, order: np.ndarray, couplings: Couplings) -> Bool[np.ndarray, " types"]:
    member = np.eye(kinds.max() + 1)[kinds]
    goes_to = couplings.later @ member
    passes = np.zeros(member.shape[1], dtype=bool)
    for kind in range(len(passes)):
        own = kinds == kind
        late = own & (order >= np.quantile(order[own], _LATEST))
        passes[kind] = 1 - goes_to[late, kind].mean() - (goes_to[late].sum(1) == 0).mean() > _PASSING
    return passes


@dataclass(frozen=True, eq=False)
class LineageSteps:
    """Where each cell goes next, once lineages are heeded.

    Attributes:
        later: ``[cells, cells]``; a row sums to 1, or to 0 where the cell is at rest or nothing later is known.
        resting: ``[cells]`` whether it stays: 1 in the later half of a mature type and where nothing later is known of
            its type.
    """

    later: sp.csr_array
    resting: Float[np.ndarray, " cells"]


def lineage_steps(couplings: Couplings, lineages: Lineages, order: np.ndarray) -> LineageSteps:
    """Couplings in which mature cells keep their type, and progenitors reach mature types in proportion.

    A cell of a mature type goes to later cells of its type only. Where progenitors have several mature types ahead,
    the entries into each are scaled until the fates of the earliest progenitors (absorption probabilities of the
    chain) are the shares of the mature types: what neighbours alone say favours types that lie near. Bounded, so
    that a type which is hardly reached is not invented.
    """
    matures, kinds = lineages.matures, lineages.kinds
    entries = sp.coo_array(couplings.later)
    same = kinds[entries.row] == kinds[entries.col]
    stays = same | ~matures[entries.row]
    later = sp.csr_array((entries.data * stays, (entries.row, entries.col)), shape=couplings.later.shape)
    later = as_distributions(sp.csr_array(later.multiply(~_rests(lineages, order)[:, None])))
    if matures.any() and (~matures).any():
        later = _in_proportion(later, lineages, order)
    unknown = later.sum(axis=1) == 0
    return LineageSteps(later, (unknown & matures).astype(float))


def _rests(lineages: Lineages, order: np.ndarray) -> Bool[np.ndarray, " cells"]:
    """The later half of each mature type; where types are not known, nobody by this rule."""
    if len(lineages.names) == 1:
        return np.zeros(len(order), dtype=bool)
    middle = np.array([np.median(order[lineages.kinds == kind]) for kind in range(len(lineages.names))])
    return lineages.matures & (order >= middle[lineages.kinds])


def _in_proportion(later: sp.csr_array, lineages: Lineages, order: np.ndarray) -> sp.csr_array:
    early = np.flatnonzero(~lineages.matures)
    first = early[np.argsort(order[early], kind="stable")[: max(1, int(_EARLIEST * len(order)))]]
    aims = np.flatnonzero(lineages.mature)
    wanted = np.bincount(lineages.kinds[lineages.matures], minlength=len(lineages.names))[aims]
    wanted = wanted / wanted.sum()
    factor = np.ones(len(lineages.names))
    rows = later[early]
    for _ in range(_ROUNDS):
        scaled = as_distributions(sp.csr_array(rows.multiply(factor[lineages.kinds][None, :])))
        fates = _fates(scaled, early, lineages)[np.isin(early, first)].mean(0)[aims]
        reached = fates > 0
        change = np.sqrt(wanted[reached] / fates[reached] * fates.sum())
        factor[aims[reached]] = np.clip(
            factor[aims[reached]] * change, 1 / _MOST_REWEIGHTED, _MOST_REWEIGHTED
        )
    result = sp.lil_array(later)
    result[early] = scaled
    return sp.csr_array(result)


def _fates(rows: sp.csr_array, early: CellIndex, lineages: Lineages) -> Float[np.ndarray, "early types"]:
    """Absorption probabilities of progenitor cells in the mature types."""
    into = rows @ (np.eye(len(lineages.names))[lineages.kinds] * lineages.matures[:, None])
    among = rows[:, early].toarray()
    # Cells from which nothing leads on would make the chain singular: they reach nothing.
    return np.linalg.solve(np.eye(len(early)) * (1 + 1e-6) - among, into)
