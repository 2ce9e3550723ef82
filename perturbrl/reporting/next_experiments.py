"""Planned experiments as a person meets them: shown in a notebook, and saved with a page."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any, Final, Self

import pandas as pd

from perturbrl.evaluation.statistics import Interval
from perturbrl.pl.next_experiments import plot_next_experiments, plot_strategies
from perturbrl.pl.style import Plot
from perturbrl.planning.planned_experiments import PlannedExperiments
from perturbrl.reporting.page import Heading, new_folder, plain, write_page
from perturbrl.reporting.report_tables import CellText, Table, TableRow, interval_cell
from perturbrl.reporting.report_text import number

LAYOUT: Final = (
    ("What to measure next", ("experiments", "next_experiments")),
    ("Beside other ways to choose", ("strategies",)),
)
_NOT_SEEN: Final = "too small to be seen"


class NextExperiments(PlannedExperiments):
    """Planned experiments that can be shown and saved; see ``PlannedExperiments`` for what they hold."""

    @classmethod
    def of(cls, planned: PlannedExperiments) -> Self:
        """The same experiments."""
        return cls(**{one.name: getattr(planned, one.name) for one in fields(planned)})

    def save(self, folder: str | Path) -> Path:
        """Write ``report.html`` with its figures, ``metrics.json``, and the tables as CSV.

        The tables are ``next_experiments.csv``, ``compared.csv`` and ``candidates.csv``.

        Returns:
            Path: the page.

        Raises:
            ConfigurationError: the folder is there already; nothing is overwritten.
        """
        folder = new_folder(Path(folder))
        self.compared.to_csv(folder / "compared.csv", index=False)
        self.candidates.to_csv(folder / "candidates.csv", index=False)
        question = {"goal": self.goal, "candidates": f"{len(self.candidates):,}"}
        heading = Heading("Next experiments", self.answer, self._said, question, {})
        page = write_page(heading, LAYOUT, self.tables(), self.plots(), folder)
        # The figure of this name lies beside it with the numbers that it shows; the table has all columns.
        self.table.to_csv(folder / "next_experiments.csv", index=False)
        (folder / "metrics.json").write_text(json.dumps(plain(self.metrics()), indent=2) + "\n")
        return page

    def metrics(self) -> dict[str, object]:
        """Everything of ``metrics.json``."""
        return {
            "goal": self.goal,
            "answer": self.answer,
            "experiments": self.table.to_dict("records"),
            "compared": self.compared.to_dict("records"),
        }

    def tables(self) -> tuple[Table, Table]:
        """The tables of the page."""
        return self._experiments, self._strategies

    def plots(self) -> list[Plot]:
        """The figures of the page."""
        return [
            plot_next_experiments(self.table, self.meaning["expected"]),
            plot_strategies(self.compared, self.meaning["worth"]),
        ]

    def __repr__(self) -> str:
        said = [self.answer, *(_text(table) for table in self.tables()), *self._said]
        return "\n\n".join(said)

    def _repr_html_(self) -> str:
        shown = "".join(map(_html, self.tables()))
        return f"<p><b>{escape(self.answer)}</b></p>{shown}" + "".join(
            f"<p>{escape(line)}</p>" for line in self._said
        )

    @property
    def _said(self) -> tuple[str, ...]:
        return tuple(f"{line}." for line in self.notes)

    @property
    def _experiments(self) -> Table:
        rows = tuple(
            TableRow(
                (
                    str(row["name"]),
                    str(row["evidence"]),
                    interval_cell(Interval(row["expected"], row["low"], row["high"])),
                    number(row["gain"]),
                    _NOT_SEEN if pd.isna(row["needed"]) else f"{row['needed']:,.0f}",
                    number(row["cost"]),
                    str(row["reason"]),
                )
            )
            for row in self.table.to_dict("records")
        )
        columns = ("name", "evidence", "expected", "gain", "needed", "cost", "reason")
        meaning = {name: self.meaning[name] for name in columns if name in self.meaning}
        return Table("experiments", "Experiments, the first choice first", columns, rows, meaning=meaning)

    @property
    def _strategies(self) -> Table:
        rows = tuple(
            TableRow((str(row["strategy"]), _worth(row), number(row["cost"])), marked=place == 0)
            for place, row in enumerate(self.compared.to_dict("records"))
        )
        note = "Ours is marked. Its own beliefs judge all of them, so it says what is expected, not what was found."
        meaning = {"worth": self.meaning["worth"]}
        return Table(
            "strategies", "Beside other ways to choose", ("strategy", "worth", "cost"), rows, note, meaning
        )


def _worth(row: Mapping[Hashable, Any]) -> CellText:
    if pd.isna(row["low"]):
        return CellText(number(row["worth"]))
    return interval_cell(Interval(row["worth"], row["low"], row["high"]))


def _cells(table: Table) -> list[list[str]]:
    return [
        [" ".join(filter(None, (cell.value, cell.interval))) for cell in row.texts()] for row in table.rows
    ]


def _text(table: Table) -> str:
    frame = pd.DataFrame(_cells(table), columns=list(table.columns))
    return f"{table.title}:\n{frame.to_string(index=False, max_colwidth=60)}"


def _html(table: Table) -> str:
    return (
        f"<table><caption>{escape(table.title)}</caption>{_line('th', table.columns)}"
        f"{''.join(_line('td', row) for row in _cells(table))}</table>"
    )


def _line(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
