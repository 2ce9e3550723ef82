"""One offline HTML file with tables and figures, whatever was asked; every number lies beside it."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from perturbrl.errors import ConfigurationError
from perturbrl.pl.style import DPI, Plot
from perturbrl.reporting.report_tables import Table

CSS_PIXELS_PER_INCH: Final = 96

Layout = tuple[tuple[str, tuple[str, ...]], ...]
"""Headings in the order of the page, each with the tables and figures that belong below it."""


@dataclass(frozen=True)
class Heading:
    """What stands above and below tables and figures.

    Attributes:
        title: heading.
        answer: the result in one sentence.
        warnings: what should make a reader careful.
        question: what was asked, as name and value.
        data: which cells were used for what, as name and value.
        left_out: what a reader may miss, and why it is not there.
        certified: how good the result is beside the best known, a sentence each.
    """

    title: str
    answer: str
    warnings: tuple[str, ...]
    question: Mapping[str, str]
    data: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    certified: tuple[str, ...] = ()


def new_folder(folder: Path) -> Path:
    """Make a folder for a report.

    Raises:
        ConfigurationError: it is there already; a report is never overwritten.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise ConfigurationError(
            f"'{folder}' is there already and is not overwritten; name another folder"
        ) from error
    return folder


def write_page(
    heading: Heading, layout: Layout, tables: Sequence[Table], plots: Sequence[Plot], folder: Path
) -> Path:
    """Write figures as PNG, SVG and CSV, and ``report.html``, into a folder that is there."""
    figures = {plot.name: _figure(plot, plot.save(folder)) for plot in plots}
    by_key = {table.key: table for table in tables}
    sections = [
        {
            "title": title,
            "anchor": title.lower().replace(" ", "-").replace(",", "").replace("?", ""),
            "tables": [by_key[key] for key in keys if key in by_key],
            "figures": [figures[key] for key in keys if key in figures],
        }
        for title, keys in layout
    ]
    environment = Environment(
        loader=PackageLoader("perturbrl.reporting", ""), autoescape=True, undefined=StrictUndefined
    )
    path = folder / "report.html"
    html = environment.get_template("report.html.j2").render(
        report=heading,
        sections=[section for section in sections if section["tables"] or section["figures"]],
        version=version("perturbrl"),
    )
    path.write_text(html, encoding="utf-8")
    return path


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


def plain(value: object) -> object:
    """A value without nan and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
