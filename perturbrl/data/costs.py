"""What experiments cost, from a table of names and numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from perturbrl.data.labels import Label
from perturbrl.data.text_tables import has_no_number, table_of
from perturbrl.errors import DataError, listed

_NAMED: Final = 5


@dataclass(frozen=True)
class Costs:
    """Cost of each perturbation, or of a combination of its own.

    Attributes:
        of: cost by label.
        source: what the table is called in messages.
    """

    of: Mapping[str, float]
    source: str = "costs"

    @classmethod
    def read(cls, path: Path) -> "Costs":
        """A table of names and numbers, with or without a line that names its columns.

        Raises:
            DataError: it is no such table, or a cost is missing, no number or not positive.
        """
        table = table_of(path, has_no_number)
        if table.shape[1] < 2:
            raise DataError(f"'{path.name}' has one column; give a name and its cost on each line")
        numbers = pd.to_numeric(table.iloc[:, 1], errors="coerce").to_numpy(dtype=float)
        return cls.checked(dict(zip(table.iloc[:, 0].astype(str), numbers.tolist(), strict=True)), path.name)

    @classmethod
    def checked(cls, given: Mapping[str, float], source: str = "costs") -> "Costs":
        """Costs as they are.

        Raises:
            DataError: one is missing or not positive.
        """
        bad = [name for name, cost in given.items() if not (np.isfinite(cost) and cost > 0)]
        if bad:
            found = listed([f"{name} {given[name]:g}" for name in bad], _NAMED)
            raise DataError(
                f"{len(bad)} of {len(given)} costs of '{source}' are missing or not above 0 ({found}), and gain is "
                "weighed by cost; give every cost as a positive number"
            )
        return cls({str(Label.parse(name)): float(cost) for name, cost in given.items()}, source)

    def each(self, labels: Sequence[Label]) -> Float[np.ndarray, " labels"]:
        """Of labels: their own, else the sum over their perturbations.

        Raises:
            DataError: one has none.
        """
        absent = sorted(
            {
                name
                for label in labels
                if str(label) not in self.of
                for name in label.names
                if name not in self.of
            }
        )
        if absent:
            raise DataError(
                f"'{self.source}' has no cost of {len(absent)} perturbations of the candidates "
                f"({listed(absent, _NAMED)}); add them, or leave those candidates out"
            )
        return np.array(
            [
                self.of[str(label)] if str(label) in self.of else sum(self.of[name] for name in label.names)
                for label in labels
            ]
        )
