"""Perturbations of a simulated screen of 2,000, judged against their exact shifts instead of held-out cells.

A hundred singles are held out together, for a fit takes a minute. Prior knowledge is the screen's modules as a database
has them, 30 % of their members wrong. A seed is a screen of its own. The replicate is what the held-out cells show.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.gene_sets import read_gene_sets
from perturbrl.data.labels import CONTROL, Label
from perturbrl.data.module_screen import (
    ModuleScreen,
    ModuleScreenOptions,
    simulate_module_screen,
    write_gene_sets,
)
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import detect_fields
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.evaluation.coverage import held_share
from perturbrl.evaluation.pairs import TOP_GENES, PairedMeans
from perturbrl.evaluation.response_metrics import MEAN_METRICS
from perturbrl.responses.baselines import SplitHalfReplicate, TrainingMean
from perturbrl.responses.competitors import competitors
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import ONE_CONTEXT, TrainingCells
from perturbrl.schema import GeneVector

N_HELD_OUT: Final = 100
WRONG_MEMBERS: Final = 0.3
OPTIONS: Final = ModuleScreenOptions()
PROMISED: Final = 0.9

Scores = Mapping[str, Mapping[str, float]]
"""Metrics by predictor."""


def held_out_names(options: ModuleScreenOptions = OPTIONS) -> list[str]:
    """Perturbations held out, the same of every seed."""
    every = [f"GENE{i:04d}" for i in range(options.n_perturbations)]
    n = min(N_HELD_OUT, options.n_perturbations // 4)
    return sorted(np.random.default_rng(0).choice(every, n, replace=False).tolist())


def scores_of(held_out: str, seed: int) -> Scores:
    """Every metric of means of every predictor on one held-out perturbation."""
    return scores_of_screen(replace(OPTIONS, seed=seed))[held_out]


@lru_cache(maxsize=4)
def scores_of_screen(options: ModuleScreenOptions) -> Mapping[str, Scores]:
    """The same of all held-out perturbations of one screen."""
    screen, held_out = simulate_module_screen(options), held_out_names(options)
    cells = _cells(screen)
    left_out = np.isin(np.array(cells.labels), held_out)
    training = _some(cells, ~left_out)
    judging = _some(cells, left_out | (np.array(cells.labels) == CONTROL))
    priors = (_modules(screen),)
    kriging = Kriging(priors).fit(training)
    models = [kriging, *(model.fit(training) for model in competitors(training, priors=priors))]
    predicted = {model.name: model.overall(held_out) for model in models}
    sd = kriging.predict([(Label.parse(name), ONE_CONTEXT) for name in held_out]).sd
    predicted[SplitHalfReplicate.name] = SplitHalfReplicate().fit(judging).overall(held_out)
    centre = TrainingMean().fit(training).overall(held_out[:1])[0]
    truth = {str(label): shift for (label, _), shift in zip(screen.conditions, screen.shifts, strict=True)}
    found = {
        name: {
            predictor: _against_truth(shifts[row], truth[name], centre)
            for predictor, shifts in predicted.items()
        }
        for row, name in enumerate(held_out)
    }
    for row, name in enumerate(held_out):
        mean = predicted[Kriging.name][row]
        found[name][Kriging.name]["coverage_90"] = held_share(
            mean, sd[row], truth[name], np.zeros_like(mean), PROMISED
        )
    return found


def _against_truth(shift: GeneVector, truth: GeneVector, centre: GeneVector) -> dict[str, float]:
    none = np.zeros_like(truth)
    top = np.argsort(-np.abs(truth), kind="stable")[None, :TOP_GENES]
    pair = PairedMeans(shift[None], none, truth[None], none[None], centre, top)
    return {metric.name: float(metric.function(pair)[0]) for metric in MEAN_METRICS}


def _cells(screen: ModuleScreen) -> TrainingCells:
    dataset = PerturbationDataset.from_adata(screen.adata, detect_fields(screen.adata))
    everything = np.arange(dataset.n_cells)
    preprocessor = Preprocessor(n_top_genes=None).fit(dataset, everything)
    expression = preprocessor.transform(dataset, everything).double().numpy()
    assert list(preprocessor.genes) == list(screen.adata.var_names)
    return TrainingCells(expression, dataset.labels.tolist(), preprocessor.genes)


def _some(cells: TrainingCells, kept: np.ndarray) -> TrainingCells:
    rows = np.flatnonzero(kept)
    return TrainingCells(cells.expression[rows], np.array(cells.labels)[rows].tolist(), cells.genes)


def _modules(screen: ModuleScreen) -> PriorKnowledge:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "modules.gmt"
        write_gene_sets(path, screen.noisy_modules(WRONG_MEMBERS))
        return read_gene_sets(path)
