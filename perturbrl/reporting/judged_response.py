"""The response side of a judged design: predicted shifts beside baselines, and cells for other tools to score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from perturbrl.data.labels import Label
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.measured import MeasuredCells, Part
from perturbrl.errors import DataError
from perturbrl.evaluation.adata_pairs import pair_from_adata
from perturbrl.evaluation.pairs import FEWEST_TARGET, MeasuredResponses
from perturbrl.evaluation.predicted_response import (
    Shifts,
    judge_responses,
    predicted_shifts,
    top_gene_table,
)
from perturbrl.evaluation.simulation import Simulation
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.reporting.figures import to_numpy
from perturbrl.reporting.judged import Judged
from perturbrl.responses.baselines import SplitHalfReplicate
from perturbrl.responses.counted_cells import CountedCells, counted_cells
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.predicted_cells import labelled_cells, predicted_cells
from perturbrl.responses.spread import ResponseSpread
from perturbrl.responses.spread_model import SpreadModel
from perturbrl.responses.training_cells import ONE_CONTEXT, TrainingCells
from perturbrl.schema import CELL_TYPE_OBS, CONTROL_LABEL, SIZE_FACTOR_OBS, GeneVector
from perturbrl.twins.base import DigitalTwin, relax

MAX_PANEL: Final = 26_000  # genes x perturbations; each takes a calibration


@dataclass(frozen=True)
class JudgedResponse:
    """How well responses are predicted.

    Attributes:
        table: see ``judge_responses``.
        top_genes: see ``top_gene_table``.
        real: held-out cells of control, the target and other measured perturbations as counts; ``None`` where the
            file has none.
        predicted: the same control cells, the target as the policy's design has it, and the others as the twin
            forecasts them.
    """

    table: pd.DataFrame
    top_genes: pd.DataFrame
    real: AnnData | None
    predicted: AnnData | None


def judge_response(judged: Judged, forecast: Simulation) -> JudgedResponse:
    """Judge the policy's dosed cells, the twin's own forecast, and every baseline on held-out target cells.

    Args:
        judged: what is judged.
        forecast: what the policy does to training cells; held-out ones judge it.

    Raises:
        DataError: there is nothing to judge with; the message says why.
    """
    data, label, problem = judged.measured, judged.target, judged.problem
    if data is None:
        raise DataError("a network brings no measured cells, so predicted expression is compared with none")
    if judged.source != CONTROL_LABEL:
        raise DataError(f"cells start from {judged.source}, and response metrics are defined against control")
    cells, real = data.training(), _held_out(data, label)
    training = TrainingCells(cells.expression, cells.labels, cells.genes, _cell_types(data))
    policy = _shift(problem.twin, forecast.start, forecast.final)
    predictors: dict[str, Shifts] = {"policy": {label: policy}}
    alone = _forecast(problem, cells, label)
    predictors |= {} if alone is None else {"twin": {label: alone}}
    predictors |= predicted_shifts(training, [label], problem.seed)
    predictors[SplitHalfReplicate.name] = {label: _replicate(data, cells, label)}
    emitter = _emitter(data, problem.seed)
    genes = top_gene_table(real, label, policy)
    if emitter is None:
        return JudgedResponse(judge_responses(real, predictors, training), genes, None, None)
    shifts = {label: policy} | _panel(judged.problem, data, cells, real)
    spreads = _spreads(data, list(shifts))
    table = judge_responses(real, predictors, training, emitter, spreads)
    return JudgedResponse(table, genes, *_files(data, cells, shifts, emitter, spreads))


def _files(
    data: MeasuredCells,
    cells: EncodedCells,
    shifts: Shifts,
    emitter: CellEmitter,
    spreads: Mapping[str, ResponseSpread],
) -> tuple[AnnData, AnnData]:
    """Measured and predicted counts of control and of each predicted perturbation, checked as a pair."""
    groups = {name: _counts(data, name, "test") for name in (CONTROL_LABEL, *shifts)}
    measured = labelled_cells(groups, cells.genes)
    control = cells.expression[cells.rows_of(CONTROL_LABEL)].double().mean(0).numpy()
    means = {name: control + shift for name, shift in shifts.items()}
    predicted = predicted_cells(means, measured, emitter, spreads)
    pair_from_adata(measured, predicted, "counts", size_factor_key=SIZE_FACTOR_OBS)
    return measured, predicted


def _cell_types(data: MeasuredCells) -> list[str] | None:
    """Of the training cells, where the file knows them."""
    known = CELL_TYPE_OBS in data.dataset.adata.obs.columns
    return data.dataset.cell_types[data.require_split().train].tolist() if known else None


def _replicate(data: MeasuredCells, cells: EncodedCells, label: str) -> GeneVector:
    """Shift measured in the half of the target's cells that does not judge."""
    control, goal = cells.expression[cells.rows_of(CONTROL_LABEL)], data.expression(label, "goal")
    labels = [CONTROL_LABEL] * len(control) + [label] * len(goal)
    both = TrainingCells(torch.cat((control, goal)), labels, cells.genes)
    return SplitHalfReplicate().fit(both).overall([label])[0]


def _panel(
    problem: DesignProblem,
    data: MeasuredCells,
    cells: EncodedCells,
    real: MeasuredResponses,
) -> dict[str, GeneVector]:
    """What the twin forecasts for other measured perturbations: tools that score panels need more than one."""
    enough = [name for name in sorted(real.panel) if len(data.rows(name, "test")) >= FEWEST_TARGET]
    forecasts = {name: _forecast(problem, cells, name) for name in enough[: MAX_PANEL // len(real.genes)]}
    return {name: shift for name, shift in forecasts.items() if shift is not None}


def _held_out(data: MeasuredCells, label: str) -> MeasuredResponses:
    control = data.expression(CONTROL_LABEL, "test").double().numpy()
    others = [name for name in data.dataset.perturbations if name != label and len(data.rows(name, "test"))]
    panel: dict[str, GeneVector] = {
        name: data.expression(name, "test").double().numpy().mean(axis=0) - control.mean(axis=0)
        for name in others
    }
    target = data.expression(label, "test").double().numpy()
    return MeasuredResponses(tuple(data.genes), control, {label: target}, panel)


@torch.no_grad()
def _forecast(problem: DesignProblem, cells: EncodedCells, label: str) -> GeneVector | None:
    """Shift of training control cells under a label's own perturbations as measured, where the twin has them."""
    twin = problem.twin
    given = twin.perturbations.dose_of(label)
    if given is None:
        return None
    start = twin.untouched(cells.latent[cells.rows_of(CONTROL_LABEL)].to(twin.start_cells.device))
    dose = given.to(start.device).expand(len(start), -1)
    generator = torch.Generator(device=dose.device).manual_seed(problem.seed)
    member = twin.draw_members(len(start), generator)
    state = twin.next_state(start, dose, twin.draw_noise(len(start), generator), member)
    return _shift(twin, start, relax(twin, state, member, generator))


def _shift(twin: DigitalTwin, start: torch.Tensor, final: torch.Tensor) -> GeneVector:
    before, after = (to_numpy(twin.expression(state)).astype(np.float64) for state in (start, final))
    return after.mean(axis=0) - before.mean(axis=0)


def _counts(data: MeasuredCells, label: str, part: Part) -> CountedCells:
    """Whole counts of the kept genes."""
    return counted_cells(data.dataset, data.rows(label, part), data.genes)


def _emitter(data: MeasuredCells, seed: int) -> CellEmitter | None:
    """Emits cells from training controls; ``None`` where the file has no counts."""
    if data.dataset.value_kind != "counts":
        return None
    return CellEmitter(_counts(data, CONTROL_LABEL, "train"), seed)


def _spreads(data: MeasuredCells, labels: Sequence[str]) -> dict[str, ResponseSpread]:
    """What training cells say of the spread under each label; cells of all types together, as they are emitted."""
    rows = data.require_split().train
    counted = counted_cells(data.dataset, rows, data.genes)
    model = SpreadModel().fit(counted, [str(label) for label in data.dataset.labels[rows]])
    return dict(
        zip(labels, model.predict([(Label.parse(label), ONE_CONTEXT) for label in labels]), strict=True)
    )
