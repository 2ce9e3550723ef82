"""Cao 2018: is three hours of dexamethasone foretold from none and one hour of it?"""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from perturbrl.data.cell_order import OrderOptions
from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.split import Split
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.evaluation.distances import energy_distance
from perturbrl.schema import CellState
from perturbrl.twins.landscape import LandscapeTwin
from studies.landscape_cells import moved

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
    best = min(mean["stays"], mean["extrapolated"])
    return {f"cao_energy_{name}": round(float(value), 3) for name, value in mean.items()} | {
        "cao_better_than_both": bool(mean["landscape"] < best)
    }


def _one_seed(dataset: PerturbationDataset, seed: int) -> dict[str, float]:
    """Energy distance of each prediction to the cells of three hours, of which none was learned from.

    What moves are held-out cells of one hour, so that a prediction is compared with cells as unseen as itself.
    """
    measured = _early(dataset, seed)
    twin = LandscapeTwin(seed=seed).fit(measured.training(), measured.encoder)
    at = {time: _states(measured, time) for time in (*KNOWN, AHEAD)}
    start, later = KNOWN
    steps = twin.n_steps * (AHEAD - later) / (later - start)
    ends = moved(twin, at[later].repeat(COPIES, 1), round(steps / twin.steps_per_action), seed)[-1]
    shift = (at[later].mean(0) - at[start].mean(0)) * (AHEAD - later) / (later - start)
    half = np.random.default_rng(seed).permutation(len(at[AHEAD]))
    real, other = at[AHEAD][half[::2]], at[AHEAD][half[1::2]]
    predictions = {
        "landscape": ends,
        "stays": at[later],
        "extrapolated": at[later] + shift,
        "replicate": other,
    }
    return {name: energy_distance(states, real, "u") for name, states in predictions.items()}


def _early(dataset: PerturbationDataset, seed: int) -> MeasuredCells:
    """All that is learned before the landscape, from four fifths of the cells of the known times."""
    time, rng = dataset.adata.obs["time_h"].to_numpy(), np.random.default_rng(seed)
    known = rng.permutation(np.flatnonzero(np.isin(time, KNOWN)))
    held = round(HELD_OUT * len(known))
    train, none = np.sort(known[held:]), np.array([], dtype=int)
    test = np.sort(np.concatenate([known[:held], np.flatnonzero(time == AHEAD)]))
    split = Split("hours", seed, train, none, test, none, none, dataset.barcodes)
    genes = Preprocessor(n_top_genes=None).fit(dataset, train)
    encoder = PCAEncoder(20).fit(genes.transform(dataset, train))
    return MeasuredCells(dataset, split, genes, encoder, OrderOptions(time_key="time_h"))


def _states(measured: MeasuredCells, time: float) -> CellState:
    """Held-out cells of one time."""
    test = measured.require_split().test
    own = test[measured.dataset.adata.obs["time_h"].to_numpy()[test] == time]
    return measured.encoder.encode(measured.preprocessor.transform(measured.dataset, own))


def _print(table: pd.DataFrame) -> None:
    shown = Table("energy distance to 3 h", "mean", "lowest", "highest", title=f"Cao 2018, {len(table)} seeds")
    for name, values in table.items():
        shown.add_row(str(name), *(f"{value:.3f}" for value in (values.mean(), values.min(), values.max())))
    Console().print(shown)
