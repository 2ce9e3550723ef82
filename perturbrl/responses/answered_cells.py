"""Predicted cells beside the real control cells of their context, as ``cell-eval`` and ``cell-eval2`` take them."""

from collections.abc import Mapping, Sequence
from typing import Final

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import CONTROL
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.responses.counted_cells import counted_cells, rows_of
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.predicted_cells import in_context, labelled_cells
from perturbrl.responses.spread import ResponseSpread
from perturbrl.responses.spread_model import spreads_under
from perturbrl.responses.training_cells import ONE_CONTEXT, Condition
from perturbrl.schema import CONTROL_LABEL, PERTURBATION_OBS

QUERY_OBS: Final = "query"
SPREAD_UNS: Final = "spread"


def require_number(n_cells: int) -> None:
    """Refuse fewer than no cells.

    Raises:
        ConfigurationError: there are.
    """
    if n_cells < 0:
        raise ConfigurationError(
            f"n_cells is {n_cells}; give 0 for none, or how many cells are to be predicted of each query"
        )


def answered_cells(
    model: Kriging,
    dataset: PerturbationDataset,
    genes: Sequence[str],
    asked: Sequence[Condition],
    texts: Sequence[str],
    shifts: Float[np.ndarray, "asked genes"],
    n_cells: int,
    seed: int,
) -> AnnData:
    """Control cells, and control cells of each condition's context moved by its shift and spread as it does.

    Args:
        model: fitted; the spread is learned from the conditions it knows.
        dataset: where the cells are from.
        genes: of the columns of ``shifts``.
        asked: conditions; one that comes twice gets cells once.
        texts: how each was asked for.
        shifts: of mean log expression, one row per condition.
        n_cells: predicted cells of each condition.
        seed: of the cells drawn.

    Returns:
        AnnData: whole counts; ``obs`` has ``perturbation`` (``control``, or the label in the spelling of the data),
        ``cell_type`` where there are contexts, ``query`` and ``size_factor``. ``uns["spread"]`` is a table by query:
        factor ``depth`` of size factors, and the share of cells that ``escaped`` with the ends of its 95 % interval.

    Raises:
        DataError: the data are no counts.
    """
    if dataset.value_kind != "counts":
        raise DataError(
            f"cells are drawn from counts and the data are {dataset.value_kind}; give counts, or n_cells = 0"
        )
    parts, spreads = [], _spreads(model, dataset, genes, asked)
    for context in sorted({context for _, context in asked}):
        # The first of two spellings of one condition names its cells.
        own = {asked[i]: i for i in reversed(range(len(asked))) if asked[i][1] == context}
        control = counted_cells(dataset, rows_of(dataset, (CONTROL, context)), genes)
        emitter, start = CellEmitter(control, seed, context), control.log_mean
        groups = {
            str(label): emitter.emit(start + shifts[i], n_cells, emitter.stream_of(label), spreads[i])
            for (label, _), i in sorted(own.items())
        }
        cells = labelled_cells({CONTROL_LABEL: control, **groups}, genes)
        parts.append(_named(cells, context, {str(label): texts[i] for (label, _), i in own.items()}))
    cells = anndata.concat(parts, merge="same")
    cells.uns[SPREAD_UNS] = _table(spreads, texts)
    return cells


def _table(spreads: Sequence[ResponseSpread], texts: Sequence[str]) -> pd.DataFrame:
    rows = [(one.depth, one.escaped.estimate, one.escaped.low, one.escaped.high) for one in spreads]
    return pd.DataFrame(rows, list(texts), ["depth", "escaped", "escaped_low", "escaped_high"])


def _spreads(
    model: Kriging, dataset: PerturbationDataset, genes: Sequence[str], asked: Sequence[Condition]
) -> list[ResponseSpread]:
    """What the conditions that a model knows say of the spread under others; without their cells, nothing."""
    known, types = set(model.moments.conditions), dataset.fields.cell_type_key
    contexts = [ONE_CONTEXT] * dataset.n_cells if types is None else list(dataset.cell_types)
    pairs = list(zip(dataset.labels, contexts, strict=True))
    if known.isdisjoint(pairs):
        return [ResponseSpread.none(len(genes))] * len(asked)
    rows = np.array([i for i, one in enumerate(pairs) if one[0] == CONTROL or one in known])
    return spreads_under(asked, dataset, rows, genes, model.priors)


def _named(cells: AnnData, context: str, texts: Mapping[str, str]) -> AnnData:
    """Cells with what they answer and, where there are contexts, theirs."""
    labels = cells.obs[PERTURBATION_OBS].astype(str)
    cells.obs[QUERY_OBS] = [texts.get(label, "") for label in labels]
    return in_context(cells, context)
