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

from perturbrl.data.presets import components
from perturbrl.data.reading import read_rows, to_dense
from perturbrl.embeddings.base import EncodedCells
from perturbrl.envs.base import relax
from perturbrl.errors import DataError
from perturbrl.evaluation.design import Simulation
from perturbrl.evaluation.emission import emit_counts
from perturbrl.evaluation.pairs import TARGET_SUM
from perturbrl.evaluation.populations import some_of
from perturbrl.evaluation.predicted_response import (
    CEILING,
    HeldOutResponse,
    baseline_shifts,
    judge_responses,
    top_gene_table,
)
from perturbrl.evaluation.training_cells import GeneVector, TrainingCells
from perturbrl.schema import CONTROL_LABEL, PERTURBATION_OBS, SIZE_FACTOR_OBS
from perturbrl.training.datamodule import Part, PerturbationDataModule
from perturbrl.training.figures import to_numpy
from perturbrl.training.two_stage import TwoStageModule

MAX_EMITTING: Final = 300  # control cells that emission is calibrated on


@dataclass(frozen=True)
class JudgedResponse:
    """How well responses are predicted.

    Attributes:
        table: see ``judge_responses``.
        top_genes: see ``top_gene_table``.
        real: held-out control and target cells as counts; ``None`` where the file has no counts.
        predicted: the same control cells, and target cells that the policy's design predicts.
    """

    table: pd.DataFrame
    top_genes: pd.DataFrame
    real: AnnData | None
    predicted: AnnData | None


def judge_response(module: TwoStageModule, simulation: Simulation) -> JudgedResponse:
    """Judge the policy's dosed cells, the twin's own forecast, and every baseline on held-out target cells.

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
    shifts = _shifts(module, simulation, cells, label) | baseline_shifts(training, label, module.seed)
    control = cells.expression[cells.rows_of(CONTROL_LABEL)].double().mean(0).numpy()
    shifts |= {CEILING: data.expression(label, "goal").double().mean(0).numpy() - control}
    emitter = _Emitter.of(data, len(real.target), module.seed)
    table = judge_responses(real, shifts, training, None if emitter is None else emitter.log_cells)
    genes = top_gene_table(real, shifts["policy"])
    if emitter is None:
        return JudgedResponse(table, genes, None, None)
    measured = _labelled(data, {name: _counts(data, name, "test") for name in (CONTROL_LABEL, label)})
    emitted = {
        CONTROL_LABEL: _counts(data, CONTROL_LABEL, "test"),
        label: emitter(control + shifts["policy"]),
    }
    return JudgedResponse(table, genes, measured, _labelled(data, emitted))


def _held_out(data: PerturbationDataModule, label: str) -> HeldOutResponse:
    control = data.expression(CONTROL_LABEL, "test").double().numpy()
    assert data.dataset is not None
    others = [name for name in data.dataset.perturbations if name != label and len(data.rows(name, "test"))]
    panel = {
        name: data.expression(name, "test").double().numpy().mean(axis=0) - control.mean(axis=0)
        for name in others
    }
    target = data.expression(label, "test").double().numpy()
    return HeldOutResponse(label, target, control, tuple(data.genes), panel)


@torch.no_grad()
def _shifts(
    module: TwoStageModule, simulation: Simulation, cells: EncodedCells, label: str
) -> dict[str, GeneVector]:
    """Of the policy's dosed cells, and of the twin under the target's own perturbations where it has them."""
    twin = module.twin
    found = {"policy": _shift(module, simulation.start, simulation.final)}
    names = twin.perturbations.names
    if set(components(label)) <= set(names):
        dose = torch.zeros(1, len(names), device=twin.start_cells.device)
        dose[0, [names.index(part) for part in components(label)]] = 1.0
        start = cells.latent[cells.rows_of(CONTROL_LABEL)].to(dose.device)
        generator = torch.Generator(device=dose.device).manual_seed(module.seed)
        state = twin.transition(start, dose.expand(len(start), -1), twin.draw_noise(len(start), generator))
        found["twin"] = _shift(module, start, relax(twin, state, generator))
    return found


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

    def __init__(self, counts: _Counts, n_cells: int, seed: int) -> None:
        self._counts, self._sizes = counts
        self._n_cells, self._seed = n_cells, seed

    @classmethod
    def of(cls, data: PerturbationDataModule, n_cells: int, seed: int) -> "_Emitter | None":
        assert data.dataset is not None
        if data.dataset.value_kind != "counts":
            return None
        counts, sizes = _counts(data, CONTROL_LABEL, "train")
        chosen = some_of(torch.arange(len(counts))[:, None].float(), MAX_EMITTING, seed)[:, 0].long().numpy()
        return cls((counts[chosen], sizes[chosen]), n_cells, seed)

    def __call__(self, log_mean: GeneVector) -> _Counts:
        return emit_counts(log_mean, self._counts, self._sizes, self._n_cells, self._seed)

    def log_cells(self, log_mean: GeneVector) -> Float[np.ndarray, "cells genes"]:
        counts, sizes = self(log_mean)
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
