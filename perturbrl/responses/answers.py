"""What does this perturbation do? From a data set and questions to shifts, intervals, evidence and cells."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import CONTROL
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.prior_knowledge import PriorKnowledge, read_edges, read_features, read_gene_sets
from perturbrl.errors import DataError
from perturbrl.responses.base import EVIDENCE
from perturbrl.responses.emission import CellEmitter, counted_cells, labelled_cells
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.questions import conditions_of, text_of
from perturbrl.responses.training_cells import ONE_CONTEXT, Condition, TrainingCells
from perturbrl.schema import CONTROL_LABEL, CellIndex

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True, eq=False)
class Responses:
    """Expected responses, one row for each condition that was asked for.

    Attributes:
        delta: queries x genes, expected shift of mean log1p(counts per 10,000) from control.
        sd: queries x genes, standard deviation of that shift, without the noise of cells that might judge it.
        evidence: what each rests on: ``measured``, ``combined``, ``transferred``, ``prior`` or ``none``.
        sentences: the same in words.
        weights: share of the variance of effects that each similarity between perturbations explains.
        cells: predicted cells with counts beside real control cells; ``None`` where none were asked for.
    """

    delta: pd.DataFrame
    sd: pd.DataFrame
    evidence: pd.Series
    sentences: pd.Series
    weights: dict[str, float]
    cells: AnnData | None = field(default=None, repr=False)


def answer(
    dataset: PerturbationDataset,
    queries: Sequence[str],
    priors: Sequence[PriorKnowledge] = (),
    *,
    n_cells: int = 0,
    seed: int = 0,
) -> Responses:
    """Answer queries from all cells of a data set.

    Args:
        dataset: control and perturbed cells; cell types, where they are known, are contexts.
        queries: see ``questions``.
        priors: which perturbations are alike.
        n_cells: predicted cells of each query.
        seed: of the cells drawn.

    Raises:
        DataError: a query cannot be answered, or cells are asked for and the data are no counts.
    """
    training = _training(dataset)
    model = Kriging(priors).fit(training)
    known = {name for label in dataset.measured for name in label.names} | set(dataset.genes)
    known |= {name for prior in priors for name in prior.names}
    contexts = model.contexts
    measured = {str(label): label for label in dataset.measured}
    asked = conditions_of(queries, measured, contexts, known)
    found = model.predict(asked)
    index = pd.Index([text_of(condition) for condition in asked], name="query")
    genes = list(training.genes)
    return Responses(
        delta=pd.DataFrame(found.mean, index, genes),
        sd=pd.DataFrame(found.sd, index, genes),
        evidence=pd.Series(found.evidence, index, name="evidence"),
        sentences=pd.Series(
            [f"{text}: {EVIDENCE[e]}" for text, e in zip(index, found.evidence, strict=True)], index
        ),
        weights=model.weights,
        cells=_cells(dataset, genes, model, asked, found.mean, n_cells, seed) if n_cells else None,
    )


def read_priors(gene_sets: Paths = (), edges: Paths = (), features: Paths = ()) -> tuple[PriorKnowledge, ...]:
    """Prior knowledge of files.

    Raises:
        DataError: a file is not what it should be.
    """
    readers = ((gene_sets, read_gene_sets), (edges, read_edges), (features, read_features))
    return tuple(
        read(path)
        for paths, read in readers
        for path in ([paths] if isinstance(paths, str | Path) else paths)
    )


def _training(dataset: PerturbationDataset) -> TrainingCells:
    everything = np.arange(dataset.n_cells)
    preprocessor = Preprocessor(n_top_genes=None).fit(dataset, everything)
    expression = preprocessor.transform(dataset, everything)
    types = list(dataset.cell_types) if dataset.fields.cell_type_key else None
    return TrainingCells(expression, list(dataset.labels), preprocessor.genes, types)


def _cells(
    dataset: PerturbationDataset,
    genes: Sequence[str],
    model: Kriging,
    asked: Sequence[Condition],
    shifts: np.ndarray,
    n_cells: int,
    seed: int,
) -> AnnData:
    """Control cells, and control cells of each condition's context moved by its shift."""
    if dataset.value_kind != "counts":
        raise DataError(
            f"cells are drawn from counts and the data are {dataset.value_kind}; give counts, or n_cells = 0"
        )
    controls = {
        context: counted_cells(dataset, _controls_of(dataset, context), genes)
        for context in {ONE_CONTEXT, *(where for _, where in asked)}
    }
    groups = {CONTROL_LABEL: controls[ONE_CONTEXT]}
    for stream, (condition, shift) in enumerate(zip(asked, shifts, strict=True)):
        control = controls[condition[1]]
        emitted = CellEmitter(control, seed).emit(
            control.log_expression.mean(axis=0) + shift, n_cells, stream
        )
        groups[text_of(condition)] = emitted
    return labelled_cells(groups, genes)


def _controls_of(dataset: PerturbationDataset, context: str) -> CellIndex:
    rows = dataset.cells_of(CONTROL)
    return rows if context == ONE_CONTEXT else rows[dataset.cell_types[rows] == context]
