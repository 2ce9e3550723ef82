"""LARRY: do cells simulated from a clone's early cells end in the types that its late cells have?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from perturbrl.data.cell_order import OrderOptions
from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.split import Split
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.schema import CellIndex, Points
from perturbrl.twins.landscape import LandscapeTwin
from studies.landscape_cells import moved, states_of

FILE: Final = "weinreb2020_larry_subset.h5ad"
HIDDEN: Final = -1
FATES: Final = ("Monocyte", "Neutrophil")
FOLDS: Final = 5
COPIES: Final = 200
NEIGHBOURS: Final = 15
RESAMPLED: Final = 2000
WAYS: Final = ("simulated", "types", "clones")


@dataclass(frozen=True, eq=False)
class CloneCase:
    """Cells of one clone at one time, and what became of it.

    Attributes:
        clone: its number.
        time: of the early cells.
        early: their rows.
        fate: 1 where more of its later cells are neutrophils than monocytes, 0 where fewer.
    """

    clone: int
    time: float
    early: CellIndex
    fate: int


def rows(folder: Path, seeds: int) -> dict[str, object]:
    """The keys of this part."""
    dataset = load_dataset(folder / FILE)
    cases = clone_cases(dataset)
    scores = pd.concat([_one_seed(dataset, cases, seed) for seed in range(seeds)])
    found = {way: _auroc(scores, way) for way in WAYS}
    _print(scores, found)
    low, high = _interval(scores)
    return {
        "clone_auroc": round(found["simulated"], 3),
        "clone_auroc_static": round(found["types"], 3),
        "clone_auroc_supervised": round(found["clones"], 3),
        "clone_auroc_gain_interval": [round(low, 3), round(high, 3)],
        "clones_judged": int(scores["clone"].nunique()),
    }


def clone_cases(dataset: PerturbationDataset) -> list[CloneCase]:
    """Every clone with a visible number and time with later cells that are more often of one fate than of the other."""
    obs = dataset.adata.obs
    clone, time = obs["clone"].to_numpy(), obs["time"].to_numpy()
    fate = np.select([obs["cell_type"] == name for name in FATES], [-1, 1], 0)
    cases = []
    for number in np.unique(clone[clone != HIDDEN]):
        own = clone == number
        for now in np.unique(time[own]):
            early, lean = np.flatnonzero(own & (time == now)), fate[own & (time > now)].sum()
            if lean:
                cases.append(CloneCase(int(number), float(now), early, int(lean > 0)))
    return cases


def _one_seed(dataset: PerturbationDataset, cases: list[CloneCase], seed: int) -> pd.DataFrame:
    """Scores of every case by each way, from what was learned without its clone."""
    clones = np.unique([case.clone for case in cases])
    folds = np.array_split(np.random.default_rng(seed).permutation(clones), FOLDS)
    scores = [_one_fold(dataset, cases, set(fold.tolist()), seed) for fold in folds]
    return pd.concat(scores).assign(seed=seed)


def _one_fold(
    dataset: PerturbationDataset, cases: list[CloneCase], held: set[int], seed: int
) -> pd.DataFrame:
    measured = _without(dataset, held, seed)
    cells = measured.training()
    twin = LandscapeTwin(seed=seed).fit(cells, measured.encoder)
    types = np.array(cells.contexts)
    fated = np.isin(types, FATES)
    classifier = KNeighborsClassifier(NEIGHBOURS).fit(cells.latent.numpy()[fated], types[fated])
    supervised = _supervised(measured, [case for case in cases if case.clone not in held])
    order = cells.require_order().time_points
    steps_per_unit = twin.n_steps / float(order[-1] - order[0])
    found = []
    for case in (case for case in cases if case.clone in held):
        early = states_of(measured, case.early)
        transitions = round((float(order[-1]) - case.time) * steps_per_unit / twin.steps_per_action)
        ends = moved(twin, early.repeat(COPIES, 1), transitions, seed)[-1]
        found.append(
            {
                "clone": case.clone,
                "time": case.time,
                "fate": case.fate,
                "simulated": _second(classifier, ends.numpy()),
                "types": _second(classifier, early.numpy()),
                "clones": _second(supervised, early.numpy()),
            }
        )
    return pd.DataFrame(found)


def _without(dataset: PerturbationDataset, held: set[int], seed: int) -> MeasuredCells:
    """All that is learned before the landscape, from cells of other clones; cells of hidden ones are left out."""
    clone = dataset.adata.obs["clone"].to_numpy()
    judging = np.isin(clone, list(held))
    train, none = np.flatnonzero(~judging & (clone != HIDDEN)), np.array([], dtype=int)
    split = Split("clones", seed, train, none, np.flatnonzero(judging), none, none, dataset.barcodes)
    genes = Preprocessor(n_top_genes=None).fit(dataset, train)
    encoder = PCAEncoder(20).fit(genes.transform(dataset, train))
    return MeasuredCells(dataset, split, genes, encoder, OrderOptions(time_key="time"))


def _supervised(measured: MeasuredCells, cases: list[CloneCase]) -> LogisticRegression:
    """Told by the early cells of other clones and what became of them, which the landscape never is."""
    early = np.concatenate([case.early for case in cases])
    fates = np.repeat([FATES[case.fate] for case in cases], [len(case.early) for case in cases])
    return LogisticRegression(C=0.01, max_iter=2000).fit(states_of(measured, early).numpy(), fates)


def _second(classifier: KNeighborsClassifier | LogisticRegression, states: Points) -> float:
    """Mean probability of the second fate."""
    return float(classifier.predict_proba(states)[:, list(classifier.classes_).index(FATES[1])].mean())


def _auroc(scores: pd.DataFrame, way: str) -> float:
    """Mean over seeds."""
    return float(np.mean([roc_auc_score(own["fate"], own[way]) for _, own in scores.groupby("seed")]))


def _interval(scores: pd.DataFrame) -> tuple[float, float]:
    """95 % bootstrap interval over clones of what the simulation gains over the types of the early cells."""
    mean = scores.groupby(["clone", "time"], as_index=False).mean()
    clones, rng, gains = mean["clone"].unique(), np.random.default_rng(0), []
    by_clone = dict(iter(mean.groupby("clone")))
    for _ in range(RESAMPLED):
        drawn = pd.concat([by_clone[clone] for clone in rng.choice(clones, len(clones))])
        if drawn["fate"].nunique() == 2:
            gains.append(np.subtract(*(roc_auc_score(drawn["fate"], drawn[way]) for way in WAYS[:2])))
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def _print(scores: pd.DataFrame, found: dict[str, float]) -> None:
    table = Table("AUROC neutrophil against monocyte", "all", *(f"from day {t:g}" for t in _times(scores)))
    names = {
        "simulated": "cells simulated by the landscape",
        "types": "types around the early cells, no dynamics",
        "clones": "classifier that saw the fates of other clones",
    }
    for way in WAYS:
        by_time = [_auroc(scores[scores["time"] == time], way) for time in _times(scores)]
        table.add_row(names[way], *(f"{value:.3f}" for value in (found[way], *by_time)))
    Console().print(table)


def _times(scores: pd.DataFrame) -> list[float]:
    return sorted(scores["time"].unique())
