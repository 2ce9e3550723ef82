"""What perturbations do as parts of combinations: enough to choose which of millions of sets are tried on a twin."""

from dataclasses import dataclass
from typing import Final

from jaxtyping import Float, Int
from torch import Tensor

MOST_PARTS: Final = 8  # more parts share no less each


@dataclass(frozen=True, eq=False)
class PartEffects:
    """Expected effects of perturbations at dose 1 in a combination of so many parts, mean over start cells.

    Attributes:
        shifts: ``[perturbations, latent]`` share of each in the combination's shift.
        variances: ``[perturbations]`` what each adds to the variance of a cell's place over an ensemble's members,
            summed over dimensions.
        combinations: ``[combinations, parts]`` columns of those measured together, rising; -1 stands for no part.
        corrections: ``[combinations, latent]`` what these do together beside the sum of their parts.
        adds_up: whether a dose given again counts again; otherwise the highest counts.
        exact: whether every cell moves just so, in proportion to the doses.
    """

    shifts: Float[Tensor, "perturbations latent"]
    variances: Float[Tensor, " perturbations"]
    combinations: Int[Tensor, "combinations parts"]
    corrections: Float[Tensor, "combinations latent"]
    adds_up: bool
    exact: bool
