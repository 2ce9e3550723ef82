"""Answers as a person meets them: shown in a notebook, and saved with a report."""

from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Final, Self

import pandas as pd

from perturbrl.reporting.notebook import html_table
from perturbrl.reporting.response_report import ResponseReport
from perturbrl.reporting.response_tables import (
    answer_frame,
    answer_tables,
    answers_in_text,
    evidence_table,
    summed_up,
)
from perturbrl.responses.answers import Answers

_SHOWN: Final = 20


class Responses(Answers):
    """Answers that can be shown and saved; see ``Answers`` for what they hold."""

    @classmethod
    def of(cls, answers: Answers) -> Self:
        """The same answers."""
        return cls(**{one.name: getattr(answers, one.name) for one in fields(answers)})

    @property
    def report(self) -> ResponseReport:
        """Tables and figures of these answers; nothing is judged."""
        return ResponseReport(self)

    def table(self) -> pd.DataFrame:
        """What ``responses.csv`` holds, one row per query."""
        return answer_frame(self)

    def save(self, folder: str | Path) -> Path:
        """Write all of it into a new folder.

        ``report.html`` with its figures, ``responses.csv`` (see ``table``), ``delta.csv`` and ``sd.csv`` (queries x
        genes), ``similar.csv``, ``metrics.json``, and ``responses.h5ad`` where there are cells.

        Returns:
            Path: the page.

        Raises:
            ConfigurationError: the folder is there already; nothing is overwritten.
        """
        return self.report.write(Path(folder))

    def __repr__(self) -> str:
        return "\n".join([self.report.answer, answers_in_text(self, _SHOWN, ".table()"), *self._said])

    def _repr_html_(self) -> str:
        tables = answer_tables(self)
        many = [evidence_table(self)] if summed_up(self) else []
        shown = "".join(html_table(table, -(-_SHOWN // len(tables))) for table in (*many, *tables))
        said = "".join(f"<p>{escape(line)}</p>" for line in self._said)
        return f"<p><b>{escape(self.report.answer)}</b></p>{shown}{said}"

    @property
    def _said(self) -> tuple[str, ...]:
        return tuple(f"{line}." for line in (*self.match_notes, *self.worth, *self.notes))
