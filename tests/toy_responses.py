"""Held-out and training cells of a toy screen, and predictions of every quality from them."""

import numpy as np
from scipy.sparse import csr_array
from toy_screen import ToyScreen

from perturbrl.evaluation.pairs import MeasuredResponses, PredictedResponses, ResponsePair
from perturbrl.responses.counted_cells import CountedCells
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.training_cells import TrainingCells

TOY = ToyScreen(n_genes=80, n_perturbations=6)


def cells(label, draw, n=60):
    return TOY.cells(label, n, draw).astype(np.float64)


def measured(*labels, draw=1, panel=(), n=60):
    control = cells("control", draw, n)
    shifts = {name: cells(name, draw, n).mean(axis=0) - control.mean(axis=0) for name in panel}
    return MeasuredResponses(
        tuple(TOY.genes), control, {label: cells(label, draw, n) for label in labels}, shifts
    )


def training(without=()):
    labels = ["control", *(name for name in TOY.perturbations if name not in without)]
    expression = np.concatenate([cells(label, 0) for label in labels])
    return TrainingCells(expression, np.repeat(labels, 60).tolist(), TOY.genes)


def emitter():
    counts = TOY.counts("control", 60, 0).astype(np.float64)
    return CellEmitter(CountedCells(csr_array(counts), counts.sum(axis=1)))


def partial_prediction(judges, share):
    """A pair in which ``share`` of each real shift is predicted, and as many of the cells are a replicate's.

    0 is doing nothing: the control's mean, and cells that are control cells.
    """
    shifts = {label: share * judges.shifts[label] for label in judges.perturbations}
    n = round(len(judges.control) * share)
    predicted = {
        label: np.concatenate((judges.control[n:], cells(label, 2)[:n])) for label in judges.perturbations
    }
    centre = np.mean(list(judges.means.values()), axis=0)
    return ResponsePair(judges, PredictedResponses(shifts, judges.control_mean, predicted), centre)


def random_pair(seed, n_genes=30):
    """Predictions that have nothing to do with the cells that judge, some of these without any effect."""
    rng = np.random.default_rng(seed)
    labels = ["A", "B", "A+C"]

    def draw(label):
        moved = rng.normal(size=n_genes) * (label != "B")
        return np.abs(rng.gamma(1.0, size=(rng.integers(6, 15), n_genes)) + moved)

    judges = MeasuredResponses(
        tuple(f"g{i}" for i in range(n_genes)), draw("B"), {label: draw(label) for label in labels}
    )
    shifts = {label: rng.normal(size=n_genes) for label in labels}
    emitted = {label: draw(label) for label in labels}
    control = rng.normal(size=n_genes)
    return ResponsePair(judges, PredictedResponses(shifts, control, emitted), rng.normal(size=n_genes))
