"""The report a biologist opens: one offline HTML file, with every number beside it as CSV and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final

import pandas as pd

from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.design import DesignEvaluation
from perturbrl.evaluation.hits import Hit
from perturbrl.pl.style import Plot
from perturbrl.reporting.guide_list import GUIDE_COLUMNS
from perturbrl.reporting.likely import likely_table
from perturbrl.reporting.notebook import html_table
from perturbrl.reporting.page import Heading, new_folder, plain, write_page
from perturbrl.reporting.report_tables import (
    INFORMED,
    Table,
    design_tables,
    hit_table,
    hits_frame,
    metrics_frame,
    response_text_table,
)

_IN_NOTEBOOK: Final = ("designs", "hits", "likely")
_SHOWN: Final = 10

# Headings in the order of the page, each with the tables and figures that belong below it.
LAYOUT: Final = (
    ("Designs compared", ("designs", "arrived")),
    ("Which perturbations, how much and when", ("hits", "schedule", "likely")),
    (
        "Where the cells go",
        ("latent_map", "trajectories", "landscape", "fates"),
    ),
    (
        "The landscape beside real cells",
        ("undosed_order", "undosed_components", "undosed_dtw", "undosed_wasserstein"),
    ),
    ("Predicted and measured response", ("response", "delta", "top_genes")),
    ("How the policy learned", ("learning",)),
)


@dataclass(frozen=True)
class Report:
    """What a run found.

    Attributes:
        title: heading.
        answer: the result in one sentence.
        warnings: what should make a reader careful.
        certified: how good the design is beside the best known, a sentence each.
        question: what was asked, as name and value.
        evaluation: designs, hits and detectability; ``None`` where nothing could be judged.
        hits: the design's perturbations, strongest first.
        per_perturbation: one row for each perturbation that could be dosed.
        guides: what to order for the design (see ``guide_list``).
        likely: sets of perturbations by how probable they are, given the target's cells; ``None`` where not told.
        data: which cells were used for what, as name and value.
        response: metrics of predicted responses, see ``predicted_response``; ``None`` where there are none.
        more_tables: tables beside those of designs, hits and responses.
        numbers: what ``metrics.json`` says beside designs, hits and responses.
        left_out: what a reader may miss, and why it is not there.
        plots: the figures.
        folder: where the report was written; ``None`` before ``write``.
    """

    title: str
    answer: str
    warnings: tuple[str, ...]
    question: Mapping[str, str]
    evaluation: DesignEvaluation | None
    hits: tuple[Hit, ...]
    per_perturbation: pd.DataFrame
    guides: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(GUIDE_COLUMNS)))
    likely: pd.DataFrame | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    response: pd.DataFrame | None = field(default=None, repr=False)
    more_tables: tuple[Table, ...] = ()
    numbers: Mapping[str, object] = field(default_factory=dict, repr=False)
    left_out: tuple[str, ...] = ()
    certified: tuple[str, ...] = ()
    plots: Sequence[Plot] = field(default=(), repr=False)
    folder: Path | None = None

    def write(self, folder: Path) -> Path:
        """Write ``report.html``, ``metrics.json``, the tables as CSV, and the figures as PNG, SVG and CSV.

        Raises:
            ConfigurationError: the folder is there already; a report is never overwritten.
        """
        new_folder(folder)
        hits_frame(self.hits).to_csv(folder / "hits.csv", index=False)
        self.per_perturbation.to_csv(folder / "per_perturbation.csv", index=False)
        self.guides.to_csv(folder / "guides.csv", index=False)
        if self.likely is not None:
            self.likely.to_csv(folder / "likely.csv", index=False)
        if self.response is not None:
            self.response.to_csv(folder / "response.csv", index=False)
        (folder / "metrics.json").write_text(json.dumps(plain(self.metrics()), indent=2) + "\n")
        path = write_page(self._heading, LAYOUT, self.tables(), self.plots, folder)
        object.__setattr__(self, "folder", folder)
        return path

    def to_frame(self, of: str = "perturbations") -> pd.DataFrame:
        """A result as a table.

        Args:
            of: ``perturbations`` (all that may be dosed, those of the design first), ``designs`` (every design's
            metrics,
                the policy first) or ``guides`` (see ``guide_list``).

        Raises:
            ConfigurationError: there is no such table.
        """
        tables = self._frames()
        if of not in tables:
            raise ConfigurationError(f"a report has no table of '{of}'; choose one of {', '.join(tables)}")
        return tables[of]

    def _frames(self) -> dict[str, pd.DataFrame]:
        frames = {"perturbations": hits_frame(self.hits), "guides": self.guides, "likely": self.likely}
        designs = None if self.evaluation is None else metrics_frame(self.evaluation)
        return {name: frame for name, frame in (frames | {"designs": designs}).items() if frame is not None}

    def to_uns(self) -> dict[str, object]:
        """Texts and tables as ``adata.uns`` takes them, so that they are written with the cells and read again."""
        return {
            "title": self.title,
            "answer": self.answer,
            "warnings": list(self.warnings),
            "folder": "" if self.folder is None else str(self.folder),
            "question": _texts(self.question),
            "data": _texts(self.data),
            **self._frames(),
        }

    def _repr_html_(self) -> str:
        tables = [table for table in self.tables() if table.key in _IN_NOTEBOOK]
        shown = "".join(html_table(table, _SHOWN) for table in tables)
        said = [
            *self.warnings,
            *([] if self.folder is None else [f"Everything: {self.folder / 'report.html'}"]),
        ]
        lines = "".join(f"<p>{escape(line)}</p>" for line in said)
        return f"<p><b>{escape(self.answer)}</b></p>{shown}{lines}"

    @property
    def _heading(self) -> Heading:
        return Heading(
            self.title, self.answer, self.warnings, self.question, self.data, self.left_out, self.certified
        )

    def metrics(self) -> dict[str, object]:
        """Everything of ``metrics.json``."""
        judged = {} if self.evaluation is None else self.evaluation.as_dict()
        response = {} if self.response is None else {"response": self.response.to_dict("records")}
        return {
            "answer": self.answer,
            "certified": list(self.certified),
            "warnings": list(self.warnings),
            "question": dict(self.question),
            "data": dict(self.data),
            "left_out": list(self.left_out),
            **judged,
            **response,
            **self.numbers,
        }

    def tables(self) -> tuple[Table, ...]:
        """The tables of the page."""
        likely = () if self.likely is None else (likely_table(self.likely),)
        tables = (*design_tables(self.evaluation), hit_table(self.hits), *likely)
        if self.response is None:
            return (*tables, *self.more_tables)
        label = "the target" if self.evaluation is None else self.evaluation.target
        return (*tables, *self.more_tables, response_text_table(self.response, label, INFORMED))


def _texts(told: Mapping[str, str]) -> dict[str, str]:
    """Plain texts by name; a file of cells takes no slash in a name and no text that is more than one."""
    return {name.replace("/", " "): str(text) for name, text in told.items()}
