"""The page about responses: what each perturbation does, how sure that is, and what it rests on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import pandas as pd

from perturbrl.errors import listed
from perturbrl.evaluation.judged_model import JudgedModel
from perturbrl.pl.judged_responses import plot_calibration, plot_predicted_against_measured
from perturbrl.pl.responses import (
    plot_effects,
    plot_panel,
    plot_response_genes,
)
from perturbrl.pl.style import Plot
from perturbrl.reporting.judged_tables import judged_frame, judged_sentence, judged_table
from perturbrl.reporting.page import Heading, new_folder, plain, write_page
from perturbrl.reporting.report_tables import Table
from perturbrl.reporting.report_text import number, percent
from perturbrl.reporting.response_tables import (
    answer_frame,
    answer_tables,
    evidence_table,
    similarity_table,
    size_in_words,
    some_of_each_kind,
    summed_up,
    surest_first,
)
from perturbrl.responses.answers import Answers
from perturbrl.responses.discoveries import LEVEL

LAYOUT: Final = (
    ("How far to believe it", ("judged", "calibration", "predicted_against_measured")),
    (
        "What each perturbation does",
        ("evidence", "answers", "answers_measured", "answers_single", "answers_joined", "effects"),
    ),
    ("Which genes", ("response_genes", "panel")),
    ("What the predictions rest on", ("similarities",)),
    ("How the policy learned", ("learning",)),
)
JUDGEMENT: Final = "judgement"
_NAMED: Final = 5
_GENES: Final = 3
_IN_TITLE: Final = 3
_UNJUDGED: Final = (
    "Nothing here is judged: perturbrl test has not been run, which compares predictions with cells held out."
)


@dataclass(frozen=True, eq=False)
class ResponseReport:
    """Answers, and how far to believe them.

    Attributes:
        answers: what was asked for; of a test, the held-out conditions.
        judged: the model beside every baseline on held-out conditions; ``None`` where nothing was held out.
        model: name of the model's row.
        question: what was asked, as name and value.
        data: which cells were used for what, as name and value.
        left_out: what a reader may miss, and why it is not there.
        chosen: how what is asked was chosen out of more, in sentences.
        more: further figures, such as learning curves.
        tested: how a test of the same model found its predictions, in a sentence; empty where there was none.
        folder: where it was written; ``None`` before ``write``.
    """

    answers: Answers
    judged: JudgedModel | None = None
    model: str = "kriging"
    question: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    more: Sequence[Plot] = ()
    tested: str = ""
    folder: Path | None = None

    @property
    def answer(self) -> str:
        """The result in a sentence or two: what was found, and how far to believe it."""
        return " ".join(filter(None, (self._judgement, _found(self.answers, self._asked), self.tested)))

    @property
    def _asked(self) -> str:
        return "queries" if self.judged is None else "held-out conditions"

    @property
    def _judgement(self) -> str:
        return "" if self.judged is None else judged_sentence(self.judged, self.model)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should make a reader careful."""
        extrapolated, unknown = self.answers.extrapolated, self.answers.unknown
        outside = [str(query) for query in extrapolated.index[extrapolated]]
        said = [
            f"Nothing is known of {listed(unknown, _NAMED)}: cells under it were not measured, and prior knowledge "
            "likens it to nothing that was. No more is expected than what all have in common, and the interval is wide."
            if unknown
            else "",
            f"Extrapolated to doses outside of those measured: {listed(outside, _NAMED)}." if outside else "",
            *(f"{note}." for note in self.answers.notes),
            *self.chosen,
            "" if self.judged is not None or self.tested else _UNJUDGED,
        ]
        return tuple(one for one in said if one)

    def write(self, folder: Path) -> Path:
        """Write ``report.html``, ``metrics.json``, tables as CSV, figures as PNG, SVG and CSV, and predicted cells.

        Raises:
            ConfigurationError: the folder is there already; a report is never overwritten.
        """
        new_folder(folder)
        self._frame.to_csv(folder / "responses.csv", index=False)
        self.answers.similar.to_csv(folder / "similar.csv", index=False)
        self.answers.delta.to_csv(folder / "delta.csv")
        self.answers.sd.to_csv(folder / "sd.csv")
        if self.answers.cells is not None:
            self.answers.cells.write_h5ad(folder / "responses.h5ad")
        if self.judged is not None:
            self.judged.table.to_csv(folder / "judged.csv", index=False)
            judged_frame(self.judged).to_csv(folder / "judged_means.csv", index=False)
        (folder / "metrics.json").write_text(json.dumps(plain(self.metrics()), indent=2) + "\n")
        heading = Heading(
            self._title, self.answer, self.warnings, self._question, self.data, (*self._few, *self.left_out)
        )
        path = write_page(heading, LAYOUT, self.tables(), self.plots(), folder)
        object.__setattr__(self, "folder", folder)
        return path

    def metrics(self) -> dict[str, object]:
        """Everything of ``metrics.json``."""
        judged = {}
        if self.judged is not None:
            judged = {
                JUDGEMENT: self._judgement,
                "judged": judged_frame(self.judged).to_dict("records"),
                "calibration": self.judged.calibration.to_dict("records"),
            }
        return {
            "answer": self.answer,
            "warnings": list(self.warnings),
            "question": dict(self._question),
            "data": dict(self.data),
            "similarities": dict(self.answers.weights),
            "names_in_common": self.answers.matches.to_dict("index"),
            "responses": self._frame.to_dict("records"),
            **judged,
        }

    def tables(self) -> tuple[Table, ...]:
        """The tables of the page."""
        judged = () if self.judged is None else (judged_table(self.judged, self.model),)
        answers = self.answers
        summary = (evidence_table(answers),) if summed_up(answers) else ()
        return (*judged, *summary, *answer_tables(answers), similarity_table(answers))

    def plots(self) -> list[Plot]:
        """The figures of the page."""
        answers, judged = self.answers, self.judged
        first = some_of_each_kind(answers)
        plots = [
            plot_effects(answers.effects.assign(evidence=answers.evidence).reset_index()),
            plot_response_genes(answers.delta.loc[first], answers.sd.loc[first]),
            plot_panel(answers.delta, answers.sure, answers.evidence),
            *self.more,
        ]
        if judged is not None:
            plots.append(plot_predicted_against_measured(judged.genes))
            plots += [plot_calibration(judged.calibration)] if len(judged.calibration) else []
        return plots

    @cached_property
    def _frame(self) -> pd.DataFrame:
        return answer_frame(self.answers)

    @property
    def _title(self) -> str:
        queries = [str(query) for query in self.answers.delta.index]
        return (
            f"{'Response to' if self.judged is None else 'Held-out response to'} {listed(queries, _IN_TITLE)}"
        )

    @property
    def _few(self) -> tuple[str, ...]:
        return () if self.judged is None else self.judged.left_out

    @property
    def _question(self) -> Mapping[str, str]:
        counts = self.answers.evidence.value_counts()
        asked = {
            self._asked: str(len(self.answers.evidence)),
            "evidence": ", ".join(f"{n} {name}" for name, n in counts.items()),
            "size of an effect": size_in_words(self.answers),
            "prior knowledge": "; ".join((*self.answers.match_notes, *self.answers.worth)) or "none",
        }
        return {**asked, **self.question}


def _found(answers: Answers, asked: str) -> str:
    first, n = surest_first(answers)[0], len(answers.effects)
    n_claimed = int(answers.claimed.sum())
    effect, low, high = map(number, answers.effect(first))
    size = f"size {effect}, 90 % interval {low} to {high}"
    if n == 1:
        verb = "has an effect" if n_claimed else "may have no effect"
        return f"{first} {verb} ({size}{_genes(answers, first)})."
    rate = f"at a false discovery rate of {percent(LEVEL)} over all of them"
    if not n_claimed:
        return f"None of {n:,} {asked} has an effect, {rate}; the likeliest to is {first} ({size})."
    found = f"{n_claimed:,} of {n:,} {asked} {'have' if n_claimed > 1 else 'has'} an effect, {rate}"
    return f"{found}; the surest is that of {first} ({size}{_genes(answers, first)})."


def _genes(answers: Answers, query: str) -> str:
    found = (("up", answers.genes(query, 1)), ("down", answers.genes(query, -1)))
    return "".join(f"; {name} {listed(genes[:_GENES])}" for name, genes in found if genes)
