"""The report a biologist opens: one offline HTML file, with every number beside it as CSV and JSON."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.design import DesignEvaluation
from perturbrl.evaluation.hits import Hit
from perturbrl.pl.style import DPI, Plot
from perturbrl.reporting.report_tables import (
    INFORMED,
    Table,
    design_table,
    hit_table,
    hits_frame,
    response_text_table,
)

CSS_PIXELS_PER_INCH: Final = 96
# Headings in the order of the page, each with the tables and figures that belong below it.
SECTIONS: Final = (
    ("Designs compared", ("designs",)),
    ("Which perturbations, how much and when", ("hits", "schedule")),
    ("Where the cells go", ("latent_map", "trajectories", "landscape")),
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
        question: what was asked, as name and value.
        evaluation: designs, hits and detectability; ``None`` where nothing could be judged.
        hits: the design's perturbations, strongest first.
        per_perturbation: one row for each perturbation that could be dosed.
        data: which cells were used for what, as name and value.
        response: metrics of predicted responses, see ``predicted_response``; ``None`` where there are none.
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
    data: Mapping[str, str] = field(default_factory=dict)
    response: pd.DataFrame | None = field(default=None, repr=False)
    left_out: tuple[str, ...] = ()
    plots: Sequence[Plot] = field(default=(), repr=False)
    folder: Path | None = None

    def write(self, folder: Path) -> Path:
        """Write ``report.html``, ``metrics.json``, the tables as CSV, and the figures as PNG, SVG and CSV.

        Raises:
            ConfigurationError: the folder is there already; a report is never overwritten.
        """
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise ConfigurationError(
                f"'{folder}' is there already and is not overwritten; name another folder"
            ) from error
        pictures = [(plot, plot.save(folder)) for plot in self.plots]
        hits_frame(self.hits).to_csv(folder / "hits.csv", index=False)
        self.per_perturbation.to_csv(folder / "per_perturbation.csv", index=False)
        if self.response is not None:
            self.response.to_csv(folder / "response.csv", index=False)
        (folder / "metrics.json").write_text(json.dumps(_plain(self.metrics()), indent=2) + "\n")
        path = folder / "report.html"
        path.write_text(self._html(pictures), encoding="utf-8")
        object.__setattr__(self, "folder", folder)
        return path

    def metrics(self) -> dict[str, object]:
        """Everything of ``metrics.json``."""
        judged = {} if self.evaluation is None else self.evaluation.as_dict()
        response = {} if self.response is None else {"response": self.response.to_dict("records")}
        return {
            "answer": self.answer,
            "warnings": list(self.warnings),
            "question": dict(self.question),
            "data": dict(self.data),
            "left_out": list(self.left_out),
            **judged,
            **response,
        }

    def tables(self) -> tuple[Table, ...]:
        """The tables of the page."""
        tables = () if self.evaluation is None else (design_table(self.evaluation),)
        if self.response is None:
            return (*tables, hit_table(self.hits))
        label = "the target" if self.evaluation is None else self.evaluation.target
        return (*tables, hit_table(self.hits), response_text_table(self.response, label, INFORMED))

    def _html(self, pictures: Sequence[tuple[Plot, Path]]) -> str:
        environment = Environment(
            loader=PackageLoader("perturbrl.reporting", ""), autoescape=True, undefined=StrictUndefined
        )
        tables = {table.key: table for table in self.tables()}
        figures = {plot.name: _figure(plot, path) for plot, path in pictures}
        sections = [
            {
                "title": title,
                "anchor": title.lower().replace(" ", "-").replace(",", ""),
                "tables": [tables[key] for key in keys if key in tables],
                "figures": [figures[key] for key in keys if key in figures],
            }
            for title, keys in SECTIONS
        ]
        return environment.get_template("report.html.j2").render(
            report=replace(self, folder=None),
            sections=[section for section in sections if section["tables"] or section["figures"]],
            version=version("perturbrl"),
        )


def _figure(plot: Plot, path: Path) -> dict[str, str]:
    return {
        "name": plot.name,
        "title": plot.title,
        "caption": plot.caption,
        # As wide as it was drawn, so that letters have one size on the whole page.
        "width": str(round(_png_width(path) * CSS_PIXELS_PER_INCH / DPI)),
        "png": base64.b64encode(path.read_bytes()).decode(),
    }


def _png_width(path: Path) -> int:
    """Pixels, from the fixed place in the file's header."""
    return int.from_bytes(path.read_bytes()[16:20], "big")


def _plain(value: object) -> object:
    """JSON knows no nan or infinity."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
