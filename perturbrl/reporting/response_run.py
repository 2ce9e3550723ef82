"""From a trained module of the forward problem to what its test and its prediction say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich.table import Table as RichTable

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.judged_model import held_out_conditions, judge_model
from perturbrl.pl.style import Plot
from perturbrl.reporting.report_tables import Table
from perturbrl.reporting.response_report import ResponseReport
from perturbrl.responses.answers import Answers, answer
from perturbrl.responses.askable import everything
from perturbrl.responses.counted_cells import counted_cells
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.questions import text_of
from perturbrl.responses.spread import ResponseSpread
from perturbrl.responses.spread_model import SpreadModel
from perturbrl.responses.training_cells import ONE_CONTEXT, Condition, TrainingCells
from perturbrl.schema import CONTROL_LABEL, CellIndex

MOST_WITH_CELLS: Final = 200


@dataclass(frozen=True, eq=False)
class RespondingRun:
    """What is judged or asked.

    Attributes:
        cells: of the file.
        kriging: fitted to the training cells.
        used: the same, or with what a policy adds to it, where that is used.
        decision: which of the two, in a sentence.
        training: how the policy was trained, in words.
        file: where the cells are from, in words.
        aliases: the name that is meant by another one in a query.
        n_cells: predicted cells of each query, where the file holds counts.
        seed: of cells drawn, halves and random baselines.
    """

    cells: MeasuredCells
    kriging: Kriging
    used: Kriging
    decision: str
    training: str
    file: str
    aliases: Mapping[str, str]
    n_cells: int
    seed: int

    def answered(self, queries: Sequence[str]) -> Answers:
        """Answers to queries; with cells where the file holds counts and queries are not too many."""
        dataset = self.cells.dataset
        countable = dataset.value_kind == "counts" and len(queries) <= MOST_WITH_CELLS
        n_cells = self.n_cells if countable else 0
        genes = self.cells.genes
        return answer(
            self.used, dataset, genes, queries, aliases=self.aliases, n_cells=n_cells, seed=self.seed
        )

    @property
    def question(self) -> Mapping[str, str]:
        """What was done, as name and value."""
        return {"policy": self.decision, "training": self.training}

    @property
    def about_cells(self) -> Mapping[str, str]:
        """Which cells were used for what, as name and value."""
        dataset = self.cells.dataset
        counts = f"{dataset.n_cells} cells × {len(dataset.genes)} genes; {len(self.cells.genes)} genes used"
        return {"file": self.file, "cells and genes": counts}


def judged_run(run: RespondingRun, figures: Sequence[Plot]) -> ResponseReport:
    """The report on held-out conditions: predictions beside every baseline and measured cells.

    Raises:
        ConfigurationError: no perturbed cell is held out.
        DataError: nothing held out can judge.
    """
    split = run.cells.require_split()
    held_out = _cells_of(run.cells, split.test)
    if held_out is None:
        raise ConfigurationError(
            "no perturbed cell is held out, so nothing can judge; give a data.split that holds some out"
        )
    training = _cells_of(run.cells, split.train)
    assert training is not None
    conditions = held_out_conditions(held_out)
    plain = {} if run.used is run.kriging else {run.kriging.name: run.kriging.predict(conditions).mean}
    judged = judge_model(
        run.used,
        training,
        held_out,
        priors=run.kriging.priors,
        others=plain,
        emitters=_emitters(run.cells, run.kriging.contexts, run.seed),
        spreads=_spreads(run.cells, run.kriging, training, conditions),
        seed=run.seed,
    )
    parts = {
        "learned from": f"{len(split.train)} training cells",
        "judged by": f"{len(split.test)} held-out cells ({split.name})",
    }
    return ResponseReport(
        run.answered([text_of(condition) for condition in judged.conditions]),
        judged,
        model=run.used.name,
        question=run.question,
        data={**run.about_cells, **parts},
        more=figures,
    )


def asked_run(run: RespondingRun, queries: Sequence[str] | None, figures: Sequence[Plot]) -> ResponseReport:
    """The report on queries; without any, on everything that can be asked.

    Raises:
        DataError: a query cannot be answered.
    """
    asked, left_out = everything(run.kriging, run.cells.dataset) if queries is None else (queries, ())
    without = (f"Predicted cells: {len(asked)} queries are more than {MOST_WITH_CELLS}.",)
    return ResponseReport(
        run.answered(asked),
        question=run.question,
        data=run.about_cells,
        left_out=(*left_out, *(without if len(asked) > MOST_WITH_CELLS else ())),
        more=figures,
    )


def in_terminal(table: Table) -> RichTable:
    """A table of the page for a terminal, without intervals, which would not fit."""
    shown = RichTable(title=table.title, title_justify="left")
    for column in table.columns:
        shown.add_column(column)
    for row in table.rows:
        shown.add_row(*(cell.value for cell in row.texts()))
    return shown


def _cells_of(cells: MeasuredCells, rows: CellIndex) -> TrainingCells | None:
    """Cells of a part of the split; ``None`` where none of them is perturbed."""
    labels = cells.dataset.labels[rows]
    if all(label.is_control for label in labels):
        return None
    types = cells.dataset.cell_types[rows].tolist() if cells.dataset.fields.cell_type_key else None
    expression = cells.preprocessor.transform(cells.dataset, rows)
    return TrainingCells(expression, labels.tolist(), cells.genes, types)


def _emitters(cells: MeasuredCells, contexts: Sequence[str], seed: int) -> dict[str, CellEmitter]:
    """What makes cells of each context from its training controls; none where the file has no counts."""
    if cells.dataset.value_kind != "counts":
        return {}
    train = cells.rows(CONTROL_LABEL, "train")
    rows = {context: _controls(cells.dataset, train, context) for context in contexts}
    return {
        context: CellEmitter(counted_cells(cells.dataset, own, cells.genes), seed)
        for context, own in rows.items()
    }


def _spreads(
    cells: MeasuredCells, kriging: Kriging, training: TrainingCells, asked: Sequence[Condition]
) -> dict[Condition, ResponseSpread]:
    """What training cells say of the spread under each condition; nothing where the file has no counts."""
    if cells.dataset.value_kind != "counts":
        return {}
    counted = counted_cells(cells.dataset, cells.require_split().train, cells.genes)
    model = SpreadModel(kriging.priors).fit(counted, training.labels, training.cell_types)
    return dict(zip(asked, model.predict(asked), strict=True))


def _controls(dataset: PerturbationDataset, rows: np.ndarray, context: str) -> CellIndex:
    return rows if context == ONE_CONTEXT else rows[dataset.cell_types[rows] == context]
