"""A response model judged on the cells that a split holds out: the report, and files for cell-eval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import anndata
import numpy as np
from anndata import AnnData
from scipy.sparse import csr_matrix

from perturbrl.data.labels import CONTROL
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.judged_model import JudgedModel, held_out_conditions, judge_model
from perturbrl.pl.style import Plot
from perturbrl.reporting.about_cells import cells_and_genes, what_was_measured
from perturbrl.reporting.response_report import ResponseReport
from perturbrl.responses.answers import answer
from perturbrl.responses.base import ResponseModel
from perturbrl.responses.counted_cells import counted_cells, rows_of
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.predicted_cells import in_context, labelled_cells, predicted_cells
from perturbrl.responses.questions import text_of
from perturbrl.responses.spread import ResponseSpread
from perturbrl.responses.spread_model import spreads_under
from perturbrl.responses.training_cells import Condition, TrainingCells
from perturbrl.schema import CellIndex, Expression

Spreads = Mapping[Condition, ResponseSpread]


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
    cells: MeasuredCells,
    *,
    beside: Sequence[ResponseModel] = (),
    question: Mapping[str, str] = MappingProxyType({}),
    data: Mapping[str, str] = MappingProxyType({}),
    more: Sequence[Plot] = (),
    seed: int = 0,
) -> JudgedResponses:
    """Judge a response model on the test part of a split.

    Args:
        model: fitted on the training cells.
        cells: the data and their split.
        beside: further models, fitted on the training cells, too.
        question: more of what was asked, as name and value.
        data: more of what is to be known of the cells, as name and value.
        more: further figures, such as learning curves.
        seed: of halves, random baselines and emitted cells.

    Raises:
        ConfigurationError: no perturbed cell is held out.
        DataError: nothing that is held out has enough cells.
    """
    split = cells.require_split()
    if all(label.is_control for label in cells.dataset.labels[split.test]):
        raise ConfigurationError(
            f"{split.name} holds no perturbed cell out, so nothing can judge; give a split that does"
        )
    counted = cells.dataset.value_kind == "counts"
    emitters = {one: emitter_of(cells, one, seed) for one in model.contexts} if counted else {}
    held_out = labelled(cells, split.test)
    asked = held_out_conditions(held_out) if counted else []
    told = spreads_under(asked, cells.dataset, split.train, cells.genes, model.priors) if asked else []
    spreads = dict(zip(asked, told, strict=True))
    judged = judge_model(
        model,
        labelled(cells, split.train),
        held_out,
        priors=model.priors,
        beside=beside,
        emitters=emitters,
        spreads=spreads,
        seed=seed,
    )
    answers = answer(model, cells.dataset, cells.genes, [text_of(one) for one in judged.conditions])
    report = ResponseReport(answers, judged, model.name, question, {**data, **_data(cells)}, more=more)
    if not counted:
        return JudgedResponses(report)
    return JudgedResponses(report, *_pair(model, cells, judged, emitters, spreads))


def labelled(cells: MeasuredCells, rows: CellIndex) -> TrainingCells:
    """Log expression, labels and contexts of some cells."""
    return _with_labels(cells.preprocessor.transform(cells.dataset, rows), cells, rows)


def every_cell(cells: MeasuredCells) -> TrainingCells:
    """The same of all cells, held out or not; sparse, for there may be many."""
    rows = np.arange(cells.dataset.n_cells)
    return _with_labels(cells.preprocessor.transform_sparse(cells.dataset, rows), cells, rows)


def _with_labels(expression: Expression | csr_matrix, cells: MeasuredCells, rows: CellIndex) -> TrainingCells:
    dataset = cells.dataset
    types = dataset.cell_types[rows].tolist() if dataset.fields.cell_type_key else None
    return TrainingCells(expression, list(dataset.labels[rows]), cells.genes, types)


def emitter_of(cells: MeasuredCells, context: str, seed: int) -> CellEmitter:
    """Makes cells of a context's training controls."""
    rows = _rows(cells, (CONTROL, context), cells.require_split().train)
    return CellEmitter(counted_cells(cells.dataset, rows, cells.genes), seed, context)


def _rows(cells: MeasuredCells, condition: Condition, among: CellIndex) -> CellIndex:
    return np.intersect1d(rows_of(cells.dataset, condition), among)


def _data(cells: MeasuredCells) -> Mapping[str, str]:
    dataset, split = cells.dataset, cells.require_split()
    return {
        **cells_and_genes(cells),
        **what_was_measured(dataset),
        "held out by": f"{split.name}, seed {split.seed}",
        "learned from": f"{len(split.train)} cells",
        "judged by": f"{len(split.test)} cells that nothing was learned from, half of each condition's",
    }


def _pair(
    model: Kriging,
    cells: MeasuredCells,
    judged: JudgedModel,
    emitters: Mapping[str, CellEmitter],
    spreads: Spreads,
) -> tuple[AnnData, AnnData]:
    """Held-out and predicted counts of control and of each condition, context by context."""
    found = dict(zip(judged.conditions, model.predict(judged.conditions).mean, strict=True))
    pairs = []
    for context, emitter in emitters.items():
        own = {condition: shift for condition, shift in found.items() if condition[1] == context}
        if own:
            pairs.append(_pair_in(context, own, cells, emitter, spreads))
    real, predicted = (anndata.concat(parts, merge="same") for parts in zip(*pairs, strict=True))
    return real, predicted


def _pair_in(
    context: str,
    shifts: Mapping[Condition, np.ndarray],
    cells: MeasuredCells,
    emitter: CellEmitter,
    spreads: Spreads,
) -> tuple[AnnData, AnnData]:
    test = cells.require_split().test
    groups = {
        str(one[0]): counted_cells(cells.dataset, _rows(cells, one, test), cells.genes)
        for one in ((CONTROL, context), *shifts)
    }
    real = labelled_cells(groups, cells.genes)
    means = {str(one[0]): emitter.control.log_mean + shift for one, shift in shifts.items()}
    predicted = predicted_cells(means, real, emitter, {str(one[0]): spreads[one] for one in shifts})
    return in_context(real, context), in_context(predicted, context)
