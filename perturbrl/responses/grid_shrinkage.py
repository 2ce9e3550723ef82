"""Many alike unknowns on a grid, shrunk to each other: empirical Bayes without a formula for what is likely beforehand.

Source: Kiefer and Wolfowitz 1956 (nonparametric maximum likelihood); Stephens 2017 (10.1093/biostatistics/kxw041).
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from jaxtyping import Float

_ROUNDS: Final = 200


@dataclass(frozen=True, eq=False)
class GridShrinkage:
    """What is known of each item after all of them.

    Attributes:
        beforehand: share of items at each point, as all of them tell it.
        afterwards: ``[items, points]`` posterior of each item.
    """

    beforehand: Float[np.ndarray, " points"]
    afterwards: Float[np.ndarray, "items points"]

    @classmethod
    def of(cls, log_likelihood: Float[np.ndarray, "items points"]) -> Self:
        """Of the items' log-likelihoods.

        One item more, known to lie at the first point (no effect), stands for doubt: where nothing is known, nothing
        is claimed.
        """
        likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        n_items, n_points = likelihood.shape
        beforehand = np.full(n_points, 1.0 / n_points)
        doubt = np.eye(n_points)[0]
        for _ in range(_ROUNDS):
            beforehand = (_posterior(likelihood, beforehand).sum(axis=0) + doubt) / (n_items + 1)
        return cls(beforehand, _posterior(likelihood, beforehand))


def _posterior(
    likelihood: Float[np.ndarray, "items points"], beforehand: Float[np.ndarray, " points"]
) -> Float[np.ndarray, "items points"]:
    joint = likelihood * beforehand
    return joint / joint.sum(axis=1, keepdims=True)
