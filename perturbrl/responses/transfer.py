"""What another screen says of the same targets, as far as it foretells this one's shifts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from perturbrl.data.labels import Part
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
        doubt: standard deviation of the scale, in units of it: jackknife over these perturbations.
        in_common: how many there are.
    """

    names: tuple[str, ...]
    shifts: Shifts
    scale: float
    doubt: float
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
            return cls(reference.names, np.zeros_like(there), 0.0, 0.0, len(common))
        scale, doubt = _scale(there[common], np.stack([here[reference.names[row]] for row in common]))
        shifts = scale * (there - there[common].mean(axis=0))
        return cls(reference.names, shifts, scale, doubt, len(common))

    def tells_of(self, part: Part) -> bool:
        """Whether anything is expected of a perturbation; of one with a dose nothing is (see ``of``)."""
        return self.scale != 0.0 and part.dose is None and part.name in self.names

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
            "doubt": self.doubt,
            "in_common": self.in_common,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Transfer":
        """Restore what ``to_dict`` saved."""
        return cls(
            names=tuple(content["names"]),
            shifts=content["shifts"].numpy(),
            **{name: content[name] for name in ("scale", "doubt", "in_common")},
        )


def _scale(there: Shifts, here: Shifts) -> tuple[float, float]:
    """Slope of the shifts here on those there, both around their means, and its deviation in units of it.

    It is 0 where leaving each out speaks against it. Genes of a perturbation go together, so perturbations are what is
    left out, for the deviation, too (Efron 1982, 10.1137/1.9781611970319).
    """
    n = len(here)
    x, y = there - there.mean(axis=0), here - here.mean(axis=0)
    square, product = np.square(x).sum(axis=1), (x * y).sum(axis=1)
    if not square.any():
        return 0.0, 0.0
    # Sums around the mean of the others, without the one left out.
    shrink = n / (n - 1)
    without = np.maximum(square.sum() - shrink * square, np.finfo(float).tiny)
    slopes = (product.sum() - shrink * product) / without
    gain = 2 * slopes * product - np.square(slopes) * square
    if gain.sum() <= 0:
        return 0.0, 0.0
    scale = float(product.sum() / square.sum())
    return scale, float(((n - 1) * slopes.var()) ** 0.5 / abs(scale))
