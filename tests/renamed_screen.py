"""A simulated screen under the names and doses of a drug screen."""

from collections.abc import Mapping

import pandas as pd
from anndata import AnnData

from perturbrl.data.synthetic import simulate_screen


def renamed_screen(names: Mapping[str, str], n_combinations: int = 3) -> AnnData:
    """Three perturbations and their pairs, with other names for ``GENE0000`` to ``GENE0002``."""
    adata = simulate_screen(3, 40, 60, 30, n_combinations=n_combinations)
    labels = adata.obs["perturbation"].astype(str)
    for gene, name in names.items():
        labels = labels.str.replace(gene, name, regex=False)
    adata.obs["perturbation"] = pd.Categorical(labels)
    return adata
