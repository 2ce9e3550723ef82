"""What is thought of many conditions together: expected shifts, and how their errors vary with one another."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Between = Float[np.ndarray, "components asked asked"]


@dataclass(frozen=True, eq=False)
class JointShifts:
    """Gaussian beliefs about the shifts of conditions along components, which are independent of one another.

    Attributes:
        directions: ``[components, genes]`` of length 1, those along which effects vary most.
        mean: ``[asked, components]`` expected shift of mean log expression along them.
        covariance: ``[components, asked, asked]`` of the shifts, in the same units squared.
        cell_variance: ``[components]`` of a single cell along them.
    """

    directions: Float[np.ndarray, "components genes"]
    mean: Float[np.ndarray, "asked components"]
    covariance: Between
    cell_variance: Float[np.ndarray, " components"]

    def combined(self, weights: Float[np.ndarray, "sums asked"]) -> "JointShifts":
        """Beliefs about weighted sums of the conditions' shifts."""
        turned = weights @ self.covariance @ weights.T
        return JointShifts(self.directions, weights @ self.mean, turned, self.cell_variance)
