"""What another screen says of the same targets, as far as it foretells this one's shifts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import DataError
from perturbrl.responses.measured_shifts import MeasuredShifts
from perturbrl.responses.training_cells import Condition, TrainingCells

FEWEST_IN_COMMON = 3

Shifts = Float[np.ndarray, "names genes"]


@dataclass(frozen=True, eq=False)
class Transfer:
    """Shifts of another screen around their mean, times a scale.

    Attributes:
        names: perturbations that the other screen knows.
        shifts: ``[names, genes]`` scaled, on the genes of this screen; 0 where the other did not measure one.
        scale: least squares over the perturbations in common; 0 where shifts of perturbations left out of it are not
            foretold better than by the mean of the others.
        in_common: how many there are.
    """

    names: tuple[str, ...]
    shifts: Shifts
    scale: float
    in_common: int

    @classmethod
    def learn(cls, reference: PriorKnowledge, cells: TrainingCells) -> "Transfer":
        """Scale another screen's shifts to those of training cells.

        Raises:
            DataError: the reference is no screen, or measured none of the genes.
        """
        if reference.screen is None:
            raise DataError(f"'{reference.source}' has features and no shifts; give a screen")
        if not set(reference.screen.genes) & set(cells.genes):
            raise DataError(
                f"'{reference.source}' measured none of the {len(cells.genes)} genes (it has "
                f"{', '.join(reference.screen.genes[:3])}, and they are {', '.join(list(cells.genes)[:3])}); give a "
                "screen with the same gene names"
            )
        here = {str(label): shift for label, shift in MeasuredShifts.of(cells).everywhere.items()}
        common = [row for row, name in enumerate(reference.names) if name in here]
        there = reference.screen.of_genes(cells.genes)
        if len(common) < FEWEST_IN_COMMON:
            return cls(reference.names, np.zeros_like(there), 0.0, len(common))
        scale = _scale(there[common], np.stack([here[reference.names[row]] for row in common]))
        return cls(reference.names, scale * (there - there[common].mean(axis=0)), scale, len(common))

    def tells_of(self, name: str) -> bool:
        """Whether anything is expected of a perturbation."""
        return self.scale != 0.0 and name in self.names

    def of(self, conditions: Sequence[Condition]) -> Float[np.ndarray, "asked genes"]:
        """What is expected of conditions: the sum over their parts, 0 of one that the other screen does not know.

        A part with a dose is not transferred, for doses of two screens need not mean the same.
        """
        place = {name: row for row, name in enumerate(self.names)}
        found = np.zeros((len(conditions), self.shifts.shape[1]))
        for row, (label, _) in enumerate(conditions):
            known = [place[part.name] for part in label.parts if part.dose is None and part.name in place]
            found[row] = self.shifts[known].sum(axis=0)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint."""
        return {
            "names": list(self.names),
            "shifts": torch.from_numpy(self.shifts),
            "scale": self.scale,
            "in_common": self.in_common,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Transfer":
        """Restore what ``to_dict`` saved."""
        return cls(tuple(content["names"]), content["shifts"].numpy(), content["scale"], content["in_common"])


def _scale(there: Shifts, here: Shifts) -> float:
    """Slope of the shifts here on those there, both around their means; 0 where leaving each out speaks against it."""
    n = len(here)
    x, y = there - there.mean(axis=0), here - here.mean(axis=0)
    square, product = np.square(x).sum(axis=1), (x * y).sum(axis=1)
    if not square.any():
        return 0.0
    # Sums around the mean of the others, without the one left out.
    shrink = n / (n - 1)
    without = np.maximum(square.sum() - shrink * square, np.finfo(float).tiny)
    slopes = (product.sum() - shrink * product) / without
    gain = 2 * slopes * product - np.square(slopes) * square
    return float(product.sum() / square.sum()) if gain.sum() > 0 else 0.0
