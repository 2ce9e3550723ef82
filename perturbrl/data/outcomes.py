"""Numbers measured for perturbations and pairs of them, such as growth, from tables."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from perturbrl.data.labels import Label
from perturbrl.data.text_tables import has_no_number, table_of
from perturbrl.errors import ConfigurationError, DataError, listed

SHAPE: Final = "give a name and a number on each line, or two names and a number"
_NAMED: Final = 5


@dataclass(frozen=True)
class Outcomes:
    """What was measured.

    Attributes:
        singles: of each perturbation alone.
        pairs: of each pair, under its label.
        left_out: lines whose number is missing, by name.
    """

    singles: Mapping[str, float]
    pairs: Mapping[Label, float]
    left_out: tuple[str, ...] = ()


def read_outcomes(paths: Sequence[Path]) -> Outcomes:
    """Outcomes of tables with tabs, commas or spaces, plain or gzipped.

    A line is a name (``KLF1``, or ``KLF1+MAP2K6`` for a pair) or two names, and then a number; further columns are
    not read. A line without a number is left out, and several lines of one name are averaged.

    Args:
        paths: of the tables; singles and pairs may be in one or in several.

    Raises:
        DataError: a file is no such table, names three perturbations, or no pair or no single was measured.
        ConfigurationError: there is no file.
    """
    if not paths:
        raise ConfigurationError(f"outcome names no file; {SHAPE}")
    found: dict[Label, list[float]] = defaultdict(list)
    lost: list[str] = []
    for path in paths:
        for label, value in _lines_of(path):
            if np.isfinite(value):
                found[label].append(value)
            else:
                lost.append(str(label))
    means = {label: float(np.mean(values)) for label, values in sorted(found.items())}
    singles = {label.names[0]: value for label, value in means.items() if not label.is_combination}
    pairs = {label: value for label, value in means.items() if label.is_combination}
    named = listed([Path(path).name for path in paths])
    for kind, what in (("single perturbation", singles), ("pair", pairs)):
        if not what:
            raise DataError(
                f"{named} has no {kind} with a number, and interactions are what pairs have beside their singles; "
                f"{SHAPE}, in one table or in several"
            )
    return Outcomes(singles, pairs, tuple(dict.fromkeys(lost)))


def _lines_of(path: Path) -> list[tuple[Label, float]]:
    table = table_of(Path(path), has_no_number)
    numbers = [bool(pd.to_numeric(table[column], errors="coerce").notna().any()) for column in table]
    n_names = numbers.index(True) if any(numbers) else 0
    if n_names not in (1, 2):
        raise DataError(f"'{Path(path).name}' has {n_names} columns of names before its numbers; {SHAPE}")
    values = pd.to_numeric(table.iloc[:, n_names], errors="coerce").to_numpy(dtype=float)
    names = table.iloc[:, :n_names].astype(str).agg("+".join, axis=1)
    labels = [Label.parse(name, doses=False) for name in names]
    many = [str(label) for label in labels if len(label.parts) > 2]
    if many:
        raise DataError(
            f"'{Path(path).name}' names three or more perturbations in one line ({listed(many, _NAMED)}), and "
            "interactions are sought among pairs; give singles and pairs"
        )
    return [
        (label, value) for label, value in zip(labels, values.tolist(), strict=True) if not label.is_control
    ]
