"""Seeded draws of cells and labels that do not depend on the order of rows.

What is drawn is decided by a hash of the seed and the cell's name, so a file sorted otherwise gives the same
cells, on any machine and with any version of numpy.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Bool

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.errors import ConfigurationError

CellFlags = Bool[np.ndarray, " cells"]
Name = TypeVar("Name", bound=str)


def draw(
    dataset: PerturbationDataset,
    among: CellFlags,
    fraction: float,
    seed: int,
    purpose: str,
    at_least: int = 1,
) -> CellFlags:
    """Flag a share of the cells of every label, drawn by the hash of seed, purpose and barcode.

    Where nothing was perturbed, known cell types take the place of labels. Of two cells or more of a label
    ``at_least`` are drawn and one is not, unless ``fraction`` is 0.

    Args:
        dataset: the cells.
        among: cells to draw from.
        fraction: share of each label's cells.
        seed: seed of the draw.
        purpose: keeps draws with the same seed independent.
        at_least: cells of each label, where it has more.
    """
    drawn = np.zeros(dataset.n_cells, dtype=bool)
    rows = np.flatnonzero(among)
    if fraction == 0 or len(rows) == 0:
        return drawn
    by_type = not dataset.perturbations and dataset.fields.cell_type_key is not None
    codes = pd.factorize((dataset.cell_types if by_type else dataset.labels)[rows])[0]
    hashes = _hashes([dataset.barcodes[row] for row in rows], f"{seed}/{purpose}")
    sizes = np.bincount(codes)
    wanted = np.minimum(np.maximum(np.floor(fraction * sizes + 0.5), at_least), sizes - 1)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    drawn[rows[np.lexsort((hashes, codes))[rank < np.repeat(wanted, sizes)]]] = True
    return drawn


def cells_under(dataset: PerturbationDataset, labels: Iterable[str]) -> CellFlags:
    """Flag the cells that have one of the labels."""
    return pd.Series(dataset.labels).isin(set(labels)).to_numpy()


def in_hash_order(names: Iterable[Name], seed: int) -> list[Name]:
    """Return the names in an order that the seed decides."""
    ordered = sorted(names)
    return [ordered[i] for i in np.argsort(_hashes(ordered, f"{seed}/names"), kind="stable")]


def share_of(fraction: float, n: int) -> int:
    """Return ``fraction * n`` rounded, halves up."""
    return int(np.floor(fraction * n + 0.5))


def check_fractions(*fractions: float) -> None:
    """Refuse shares outside of [0, 1).

    Raises:
        ConfigurationError: one is.
    """
    for fraction in fractions:
        if not 0 <= fraction < 1:
            raise ConfigurationError(
                f"a fraction of the split is {fraction:g}; give a share of cells in [0, 1)"
            )


def _hashes(names: Sequence[str], salt: str) -> np.ndarray:
    digests = b"".join(blake2b(f"{salt}/{name}".encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8")
