"""Mean shifts of measured populations by context, as the baselines see them: without noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perturbrl.data.labels import CONTROL, Label
from perturbrl.errors import DataError
from perturbrl.responses.training_cells import Condition, TrainingCells, nothing_to_compare
from perturbrl.schema import GeneVector

Shifts = dict[Label, GeneVector]


@dataclass(frozen=True, eq=False)
class MeasuredShifts:
    """Shift of each measured perturbation from the control cells of its context.

    Attributes:
        genes: name of each entry of a shift.
        by_context: shifts of the perturbations that were measured in a context, for each that has control cells.
        controls: mean control expression of each context.
        control_counts: control cells of each context.
    """

    genes: tuple[str, ...]
    by_context: dict[str, Shifts]
    controls: dict[str, GeneVector]
    control_counts: dict[str, int]

    @classmethod
    def of(cls, cells: TrainingCells) -> "MeasuredShifts":
        """Those of training cells.

        Raises:
            DataError: no context has both control and perturbed cells.
        """
        conditions, codes = cells.conditions
        counts, means = np.bincount(codes), cells.means_by(codes, len(conditions))
        controls = {context: row for row, (label, context) in enumerate(conditions) if label == CONTROL}
        shifts: dict[str, Shifts] = {context: {} for context in controls}
        for row, (label, context) in enumerate(conditions):
            if label != CONTROL and context in controls:
                shifts[context][label] = means[row] - means[controls[context]]
        if not any(shifts.values()):
            raise DataError(nothing_to_compare(conditions))
        return cls(
            tuple(cells.genes),
            shifts,
            {context: means[row] for context, row in controls.items()},
            {context: int(counts[row]) for context, row in controls.items()},
        )

    @property
    def conditions(self) -> list[Condition]:
        """What was measured."""
        return [(label, context) for context, shifts in self.by_context.items() for label in shifts]

    @property
    def everywhere(self) -> Shifts:
        """Shift of each perturbation, mean over the contexts in which it was measured."""
        found: dict[Label, list[GeneVector]] = {}
        for shifts in self.by_context.values():
            for label, shift in shifts.items():
                found.setdefault(label, []).append(shift)
        return {label: np.mean(found[label], axis=0) for label in sorted(found)}

    def seen_from(self, context: str) -> Shifts:
        """Shift of each perturbation in a context; of one not measured there its mean over the others."""
        return self.everywhere | self.by_context[context]

    def nearest_first(self, context: str) -> Sequence[str]:
        """Contexts by the distance of their control means from a context's own, which comes first."""
        here = self.controls[context]
        return sorted(
            self.by_context, key=lambda one: (float(np.linalg.norm(self.controls[one] - here)), one)
        )


def mean_shift(shifts: Shifts) -> GeneVector:
    """Mean over perturbations."""
    return np.mean(list(shifts.values()), axis=0)
