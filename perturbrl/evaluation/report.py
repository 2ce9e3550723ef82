"""The report a biologist opens: one offline HTML file, with every number beside it as CSV and JSON."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.design import DesignEvaluation, DesignRow, Hit
from perturbrl.evaluation.plots import Plot
from perturbrl.evaluation.statistics import Interval

MAX_HITS_SHOWN: Final = 25
MAX_HITS_NAMED: Final = 3
FAR: Final = 0.5
SMALL: Final = 1e-4


@dataclass(frozen=True)
class TableRow:
    """One line of a table; ``marked`` lines stand out."""

    cells: tuple[str, ...]
    marked: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the report, as text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    note: str = ""


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
    plots: Sequence[Plot] = field(default=(), repr=False)
    folder: Path | None = None

    def write(self, folder: Path) -> Path:
        """Write ``report.html``, ``metrics.json``, ``per_perturbation.csv``, ``hits.csv`` and the figures.

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
        (folder / "metrics.json").write_text(json.dumps(_plain(self.metrics()), indent=2) + "\n")
        path = folder / "report.html"
        path.write_text(self._html(pictures), encoding="utf-8")
        object.__setattr__(self, "folder", folder)
        return path

    def metrics(self) -> dict[str, object]:
        """Everything of ``metrics.json``."""
        judged = {} if self.evaluation is None else self.evaluation.as_dict()
        return {
            "answer": self.answer,
            "warnings": list(self.warnings),
            "question": dict(self.question),
            **judged,
        }

    def _html(self, pictures: Sequence[tuple[Plot, Path]]) -> str:
        environment = Environment(
            loader=PackageLoader("perturbrl.evaluation", ""), autoescape=True, undefined=StrictUndefined
        )
        tables = [] if self.evaluation is None else [design_table(self.evaluation)]
        figures = [
            {
                "title": plot.title,
                "caption": plot.caption,
                "png": base64.b64encode(path.read_bytes()).decode(),
            }
            for plot, path in pictures
        ]
        return environment.get_template("report.html.j2").render(
            title=self.title,
            answer=self.answer,
            warnings=self.warnings,
            question=self.question,
            tables=[*tables, hit_table(self.hits)],
            figures=figures,
            version=version("perturbrl"),
        )


def _plain(value: object) -> object:
    """JSON knows no nan or infinity."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float) -> str:
    """A number as a person reads it; a dash where there is none."""
    if math.isnan(value):
        return "–"
    return "≈ 0" if 0 < abs(value) < SMALL else f"{value:.3g}"


def percent(value: float) -> str:
    """A share as a percentage."""
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"


def _interval(value: Interval) -> str:
    return f"{number(value.estimate)} [{number(value.low)}, {number(value.high)}]"


def _percent_interval(value: Interval) -> str:
    return f"{percent(value.estimate)} [{100 * value.low:.0f}, {100 * value.high:.0f}]"


def design_table(evaluation: DesignEvaluation) -> Table:
    """Every design with its intervals, nearest first, the winner and what equals it marked."""
    columns = (
        *("design", "distance to target", "energy distance / replicate", "cells in target", "regret"),
        *("components found", "dose", "number dosed", "R² against start"),
    )
    ordered = sorted(evaluation.rows, key=lambda row: row.observed_distance)
    nearest = (evaluation.winner.name, *evaluation.ties)
    rows = tuple(TableRow(_design_cells(row), row.name in nearest) for row in ordered)
    note = (
        "Judged on held-out cells; 95 % intervals over cells. Nearest first; bold rows cannot be told apart in "
        "distance. A distance of 0 is as near as so many cells can tell. Energy distance 1 is as close as two "
        "halves of the target. Regret: distance to the goal relative to the closed form's, less 1, on training "
        "cells. 'R² against start' only says how little cells moved. The optimum is the closed form on a linear "
        "twin, learned from the same cells."
    )
    return Table("Designs compared", columns, rows, note)


def _design_cells(row: DesignRow) -> tuple[str, ...]:
    return (
        row.name,
        _interval(row.distance),
        number(row.relative_energy_distance),
        _percent_interval(row.success),
        number(row.regret),
        percent(row.recall),
        number(row.dose),
        number(row.n_perturbations),
        number(row.displacement_from_start),
    )


def hit_table(hits: Sequence[Hit]) -> Table:
    """The design's perturbations that any cell receives, strongest first."""
    shown = [hit for hit in hits if hit.share_of_cells > 0][:MAX_HITS_SHOWN]
    rows = tuple(
        TableRow((hit.perturbation, _interval(hit.dose), hit.direction, percent(hit.share_of_cells)))
        for hit in shown
    )
    note = "Mean dose over cells with a 95 % bootstrap interval; 1 is the perturbation as measured."
    if len(hits) > len(shown):
        note += f" The other {len(hits) - len(shown)} that may be dosed are in hits.csv."
    return Table("Ranked perturbations", ("perturbation", "dose", "direction", "share of cells"), rows, note)


def hits_frame(hits: Sequence[Hit]) -> pd.DataFrame:
    """Hits as a table, strongest first."""
    rows = [
        (
            rank,
            hit.perturbation,
            hit.dose.estimate,
            hit.dose.low,
            hit.dose.high,
            hit.direction,
            hit.share_of_cells,
        )
        for rank, hit in enumerate(hits, start=1)
    ]
    return pd.DataFrame(
        rows, columns=["rank", "perturbation", "dose", "low", "high", "direction", "share_of_cells"]
    )


def designs_frame(evaluation: DesignEvaluation) -> pd.DataFrame:
    """Distances of all designs as a table for the figure."""
    rows = [(row.name, row.distance.estimate, row.distance.low, row.distance.high) for row in evaluation.rows]
    return pd.DataFrame(rows, columns=["name", "distance", "low", "high"])


def answer_sentence(evaluation: DesignEvaluation, hits: Sequence[Hit]) -> str:
    """The result in one sentence: what the policy does, and which design ends nearest, even where another does."""
    found = evaluation.detectability
    if found is not None and not found.detectable:
        return (
            f"No effect is detectable, so doing nothing is the right design: the cells of {evaluation.target} do not "
            f"differ from those at the start (permutation test of the energy distance, p = {found.p_value:.2g})."
        )
    policy, nothing = evaluation.row("policy"), evaluation.row("no_op")
    return (
        f"{_what_is_dosed(hits)} {percent(policy.success.estimate)} of cells into {evaluation.target} "
        f"(doing nothing: {percent(nothing.success.estimate)}); {_comparison(evaluation)}."
    )


def _what_is_dosed(hits: Sequence[Hit]) -> str:
    used = [f"{hit.perturbation} {hit.direction}" for hit in hits if hit.share_of_cells >= 0.5]
    if not used:
        return "The policy doses nothing in most cells and brings"
    named = used[:MAX_HITS_NAMED] + [f"{len(used) - MAX_HITS_NAMED} more"] * (len(used) > MAX_HITS_NAMED)
    return f"{_listed(named)} {'bring' if len(used) > 1 else 'brings'}"


def _comparison(evaluation: DesignEvaluation) -> str:
    policy, winner = evaluation.row("policy"), evaluation.winner
    nearest = (winner.name, *evaluation.ties)
    if "no_op" in nearest:
        return "as far as these cells can tell no design ends nearer to the target than doing nothing"
    if "policy" not in nearest:
        numbers = f"{number(winner.observed_distance)} against {number(policy.observed_distance)}"
        return f"{winner.name} ends nearer to the target ({numbers})"
    others = [name for name in nearest if name != "policy"]
    if not others:
        return "no other design ends as near to the target"
    return f"{_listed(others)} cannot be told apart from it in distance to the target"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def caution(evaluation: DesignEvaluation) -> tuple[str, ...]:
    """What should make a reader careful."""
    found, winner = evaluation.detectability, evaluation.winner
    if found is None:
        return (
            "Fewer than 4 cells at the start or of the target: whether they differ at all cannot be tested.",
        )
    if not found.detectable:
        return ()
    left = winner.observed_distance / max(evaluation.row("no_op").observed_distance, 1e-12)
    if left > FAR:
        return (
            f"Even the nearest design ({winner.name}) leaves {percent(left)} of the distance: what may be dosed does "
            f"not lead to {evaluation.target}.",
        )
    return ()
