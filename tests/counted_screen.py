"""Counts of a toy screen."""

import numpy as np
from scipy.sparse import csr_array

from perturbrl.responses.counted_cells import CountedCells


def counted(screen, label, n_cells, draw_seed):
    counts = screen.counts(label, n_cells, draw_seed)
    return CountedCells(csr_array(counts), counts.sum(axis=1, dtype=np.float64))
