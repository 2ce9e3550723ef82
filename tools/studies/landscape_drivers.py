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
_COPIES: Final = 10
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


def fates_of_training_cells(twin: LandscapeTwin, atlas: Atlas, seed: int) -> pd.DataFrame:
    """How often each training cell, left alone, comes to rest in each type."""
    cells = atlas.cells.latent
    ends = moved(twin, cells.repeat(_COPIES, 1), twin.relaxation_steps, seed)[-1]
    return _fates(twin, atlas, ends).groupby(np.tile(np.arange(len(cells)), _COPIES)).mean()


def aurocs(
    fates: pd.DataFrame, shifts: pd.DataFrame, atlas: Atlas, folder: Path
) -> tuple[dict[str, float], int]:
    """Area under the curve of published drivers among all factors by each score, and how many drivers there are.

    Mean over lineages with a measured driver; 0.5 is chance. ``driver_auroc``: correlation of a factor's expression
    with the fates that the landscape brings training cells to. ``driver_auroc_dosed``: fate shift of progenitors that
    are given the factor. ``driver_auroc_expression``: Welch's t between the training cells of the lineage and all
    others. ``driver_auroc_types``: correlation with being of the lineage, which shows what fates add to it.

    Source: lineage drivers of Lange 2022 (10.1038/s41592-021-01346-6), there with absorption probabilities.
    """
    drivers, genes, found, n = published(folder), list(shifts.index), [], 0
    for lineage, types in PUBLISHED.items():
        positive, inside = np.isin(genes, list(drivers[lineage])), np.isin(atlas.training_types, types)
        if positive.any():
            n += int(positive.sum())
            scores = {
                "driver_auroc": _correlation(atlas, genes, fates[list(types)].sum(axis=1).to_numpy()),
                "driver_auroc_dosed": shifts[list(types)].sum(axis=1).to_numpy(),
                "driver_auroc_expression": _welch(atlas, genes, inside),
                "driver_auroc_types": _correlation(atlas, genes, inside.astype(float)),
            }
            found.append({name: float(roc_auc_score(positive, score)) for name, score in scores.items()})
    mean = pd.DataFrame(found).mean()
    return {str(name): float(mean[name]) for name in mean.index}, n


def _expression(atlas: Atlas, genes: list[str]) -> torch.Tensor:
    return atlas.cells.expression[:, [atlas.cells.genes.index(gene) for gene in genes]]


def _correlation(atlas: Atlas, genes: list[str], values: np.ndarray) -> np.ndarray:
    return pd.DataFrame(_expression(atlas, genes).numpy()).corrwith(pd.Series(values)).fillna(0.0).to_numpy()


def _welch(atlas: Atlas, genes: list[str], inside: np.ndarray) -> np.ndarray:
    own, other = (_expression(atlas, genes)[torch.from_numpy(rows)] for rows in (inside, ~inside))
    error = own.var(0) / len(own) + other.var(0) / len(other)
    return ((own.mean(0) - other.mean(0)) / (error + 1e-12).sqrt()).numpy()
