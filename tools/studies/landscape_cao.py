"""Cao 2018: is three hours of dexamethasone foretold from none and one hour of it?"""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Generator

from perturbrl.data.cell_order import OrderOptions
from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.split import Split
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.evaluation.distances import energy_distance
from perturbrl.schema import CellState
from perturbrl.twins.landscape import LandscapeTwin
from studies.landscape_cells import moved, states_of

FILE: Final = "cao2018_a549_dex_rna_atac.h5ad"
KNOWN: Final = (0.0, 1.0)
AHEAD: Final = 3.0
HELD_OUT: Final = 0.2
COPIES: Final = 3


def rows(folder: Path, seeds: int) -> dict[str, object]:
    """The keys of this part."""
    dataset = load_dataset(folder / FILE)
    table = pd.DataFrame([_one_seed(dataset, seed) for seed in range(seeds)])
    _print(table)
    mean = table.mean()
    found: dict[str, object] = {f"cao_energy_{name}": round(float(mean[name]), 3) for name in mean.index}
    return found | {"cao_better_than_both": bool(mean["landscape"] < mean[["stays", "extrapolated"]].min())}


def _one_seed(dataset: PerturbationDataset, seed: int) -> dict[str, float]:
    """Energy distance of each prediction to half of the cells of three hours; the other half is the replicate.

    All predictions are made of held-out cells of one hour: cells that the encoder was fitted on spread more along its
    minor components than others do, so that a landscape would seem to gain by what it does to that spread alone.
    """
    measured = _early(dataset, seed)
    twin = LandscapeTwin(seed=seed).fit(measured.training(), measured.encoder)
    start, later = (_judging(measured, known) for known in KNOWN)
    ahead = (AHEAD - KNOWN[1]) / (KNOWN[1] - KNOWN[0])
    transitions = round(twin.n_steps * ahead / twin.steps_per_action)
    ahead_cells = _judging(measured, AHEAD)
    drawn = ahead_cells[torch.randperm(len(ahead_cells), generator=Generator().manual_seed(seed))]
    real, other = drawn[::2], drawn[1::2]
    predictions = {
        "landscape": moved(twin, later.repeat(COPIES, 1), transitions, seed)[-1],
        "stays": later,
        "extrapolated": later + ahead * (later.mean(0) - start.mean(0)),
        "replicate": other,
    }
    return {name: energy_distance(states, real, "u") for name, states in predictions.items()}


def _early(dataset: PerturbationDataset, seed: int) -> MeasuredCells:
    """All that is learned before the landscape, from four fifths of the cells of the known times."""
    time, rng = dataset.adata.obs["time_h"].to_numpy(), np.random.default_rng(seed)
    known = rng.permutation(np.flatnonzero(np.isin(time, KNOWN)))
    held = round(HELD_OUT * len(known))
    train, none = np.sort(known[held:]), np.array([], dtype=int)
    test = np.sort(np.concatenate((known[:held], np.flatnonzero(time == AHEAD))))
    split = Split("hours", seed, train, none, test, none, none, dataset.barcodes)
    genes = Preprocessor(n_top_genes=None).fit(dataset, train)
    encoder = PCAEncoder(20).fit(genes.transform(dataset, train))
    return MeasuredCells(dataset, split, genes, encoder, OrderOptions(time_key="time_h"))


def _judging(measured: MeasuredCells, time: float) -> CellState:
    """Held-out cells of one time."""
    test = measured.require_split().test
    times = measured.dataset.adata.obs["time_h"].to_numpy()[test]
    return states_of(measured, test[times == time])


def _print(table: pd.DataFrame) -> None:
    shown = Table(
        "energy distance to 3 h", "mean", "lowest", "highest", title=f"Cao 2018, {len(table)} seeds"
    )
    for name, values in table.items():
        shown.add_row(str(name), *(f"{value:.3f}" for value in (values.mean(), values.min(), values.max())))
    Console().print(shown)
