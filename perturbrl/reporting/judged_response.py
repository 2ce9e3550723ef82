"""The response side of a judged design: predicted shifts beside baselines, and cells for other tools to score."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from jaxtyping import Float
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Label
from perturbrl.data.reading import read_rows, to_dense
from perturbrl.embeddings.base import EncodedCells
from perturbrl.errors import DataError
from perturbrl.evaluation.predicted_response import (
    CEILING,
    HeldOutResponse,
    baseline_shifts,
    judge_responses,
    top_gene_table,
)
from perturbrl.evaluation.simulation import Simulation
from perturbrl.reporting.figures import to_numpy
from perturbrl.responses.emission import emit_counts
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import CONTROL_LABEL, PERTURBATION_OBS, SIZE_FACTOR_OBS, TARGET_SUM, GeneVector
from perturbrl.training.datamodule import Part, PerturbationDataModule
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.base import relax

MAX_EMITTING: Final = 300  # control cells that emission is calibrated on
MAX_VALUES: Final = 4_000_000  # cells x genes x perturbations; emission draws each some 60 times
FEWEST_CELLS: Final = 4


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


def judge_response(module: TwoStageModule, forecast: Simulation) -> JudgedResponse:
    """Judge the policy's dosed cells, the twin's own forecast, and every baseline on held-out target cells.

    Args:
        module: the trained module.
        forecast: what the policy does to training cells; held-out ones judge it.

    Raises:
        DataError: there is nothing to judge with; the message says why.
    """
    data, label = module.data, str(module.data.target)
    if not data.has_cells:
        raise DataError("a network brings no measured cells, so predicted expression is compared with none")
    if data.source != CONTROL_LABEL:
        raise DataError(f"cells start from {data.source}, and response metrics are defined against control")
    cells = data.training_cells()
    real = _held_out(data, label)
    training = TrainingCells(cells.expression, cells.labels, cells.genes)
    control = cells.expression[cells.rows_of(CONTROL_LABEL)].double().mean(0).numpy()
    shifts = {"policy": _shift(module, forecast.start, forecast.final)}
    alone = _forecast(module, cells, label)
    shifts |= {} if alone is None else {"twin": alone}
    shifts |= baseline_shifts(training, label, module.seed)
    shifts[CEILING] = data.expression(label, "goal").double().mean(0).numpy() - control
    emitter = _Emitter.of(data, module.seed)
    table = judge_responses(real, shifts, training, None if emitter is None else emitter.log_cells)
    genes = top_gene_table(real, shifts["policy"])
    if emitter is None:
        return JudgedResponse(table, genes, None, None)
    panel = {label: shifts["policy"]} | _panel(module, cells, real, emitter)
    measured = {name: _counts(data, name, "test") for name in (CONTROL_LABEL, *panel)}
    emitted = {
        name: emitter(control + shift, len(measured[name][0]), stream)
        for stream, (name, shift) in enumerate(panel.items())
    }
    predicted = {CONTROL_LABEL: measured[CONTROL_LABEL]} | emitted
    return JudgedResponse(table, genes, _labelled(data, measured), _labelled(data, predicted))


def _panel(
    module: TwoStageModule, cells: EncodedCells, real: HeldOutResponse, emitter: "_Emitter"
) -> dict[str, GeneVector]:
    """What the twin forecasts for other measured perturbations: tools that score panels need more than one."""
    enough = [name for name in sorted(real.panel) if len(module.data.rows(name, "test")) >= FEWEST_CELLS]
    forecasts = {name: _forecast(module, cells, name) for name in enough[: emitter.affordable]}
    return {name: shift for name, shift in forecasts.items() if shift is not None}


def _held_out(data: PerturbationDataModule, label: str) -> HeldOutResponse:
    control = data.expression(CONTROL_LABEL, "test").double().numpy()
    assert data.dataset is not None
    others = [name for name in data.dataset.perturbations if name != label and len(data.rows(name, "test"))]
    panel: dict[str, GeneVector] = {
        name: data.expression(name, "test").double().numpy().mean(axis=0) - control.mean(axis=0)
        for name in others
    }
    target = data.expression(label, "test").double().numpy()
    return HeldOutResponse(label, target, control, tuple(data.genes), panel)


@torch.no_grad()
def _forecast(module: TwoStageModule, cells: EncodedCells, label: str) -> GeneVector | None:
    """Shift of training control cells under a label's own perturbations at dose 1, where the twin has them."""
    twin = module.twin
    names, wanted = twin.perturbations.names, Label.parse(label).names
    if not set(wanted) <= set(names):
        return None
    start = cells.latent[cells.rows_of(CONTROL_LABEL)].to(twin.start_cells.device)
    dose = start.new_zeros(len(start), len(names))
    dose[:, [names.index(name) for name in wanted]] = 1.0
    generator = torch.Generator(device=dose.device).manual_seed(module.seed)
    state = twin.transition(start, dose, twin.draw_noise(len(start), generator))
    return _shift(module, start, relax(twin, state, generator))


def _shift(module: TwoStageModule, start: torch.Tensor, final: torch.Tensor) -> GeneVector:
    before, after = (to_numpy(module.twin.expression(state)).astype(np.float64) for state in (start, final))
    return after.mean(axis=0) - before.mean(axis=0)


_Counts = tuple[Float[np.ndarray, "cells genes"], Float[np.ndarray, " cells"]]


def _counts(data: PerturbationDataModule, label: str, part: Part) -> _Counts:
    """Whole counts of the kept genes, and size factors."""
    dataset = data.dataset
    assert dataset is not None
    column_of = {gene: column for column, gene in enumerate(dataset.genes)}
    rows = data.rows(label, part)
    values = to_dense(read_rows(dataset.matrix, rows)[:, [column_of[gene] for gene in data.genes]])
    return values.astype(np.float64), dataset.size_factors[rows]


class _Emitter:
    """Makes dispersed cells with a given mean from training control cells (see ``emission``)."""

    def __init__(self, counts: _Counts, seed: int) -> None:
        self._counts, self._sizes = counts
        self._seed = seed

    @classmethod
    def of(cls, data: PerturbationDataModule, seed: int) -> "_Emitter | None":
        assert data.dataset is not None
        if data.dataset.value_kind != "counts":
            return None
        counts, sizes = _counts(data, CONTROL_LABEL, "train")
        chosen = np.random.default_rng(seed).permutation(len(counts))[:MAX_EMITTING]
        return cls((counts[chosen], sizes[chosen]), seed)

    @property
    def affordable(self) -> int:
        """Perturbations that can be emitted for in seconds."""
        return MAX_VALUES // self._counts.size

    def __call__(self, log_mean: GeneVector, n_cells: int, stream: int = 0) -> _Counts:
        # Noise shared between perturbations would cancel in their differences.
        return emit_counts(log_mean, self._counts, self._sizes, n_cells, self._seed * MAX_VALUES + stream)

    def log_cells(self, log_mean: GeneVector, n_cells: int) -> Float[np.ndarray, "cells genes"]:
        counts, sizes = self(log_mean, n_cells)
        return np.log1p(TARGET_SUM * counts / sizes[:, None])


def _labelled(data: PerturbationDataModule, groups: Mapping[str, _Counts]) -> AnnData:
    """Counts of several labels in one AnnData, as ``cell-eval`` and ``cell-eval2`` take it."""
    labels = [label for label, (counts, _) in groups.items() for _ in range(len(counts))]
    obs = pd.DataFrame(
        {
            PERTURBATION_OBS: pd.Categorical(labels),
            SIZE_FACTOR_OBS: np.concatenate([sizes for _, sizes in groups.values()]),
        },
        index=[f"{label}_{i}" for label, (counts, _) in groups.items() for i in range(len(counts))],
    )
    counts = np.concatenate([counts for counts, _ in groups.values()])
    return AnnData(csr_matrix(counts, dtype=np.float32), obs=obs, var=pd.DataFrame(index=list(data.genes)))
