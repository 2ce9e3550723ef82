"""Simulated cells of a landscape that is known: one stem, two mature types."""

import numpy as np
import torch

from perturbrl.data.cell_order import CellOrder
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder

GENES = tuple(f"gene{i}" for i in range(12))
END = np.array([[4.0, 4.0], [4.0, -4.0]])
N_CELLS = 600


def branching_cells(seed: int = 0, kind: str = "pseudotime", *, reverse: bool = False) -> EncodedCells:
    """Cells on a stem along the first gene that forks into ``left`` and ``right`` by the second one.

    A third of the cells is on the stem; of the others most are at the ends. Ten genes are noise. ``reverse`` turns the
    order round.
    """
    rng = np.random.default_rng(seed)
    when = np.sort(np.concatenate((rng.uniform(0, 1, N_CELLS // 2), rng.uniform(0.9, 1, N_CELLS // 2))))
    side = rng.integers(2, size=N_CELLS)
    forked = np.clip(when - 0.35, 0, None) / 0.65
    means = np.column_stack((4 * when, forked * END[side, 1]))
    expression = rng.normal(0, 0.3, (N_CELLS, len(GENES)))
    expression[:, :2] += means
    types = np.where(when < 0.4, "progenitor", np.where(side == 0, "left", "right"))
    order = 1 - when if reverse else when
    order = np.round(order * 2) if kind == "time" else order
    values = torch.from_numpy(expression).float()
    encoder = PCAEncoder(3).fit(values)
    return EncodedCells(
        encoder.encode(values),
        values,
        ("control",) * N_CELLS,
        GENES,
        tuple(types),
        order=CellOrder(torch.from_numpy(order).float(), kind),
    )


def encoder_of(cells: EncodedCells) -> PCAEncoder:
    return PCAEncoder(3).fit(cells.expression)
