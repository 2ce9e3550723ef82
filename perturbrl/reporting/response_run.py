"""From a trained module of the forward problem to what its test and its prediction say."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.table import Table as RichTable

from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.pl.style import Plot
from perturbrl.reporting.about_cells import cells_and_genes
from perturbrl.reporting.held_out_responses import JudgedResponses, every_cell, judge_held_out
from perturbrl.reporting.report_tables import Table
from perturbrl.reporting.response_report import JUDGEMENT, ResponseReport
from perturbrl.responses.answers import Answers, answer
from perturbrl.responses.askable import everything
from perturbrl.responses.kriging import Kriging
from perturbrl.twins.corrected_kriging import CorrectedKriging

MOST_WITH_CELLS: Final = 200
_OTHER_CELLS: Final = (
    "Nothing is learned from these cells, which are others than those the model was fitted on; its answers rest on "
    "its training cells."
)


@dataclass(frozen=True, eq=False)
class RespondingRun:
    """What is judged or asked.

    Attributes:
        cells: of the file.
        kriging: fitted to the training cells, or to all (see ``on_everything``).
        used: the same, or with what a policy adds to it, where that is used.
        decision: which of the two, in a sentence.
        training: how the policy was trained, in words.
        file: where the cells are from, in words.
        aliases: the name that is meant by another one in a query.
        n_cells: predicted cells of each query, where the file holds counts.
        seed: of cells drawn, halves and random baselines.
        learned: what the answers were learned from, in a sentence; empty where it is the training cells.
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
    learned: str = ""

    def answered(self, queries: Sequence[str]) -> Answers:
        """Answers to queries; with cells unless ``without_cells`` says why not."""
        return answer(
            self.used,
            self.cells.dataset,
            self.cells.genes,
            queries,
            aliases=self.aliases,
            n_cells=0 if self.without_cells(queries) else self.n_cells,
            seed=self.seed,
        )

    def without_cells(self, queries: Sequence[str]) -> str:
        """Why cells of queries that were asked for are not predicted, in a sentence; empty where nothing is missing."""
        kind = self.cells.dataset.value_kind
        if self.n_cells == 0:
            return ""
        if kind != "counts":
            return f"Predicted cells: they are drawn from counts, and the file holds {kind} values."
        if len(queries) > MOST_WITH_CELLS:
            return (
                f"Predicted cells: {len(queries):,} queries are more than {MOST_WITH_CELLS}; name those of interest "
                "with --data.queries."
            )
        return ""

    @property
    def question(self) -> Mapping[str, str]:
        """What was done, as name and value."""
        learned = {"learned from": self.learned} if self.learned else {}
        return {**learned, "policy": self.decision, "training": self.training}

    @property
    def about_cells(self) -> Mapping[str, str]:
        """Which cells were used for what, as name and value."""
        return {"file": self.file, **cells_and_genes(self.cells)}


def on_everything(run: RespondingRun) -> RespondingRun:
    """The same with kriging fitted again on all cells of the file, those held out to judge included.

    Genes, preprocessing, prior knowledge and a policy's correction stay as they were learned from the training cells.
    Of cells that the model was not trained on nothing is learned.

    Raises:
        DataError: see ``Kriging.fit``.
    """
    if run.cells.split is None:
        return replace(run, learned=_OTHER_CELLS)
    kriging = run.kriging.refitted(every_cell(run.cells))
    used = run.used.over(kriging) if isinstance(run.used, CorrectedKriging) else kriging
    return replace(run, kriging=kriging, used=used, learned=_learned_from(kriging, run.kriging))


def _learned_from(every: Kriging, judged: Kriging) -> str:
    measured = every.moments.conditions
    n_held_out = len(set(measured) - set(judged.moments.conditions))
    what = "perturbations" if len(every.contexts) == 1 else "perturbations by context"
    without = f"the {n_held_out} held out" if n_held_out else "the cells held out"
    return f"Learned from all {len(measured)} measured {what}; test judges the same model without {without}."


def judged_run(run: RespondingRun, figures: Sequence[Plot]) -> JudgedResponses:
    """Held-out conditions: predictions beside every baseline and measured cells.

    Raises:
        ConfigurationError: no perturbed cell is held out.
        DataError: nothing held out can judge.
    """
    return judge_held_out(
        run.used,
        run.cells,
        beside=() if run.used is run.kriging else (run.kriging,),
        question=run.question,
        data={"file": run.file},
        more=figures,
        seed=run.seed,
    )


def judgement_of(folder: Path) -> str:
    """How the last test of a run found its predictions, in a sentence; empty where none was made.

    Args:
        folder: the run's.
    """
    reports = [path for path in folder.glob("report*/metrics.json") if _number_of(path.parent)]
    said = [_judgement_in(path) for path in sorted(reports, key=lambda path: _number_of(path.parent))]
    return next((f"{where}: {sentence}" for sentence, where in reversed(said) if sentence), "")


def _number_of(report: Path) -> int:
    """1 of ``report``, 2 of ``report_2``; 0 where it is none."""
    number = report.name.removeprefix("report").removeprefix("_") or "1"
    return int(number) if number.isdigit() else 0


def _judgement_in(path: Path) -> tuple[str, str]:
    try:
        written = json.loads(path.read_text())
    except json.JSONDecodeError:  # of a test that was stopped while it wrote
        written = {}
    return written.get(JUDGEMENT, ""), f"As perturbrl test found ({path.parent.name})"


def asked_run(
    run: RespondingRun, queries: Sequence[str] | None, figures: Sequence[Plot], tested: str
) -> ResponseReport:
    """The report on queries; without any, on everything that can be asked.

    Args:
        run: what is asked.
        queries: see ``questions``.
        figures: further ones.
        tested: see ``judgement_of``.

    Raises:
        DataError: a query cannot be answered.
    """
    asked, chosen = everything(run.kriging, run.cells.dataset) if queries is None else (queries, ())
    without = run.without_cells(asked)
    return ResponseReport(
        run.answered(asked),
        question=run.question,
        data=run.about_cells,
        left_out=(without,) if without else (),
        chosen=chosen,
        more=figures,
        tested=tested,
    )


def in_terminal(table: Table) -> RichTable:
    """A table of the page for a terminal, without intervals, which would not fit."""
    shown = RichTable(title=table.title, title_justify="left")
    for column in table.columns:
        shown.add_column(column)
    for row in table.rows:
        shown.add_row(*(cell.value for cell in row.texts()))
    return shown
