"""What is in a file, what is wrong with it, and what can be done with it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perturbrl.data.cell_order import OrderOptions, order_in_words
from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.file_problems import FEW_CELLS, problems_of
from perturbrl.data.file_uses import uses_of
from perturbrl.data.labels import CONTROL, Label
from perturbrl.data.presets import ColumnOptions, FieldMap, detect_fields
from perturbrl.data.reading import (
    ValueKind,
    kind_of_values,
    matrix_of,
    read_cells,
    require_kind,
)
from perturbrl.errors import DataError, listed
from perturbrl.schema import COUNTS_LAYER

_SHOWN: Final = 6
_ROWS: Final = 60


@dataclass(frozen=True)
class Inspection:
    """What was found in a file.

    Args:
        file: its name.
        n_cells: number of cells.
        n_genes: number of genes.
        value_kind: counts, log1p or normalised.
        value_source: ``X`` or ``layers["counts"]``.
        fields: the columns recognised, or ``None`` where no perturbation labels were.
        control_cells: number of untreated cells.
        perturbations: number of cells of each perturbation, by label.
        size_factors: where library sizes come from, and their range.
        order: what orders the cells in time, or why nothing does and what to give.
        covariates: cells of each level of each covariate.
        modalities: other measurements of the same cells, as ``obsm`` entry and shape.
        measured_targets: perturbed names that are genes of the file.
        problems: what stands in the way, or should be known, one sentence each.
        uses: what the file is good for, and what it is not.
    """

    file: str
    n_cells: int
    n_genes: int
    value_kind: ValueKind
    value_source: str
    fields: FieldMap | None
    control_cells: int
    perturbations: dict[Label, int]
    size_factors: str
    order: str
    covariates: dict[str, dict[str, int]]
    modalities: tuple[str, ...]
    measured_targets: tuple[str, ...]
    problems: tuple[str, ...]
    uses: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the inspection as plain text, a heading and its value on each line."""
        facts = [f"{heading + ':':<16}{value}" for heading, value in self._facts()]
        cells = [f"  {label:<32}{n:>7} cells" for label, n in self._cells_shown()]
        problems = [f"  - {problem}" for problem in self.problems] or ["  none"]
        uses = [f"  - {use}" for use in self.uses]
        return [*facts, "cells per perturbation:", *cells, "problems:", *problems, "good for:", *uses]

    def __rich__(self) -> RenderableType:
        facts = Table.grid(padding=(0, 2))
        for heading, value in self._facts():
            facts.add_row(Text(heading, style="bold"), Text(value))
        parts: list[RenderableType] = [facts]
        if self.perturbations:
            parts += [Text(""), self._perturbation_table()]
        parts += [Text("problems", style="bold"), *(Text(f"  - {p}") for p in self.problems or ("none",))]
        parts += [Text("good for", style="bold"), *(Text(f"  - {use}") for use in self.uses)]
        return Group(*parts)

    def _perturbation_table(self) -> Table:
        table = Table("perturbation", "cells", title="cells per perturbation", title_justify="left")
        table.columns[1].justify = "right"
        for label, n in self._cells_shown():
            table.add_row(label, f"{n:,}", style="yellow" if n < FEW_CELLS else "")
        return table

    def _cells_shown(self) -> Sequence[tuple[str, int]]:
        """All perturbations by name; of a large screen those with the most and the fewest cells."""
        if len(self.perturbations) <= _ROWS:
            return list(self.perturbations.items())
        ranked = sorted(self.perturbations.items(), key=lambda item: (-item[1], item[0]))
        half = _ROWS // 2
        between = (f"... {len(ranked) - 2 * half} more between, in all", sum(self.perturbations.values()))
        return [*ranked[:half], between, *ranked[-half:]]

    def _facts(self) -> list[tuple[str, str]]:
        facts = [
            ("file", f"{self.file}, {self.n_cells:,} cells x {self.n_genes:,} genes"),
            ("values", f"{_KINDS[self.value_kind]} (from {self.value_source})"),
            ("size factors", self.size_factors),
            ("labels", self._labels()),
        ]
        if self.fields is not None and self.fields.perturbation_key is not None:
            singles = sum(not label.is_combination for label in self.perturbations)
            facts += [
                ("control", f"'{self.fields.control_value}', {self.control_cells:,} cells"),
                ("perturbations", f"{singles} single, {len(self.perturbations) - singles} combinations"),
            ]
        doses = _doses(self.perturbations)
        if doses:
            facts.append(
                ("doses", listed([f"{name} at {', '.join(at)}" for name, at in doses.items()], _SHOWN))
            )
        if self.perturbations:
            facts.append(("target genes", self._targets()))
        facts.append(("order of cells", self.order))
        facts += [(key, _levels(levels)) for key, levels in self.covariates.items()]
        return facts + [("also measured", modality) for modality in self.modalities]

    def _labels(self) -> str:
        if self.fields is None:
            return "none recognised"
        if self.fields.perturbation_key is None:
            return "none recognised: without any, cells count as untreated where a landscape is learned"
        how = "as you named it" if self.fields.preset == "explicit" else f"preset {self.fields.preset}"
        dose = f", doses in obs['{self.fields.dose_key}']" if self.fields.dose_key else ""
        return f"obs['{self.fields.perturbation_key}'], {how}{dose}"

    def _targets(self) -> str:
        n = len({name for label in self.perturbations for name in label.names})
        shown = f": {', '.join(self.measured_targets[:_SHOWN])}" if self.measured_targets else ""
        return f"{len(self.measured_targets)} of {n} perturbed names are genes of the file{shown}"


def _doses(labels: Iterable[Label]) -> dict[str, list[str]]:
    """Measured doses of each perturbation that has several."""
    parts = sorted({part for label in labels for part in label.parts if part.dose is not None})
    return {name: [f"{dose:g}" for _, dose in same] for name, same in groupby(parts, itemgetter(0))}


_KINDS: Final = {
    "counts": "raw counts",
    "log1p": "log-normalised values, taken as they are",
    "normalised": "normalised values without logarithm; log1p is applied",
}


def inspect_dataset(
    path: Path | str,
    columns: ColumnOptions = ColumnOptions(),  # noqa: B008  frozen
    value_kind: ValueKind | None = None,
    backed: bool = False,
) -> Inspection:
    """Read a file and say what is in it; the options are those of ``load_dataset``.

    Labels that no preset recognises are a problem to report, not an error, unless a preset or a column was
    asked for.

    Args:
        path: .h5ad, 10x .h5, 10x .mtx folder or .h5mu.
        columns: which columns of obs say what.
        value_kind: what the values are; null tells by them.
        backed: leave the matrix of a .h5ad on disk.

    Raises:
        DataError: the file cannot be read, or its values or labels cannot be used.
    """
    adata = read_cells(path, backed)
    try:
        fields = detect_fields(adata, columns)
    except DataError as error:
        if columns.names_labels:
            raise
        return _without_labels(Path(path), adata, columns, value_kind, str(error))
    return _with_labels(Path(path), adata, PerturbationDataset.from_adata(adata, fields, value_kind))


_UNLABELLED: Final = (
    "nothing until the labels are known; where all cells are untreated, give their column as "
    "columns.perturbation_key and their label as columns.control_value, and an encoder can be fitted"
)


def _without_labels(
    path: Path, adata: AnnData, columns: ColumnOptions, value_kind: ValueKind | None, problem: str
) -> Inspection:
    """Of an atlas, which tells of no perturbation, what can be done with untreated cells; of a screen, nothing."""
    try:
        fields = detect_fields(adata, columns, labels_needed=False)
    except DataError:
        matrix = matrix_of(adata)
        kind = kind_of_values(matrix) if value_kind is None else require_kind(matrix, value_kind)
        return _unusable(path.name, adata, kind, problem)
    found = _with_labels(path, adata, PerturbationDataset.from_adata(adata, fields, value_kind))
    return replace(found, problems=(problem, *found.problems))


def _unusable(file: str, adata: AnnData, kind: ValueKind, problem: str) -> Inspection:
    return Inspection(
        file=file,
        n_cells=adata.n_obs,
        n_genes=adata.n_vars,
        value_kind=kind,
        value_source=_value_source(adata),
        fields=None,
        control_cells=0,
        perturbations={},
        size_factors="known once the labels are",
        order=order_in_words(adata.obs, OrderOptions()),
        covariates={},
        modalities=_modalities(adata),
        measured_targets=(),
        problems=(problem,),
        uses=(_UNLABELLED,),
    )


def _with_labels(path: Path, adata: AnnData, dataset: PerturbationDataset) -> Inspection:
    counts: Counter[Label] = Counter(dataset.labels)
    targets = {name for label in dataset.perturbations for name in label.names}
    return Inspection(
        file=path.name,
        n_cells=dataset.n_cells,
        n_genes=len(dataset.genes),
        value_kind=dataset.value_kind,
        value_source=_value_source(adata),
        fields=dataset.fields,
        control_cells=counts[CONTROL],
        perturbations={label: counts[label] for label in dataset.perturbations},
        size_factors=_size_factors(dataset),
        order=order_in_words(adata.obs, OrderOptions()),
        covariates={key: _count(adata.obs[key]) for key in dataset.fields.covariate_keys},
        modalities=_modalities(adata),
        measured_targets=tuple(sorted(targets & set(dataset.genes))),
        problems=tuple(problems_of(dataset, counts, targets, adata.obs)),
        uses=tuple(uses_of(dataset, str(path))),
    )


def _value_source(adata: AnnData) -> str:
    return f"layers['{COUNTS_LAYER}']" if COUNTS_LAYER in adata.layers else "X"


def _modalities(adata: AnnData) -> tuple[str, ...]:
    return tuple(
        f"obsm['{key}'], {np.shape(values)[1]:,} columns"
        for key, values in adata.obsm.items()
        if not key.startswith("X_")  # by convention an embedding of X
    )


def _size_factors(dataset: PerturbationDataset) -> str:
    sizes = dataset.size_factors
    key = dataset.fields.size_factor_key
    source = f"obs['{key}'] (library size before genes were cut)" if key else "sum over the genes of the file"
    low, middle, high = np.quantile(sizes, [0, 0.5, 1])
    return f"{source}: {low:,.0f} to {high:,.0f}, median {middle:,.0f}"


def _count(column: pd.Series) -> dict[str, int]:
    return {str(level): int(n) for level, n in column.value_counts().items()}


def _levels(levels: dict[str, int]) -> str:
    return listed([f"{level} ({n:,})" for level, n in levels.items()], _SHOWN)
