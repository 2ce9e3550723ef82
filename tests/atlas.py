"""Cells of several types that nobody perturbed."""

import anndata
import numpy as np
import pandas as pd

TYPES = ("stem", "red", "white")


def atlas(cells_per_type: int = 30, n_genes: int = 20, seed: int = 0, **columns) -> anndata.AnnData:
    """Counts of ``TYPES``, each with genes of its own; no column tells of perturbations."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(TYPES, cells_per_type)
    rate = np.full((len(kinds), n_genes), 3.0)
    for i, kind in enumerate(TYPES):
        rate[kinds == kind, 3 * i : 3 * i + 3] = 30.0
    obs = pd.DataFrame(
        {"cell_type": kinds, "day": np.arange(len(kinds)) % 2, **columns},
        index=[f"cell_{i}" for i in range(len(kinds))],
    )
    genes = pd.DataFrame(index=[f"Gene{i}" for i in range(n_genes)])
    return anndata.AnnData(rng.poisson(rate).astype(np.float32), obs=obs, var=genes)
