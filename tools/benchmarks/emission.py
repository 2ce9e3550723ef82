"""Predicted cells, a block at a time: 10,000 and 100,000 of them, of 2,000 genes."""

from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from scipy.sparse import csr_array

from perturbrl.responses.counted_cells import CountedCells
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.spread import ResponseSpread, Share

EMITTED: Final = (10_000, 100_000)
N_CONTROLS: Final = 2_000


def emission(n_cells: int, n_genes: int) -> dict[str, float]:
    """Seconds of cells in which every gene moves, calibration included, and the peak of this process."""
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(8.5, 0.4, N_CONTROLS)
    rates = rng.gamma(0.4, 3.0, n_genes) * rng.gamma(2.0, 0.5, (N_CONTROLS, n_genes)) * sizes[:, None] / 1e4
    control = CountedCells(csr_array(rng.poisson(rates).astype(np.float32)), sizes)
    mean = control.log_mean + rng.normal(0.0, 0.2, n_genes)
    spread = ResponseSpread(0.8, np.ones(n_genes), Share(0.1))
    begin = perf_counter()
    emitted = sum(len(block) for block in CellEmitter(control).blocks(mean, n_cells, spread=spread))
    return {"cells": emitted, "seconds": perf_counter() - begin, "peak_gib": peak_gib()}


def peak_gib() -> float:
    """Most memory that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
