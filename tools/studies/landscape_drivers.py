"""Whether factors with a published role in a lineage push cells there, beside differential expression and chance."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from perturbrl.twins.landscape import LandscapeTwin
from studies.landscape_cells import Atlas, moved

SIGNS: Final = {
    "erythroid": ("Gata1", "Klf1", "Gfi1b", "Tal1", "Zfpm1"),
    "myeloid": ("Cebpa", "Cebpe", "Sfpi1", "Irf8", "Gfi1", "Runx1"),
}
SIDES: Final = {"erythroid": ("Erythrocyte",), "myeloid": ("Monocytes", "Neutrophils", "Basophils")}
PUBLISHED: Final = {
    "Erythroblasts": ("Erythrocyte",),
    "Megakaryocytes": ("Megakaryocytes",),
    "Myeloid_cells": ("Monocytes", "Neutrophils", "Basophils"),
}
PROGENITORS: Final = ("Multipotent progenitors", "GMP")
_DOSED_TRANSITIONS: Final = 2
_ALIASES: Final = {"Spi1": "Sfpi1", "Fog1": "Zfpm1"}


def factors(folder: Path) -> list[str]:
    """All mouse transcription factors, in the spelling of the atlas, too."""
    names = (folder / "prior" / "mouse_tfs.txt").read_text().split()
    return list(dict.fromkeys([*names, *(_ALIASES[name] for name in names if name in _ALIASES)]))


def published(folder: Path) -> dict[str, set[str]]:
    """Drivers of each lineage, in mouse spelling."""
    table = pd.read_csv(folder / "prior" / "lineage_driver_tfs.csv")
    spelled = table["gene"].str.capitalize().replace(_ALIASES)
    return {name: set(spelled[table["cell_type"] == name]) for name in PUBLISHED}


def fate_shifts(twin: LandscapeTwin, atlas: Atlas, seed: int) -> pd.DataFrame:
    """By how much each factor at dose 1 changes the shares of types that held-out progenitors end in.

    Every factor is given to all of them, all factors in one batch; nobody is dosed in as many copies.
    """
    start = atlas.states[torch.from_numpy(np.isin(atlas.types, PROGENITORS))]
    names = twin.perturbations.names
    everyone = start.repeat(len(names), 1)
    dose = torch.eye(len(names)).repeat_interleave(len(start), 0)
    before = _fates(twin, atlas, moved(twin, everyone, twin.relaxation_steps, seed)[-1]).mean()
    dosed = moved(twin, everyone, _DOSED_TRANSITIONS, seed, dose)[-1]
    rested = moved(twin, dosed, twin.relaxation_steps - _DOSED_TRANSITIONS, seed + 1)[-1]
    return _fates(twin, atlas, rested).groupby(np.repeat(names, len(start)), sort=False).mean() - before


def _fates(twin: LandscapeTwin, atlas: Atlas, states: torch.Tensor) -> pd.DataFrame:
    """Which type each state is recognised as, a column for each type."""
    recognised = pd.Categorical(atlas.recognised(states), categories=twin.cell_types)
    return pd.get_dummies(recognised, dtype=float)


def signs(shifts: pd.DataFrame) -> dict[str, bool]:
    """Of each known driver, whether it moves cells to its own side rather than to the other."""
    balance = shifts[list(SIDES["erythroid"])].sum(axis=1) - shifts[list(SIDES["myeloid"])].sum(axis=1)
    return {
        gene: bool((balance[gene] > 0) == (side == "erythroid") and balance[gene] != 0)
        for side, genes in SIGNS.items()
        for gene in genes
        if gene in balance
    }


def aurocs(shifts: pd.DataFrame, atlas: Atlas, folder: Path) -> tuple[float, float, int]:
    """Area under the curve of published drivers among all factors, by fate shift and by differential expression.

    Mean over lineages with a measured driver; 0.5 is chance. Expression is compared by Welch's t between the
    training cells of the lineage and all others.
    """
    drivers, ours, theirs, n = published(folder), [], [], 0
    for lineage, types in PUBLISHED.items():
        positive = np.array([gene in drivers[lineage] for gene in shifts.index])
        if positive.any():
            n += int(positive.sum())
            ours.append(roc_auc_score(positive, shifts[list(types)].sum(axis=1)))
            theirs.append(roc_auc_score(positive, _welch(atlas, types, list(shifts.index))))
    return float(np.mean(ours)), float(np.mean(theirs)), n


def _welch(atlas: Atlas, types: tuple[str, ...], genes: list[str]) -> np.ndarray:
    columns = [atlas.cells.genes.index(gene) for gene in genes]
    inside = torch.from_numpy(np.isin(atlas.training_types, types))
    own, other = (atlas.cells.expression[rows][:, columns] for rows in (inside, ~inside))
    error = own.var(0) / len(own) + other.var(0) / len(other)
    return ((own.mean(0) - other.mean(0)) / (error + 1e-12).sqrt()).numpy()
