"""A response model judged on the cells that a split holds out: the report, and files for cell-eval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anndata
import numpy as np
from anndata import AnnData
from jaxtyping import Float

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import CONTROL
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.split import Split
from perturbrl.evaluation.judged_model import JudgedModel, judge_model
from perturbrl.pl.style import Plot
from perturbrl.reporting.response_report import ResponseReport
from perturbrl.responses.answers import answer
from perturbrl.responses.emission import (
    MOST_EMITTING,
    CellEmitter,
    counted_cells,
    labelled_cells,
    predicted_cells,
)
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.questions import text_of
from perturbrl.responses.training_cells import ONE_CONTEXT, Condition, TrainingCells
from perturbrl.schema import CELL_TYPE_OBS, CONTROL_LABEL, CellIndex

Means = Float[np.ndarray, "asked genes"]


@dataclass(frozen=True, eq=False)
class HeldOutCells:
    """A data set with what may be learned from and what only judges.

    Attributes:
        dataset: the cells.
        split: their parts.
        preprocessor: fitted on the training cells.
    """

    dataset: PerturbationDataset
    split: Split
    preprocessor: Preprocessor

    def part(self, rows: CellIndex) -> TrainingCells:
        """Log expression, labels and contexts of some cells."""
        types = self.dataset.cell_types[rows].tolist() if self.dataset.fields.cell_type_key else None
        expression = self.preprocessor.transform(self.dataset, rows)
        return TrainingCells(expression, list(self.dataset.labels[rows]), self.preprocessor.genes, types)

    def rows(self, condition: Condition, among: CellIndex) -> CellIndex:
        """Rows of a condition's cells among some."""
        label, context = condition
        rows = np.intersect1d(self.dataset.cells_of(label), among)
        return rows if context == ONE_CONTEXT else rows[self.dataset.cell_types[rows] == context]

    def emitter(self, context: str, seed: int) -> CellEmitter:
        """Makes cells of training controls."""
        control = counted_cells(
            self.dataset, self.rows((CONTROL, context), self.split.train), self.preprocessor.genes
        )
        return CellEmitter(control.at_most(MOST_EMITTING, seed), seed)


@dataclass(frozen=True, eq=False)
class JudgedResponses:
    """What a test of a response model leaves behind.

    Attributes:
        report: what was found.
        real: held-out cells as counts, control among them; ``None`` where the file has no counts.
        predicted: the same control cells, and as many predicted cells of every held-out condition.
    """

    report: ResponseReport
    real: AnnData | None = None
    predicted: AnnData | None = None


def judge_held_out(
    model: Kriging,
    cells: HeldOutCells,
    *,
    others: Mapping[str, Means] | None = None,
    question: Mapping[str, str] | None = None,
    more: Sequence[Plot] = (),
    seed: int = 0,
) -> JudgedResponses:
    """Judge a response model on the test part of a split.

    Args:
        model: fitted on the training cells.
        cells: the data and their split.
        others: shifts by further predictors, see ``judge_model``.
        question: more of what was asked, as name and value.
        more: further figures, such as learning curves.
        seed: of halves, random baselines and emitted cells.

    Raises:
        DataError: nothing that is held out has enough cells.
    """
    training, held_out = cells.part(cells.split.train), cells.part(cells.split.test)
    emitters = None
    if cells.dataset.value_kind == "counts":
        emitters = {context: cells.emitter(context, seed) for context in model.contexts}
    judged = judge_model(
        model, training, held_out, priors=model.priors, others=others, emitters=emitters, seed=seed
    )
    queries = [text_of(condition) for condition in judged.conditions]
    answers = answer(model, cells.dataset, cells.preprocessor.genes, queries)
    report = ResponseReport(answers, judged, model.name, question or {}, _data(cells), more=more)
    return JudgedResponses(report, *(_pair(model, cells, judged, emitters) if emitters else (None, None)))


def _data(cells: HeldOutCells) -> Mapping[str, str]:
    dataset, split = cells.dataset, cells.split
    return {
        "cells and genes": f"{dataset.n_cells} cells × {len(dataset.genes)} genes; "
        f"{len(cells.preprocessor.genes)} genes used",
        "measured": f"{len(dataset.control_cells)} control cells, {len(dataset.singles)} single perturbations, "
        f"{len(dataset.combinations)} combinations",
        "held out by": f"{split.name}, seed {split.seed}",
        "learned from": f"{len(split.train)} cells",
        "judged by": f"{len(split.test)} cells that nothing was learned from, half of each condition's",
    }


def _pair(
    model: Kriging, cells: HeldOutCells, judged: JudgedModel, emitters: Mapping[str, CellEmitter]
) -> tuple[AnnData, AnnData]:
    """Held-out and predicted counts of control and of each condition, context by context."""
    found = dict(zip(judged.conditions, model.predict(judged.conditions).mean, strict=True))
    pairs = []
    for context, emitter in emitters.items():
        own = {str(label): shift for (label, where), shift in found.items() if where == context}
        if own:
            pairs.append(_pair_in(context, own, cells, emitter))
    real, predicted = (anndata.concat(parts, merge="same") for parts in zip(*pairs, strict=True))
    return real, predicted


def _pair_in(
    context: str, shifts: Mapping[str, np.ndarray], cells: HeldOutCells, emitter: CellEmitter
) -> tuple[AnnData, AnnData]:
    genes, test = cells.preprocessor.genes, cells.split.test
    labels = {CONTROL_LABEL: CONTROL, **{label: cells.dataset.require_label(label) for label in shifts}}
    groups = {
        name: counted_cells(cells.dataset, cells.rows((label, context), test), genes)
        for name, label in labels.items()
    }
    real = labelled_cells(groups, genes)
    start = emitter.control.log_expression.mean(axis=0)
    predicted = predicted_cells({label: start + shift for label, shift in shifts.items()}, real, emitter)
    for one in (real, predicted):
        if context != ONE_CONTEXT:
            one.obs[CELL_TYPE_OBS] = context
            one.obs_names = [f"{context}_{name}" for name in one.obs_names]
    return real, predicted
