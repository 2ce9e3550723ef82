"""What a Gaussian process says after the data, averaged over the points of a net of weights."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from perturbrl.responses.covariances import Covariances
from perturbrl.responses.named_covariances import NamedCovariances, Variances
from perturbrl.responses.sampling_noise import SamplingNoise
from perturbrl.responses.training_cells import Condition
from perturbrl.responses.weight_averaging import Spectrum, WeightNet

# Points of the net that matter less for a component are left out of what is said of many conditions together.
_LEAST_SHARE: Final = 1e-4

Asked = Float[np.ndarray, "asked components"]
PerComponent = Float[np.ndarray, " components"]


@dataclass(frozen=True, eq=False)
class AtPoint:
    """What one point of the net says of conditions, in units of the components' noise.

    Attributes:
        columns: number of each component that it speaks of.
        shares: of the point in each of them.
        mean: expected shift along them.
        variance: of that.
        prior: the variance before the data.
    """

    columns: Int[np.ndarray, " components"]
    shares: PerComponent
    mean: Asked
    variance: Asked
    prior: Asked


def averaged(points: Iterable[AtPoint], n_asked: int, n_components: int) -> tuple[Asked, Asked, Asked]:
    """Mean, variance (how far points differ included) and variance before the data."""
    mean, square, variance, prior = np.zeros((4, n_asked, n_components))
    for point in points:
        columns, shares = point.columns, point.shares
        mean[:, columns] += shares * point.mean
        square[:, columns] += shares * np.square(point.mean)
        variance[:, columns] += shares * point.variance
        prior[:, columns] += shares * point.prior
    return mean, variance + (square - np.square(mean)).clip(min=0.0), prior


class Posterior(ABC):
    """Processes of all points of a net after the data.

    Attributes:
        amplitude: ``[components]`` expected variance of effects, in units of noise.
    """

    amplitude: PerComponent

    @abstractmethod
    def at_points(self, asked: Sequence[Condition]) -> Iterator[AtPoint]:
        """What each point says of conditions."""

    @abstractmethod
    def row_weights(
        self, asked: Sequence[Condition], importance: PerComponent
    ) -> Float[np.ndarray, "asked rows"]:
        """Weight with which each row's shift enters the mean of conditions, a mean over components.

        Args:
            asked: conditions.
            importance: of the components, summing to 1.
        """


class ExactPosterior(Posterior):
    """By the eigenvectors of every point's covariance between all rows.

    Args:
        net: the points.
        spectra: their processes.
        covariances: between conditions.
        rows: what was measured.
        noise: of the rows.
    """

    def __init__(
        self,
        net: WeightNet,
        spectra: Sequence[Spectrum],
        covariances: Covariances,
        rows: Sequence[Condition],
        noise: SamplingNoise,
    ) -> None:
        self._net, self._spectra, self._covariances = net, spectra, covariances
        self._rows, self._noise = rows, noise
        self.amplitude = (net.shares * np.array([spectrum.amplitude for spectrum in spectra])).sum(axis=0)

    def at_points(self, asked: Sequence[Condition]) -> Iterator[AtPoint]:
        """What each point says of conditions."""
        across = NamedCovariances.of(self._covariances, asked, self._rows)
        within = Variances(self._covariances, asked)
        columns = np.arange(len(self.amplitude))
        for i, spectrum in enumerate(self._spectra):
            seen = self._seen(i, across)
            prior = within.whole(self._net, i)[:, None] * spectrum.amplitude
            variance = prior - np.square(seen).T @ spectrum.curvature + np.square(seen.T @ spectrum.sway)
            mean = seen.T @ spectrum.coefficients
            yield AtPoint(columns, self._net.shares[i], mean, variance.clip(min=0.0), prior)

    def together(
        self, asked: Sequence[Condition], columns: Int[np.ndarray, " some"]
    ) -> tuple[Float[np.ndarray, "asked some"], Float[np.ndarray, "some asked asked"]]:
        """Mean and covariance between conditions along some components, averaged over points that matter for them.

        In units of the components' noise; the diagonal is the variance of ``averaged``.
        """
        across = NamedCovariances.of(self._covariances, asked, self._rows)
        within = NamedCovariances.of(self._covariances, asked, asked)
        shares = np.where(self._net.shares >= _LEAST_SHARE, self._net.shares, 0.0)[:, columns]
        shares /= shares.sum(axis=0)
        mean = np.zeros((len(asked), len(columns)))
        second = np.zeros((len(columns), len(asked), len(asked)))
        for i in np.flatnonzero(shares.any(axis=1)).tolist():
            spectrum, seen, prior = self._spectra[i], self._seen(i, across), within.whole(self._net, i)
            expected, swayed = seen.T @ spectrum.coefficients, seen.T @ spectrum.sway
            for place, column in enumerate(columns.tolist()):
                told = seen.T @ (spectrum.curvature[:, column, None] * seen)
                both = np.column_stack([expected[:, column], swayed[:, column]])
                of_point = spectrum.amplitude[column] * prior - told + both @ both.T
                second[place] += shares[i, place] * of_point
                mean[:, place] += shares[i, place] * expected[:, column]
        return mean, second - mean.T[:, :, None] * mean.T[:, None, :]

    def row_weights(
        self, asked: Sequence[Condition], importance: PerComponent
    ) -> Float[np.ndarray, "asked rows"]:
        """Weight with which each row's shift enters the mean of conditions, a mean over components."""
        across = NamedCovariances.of(self._covariances, asked, self._rows)
        turned = np.zeros((len(self._rows), len(asked)))
        for i, spectrum in enumerate(self._spectra):
            gain = spectrum.gain @ (self._net.shares[i] * importance)
            turned += spectrum.vectors @ (gain[:, None] * self._seen(i, across))
        return self._noise.back(turned).T

    def _seen(self, point: int, across: NamedCovariances) -> Float[np.ndarray, "rows asked"]:
        return self._spectra[point].vectors.T @ self._noise.whiten(across.whole(self._net, point).T)
