"""Covariances between some conditions and others, to be summed at any point of a net of weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float

from perturbrl.responses.covariances import INTERACTION, OWN, BetweenTreatments, Covariances
from perturbrl.responses.training_cells import Condition
from perturbrl.responses.weight_averaging import Named, WeightNet

_AT_ONCE: Final = 128

Matrix = Float[np.ndarray, "a b"]


@dataclass(frozen=True, eq=False)
class NamedCovariances:
    """Covariances of every name between conditions a and b.

    Attributes:
        names: of the covariances over treatments.
        treatments: these.
        contexts: covariances over contexts.
    """

    names: tuple[str, ...]
    treatments: BetweenTreatments
    contexts: Named

    @classmethod
    def of(
        cls, covariances: Covariances, a: Sequence[Condition], b: Sequence[Condition]
    ) -> "NamedCovariances":
        """Between conditions."""
        return cls(covariances.treatments, *covariances.over(a, b))

    def whole(self, net: WeightNet, point: int) -> Matrix:
        """All that is alike."""
        return net.covariance(point, self.treatments, self.contexts)

    def smooth(self, net: WeightNet, point: int) -> Matrix:
        """What different perturbations share."""
        return self._some(net, point, [name not in (OWN, INTERACTION) for name in self.names])

    def own(self, net: WeightNet, point: int) -> Matrix:
        """What only the same perturbation shares."""
        return self._some(net, point, [name == OWN for name in self.names])

    def _some(self, net: WeightNet, point: int, kept: Sequence[bool]) -> Matrix:
        return replace(net, treatments=net.treatments * kept).covariance(
            point, self.treatments, self.contexts
        )


class Variances:
    """Variance of each condition.

    Args:
        covariances: between conditions.
        conditions: of which not all are compared with all others at once.
    """

    def __init__(self, covariances: Covariances, conditions: Sequence[Condition]) -> None:
        pieces = [conditions[i : i + _AT_ONCE] for i in range(0, len(conditions), _AT_ONCE)]
        self._found = [NamedCovariances.of(covariances, piece, piece) for piece in pieces]

    def whole(self, net: WeightNet, point: int) -> Float[np.ndarray, " conditions"]:
        """Of all there is."""
        return np.concatenate([np.diag(one.whole(net, point)) for one in self._found])

    def smooth(self, net: WeightNet, point: int) -> Float[np.ndarray, " conditions"]:
        """Of what different perturbations share."""
        return np.concatenate([np.diag(one.smooth(net, point)) for one in self._found])
