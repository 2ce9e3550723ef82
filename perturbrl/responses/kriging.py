"""Kriging: the shift under a perturbation nobody measured, from those that were, with its uncertainty.

The shift of a population is the sum of its perturbations' effects, an interaction and noise. Effects are a Gaussian
process whose covariance is a sum of named ones (see ``covariances``). How much each of these explains is averaged over
(see ``weight_averaging``). All principal components of the measured shifts are used, in units of their noise, each with
an amplitude of its own. Additive effects, training mean and nearest context are limits of it.

Source: Rasmussen and Williams 2006, chapter 2 (kriging is their name in geostatistics, Matheron 1963).
"""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import numpy as np
from jaxtyping import Float

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.base import EvidenceFor, PredictedShifts, ResponseModel, Shifts, likened_by
from perturbrl.responses.covariances import Covariances
from perturbrl.responses.moments import Moments
from perturbrl.responses.training_cells import Condition, TrainingCells
from perturbrl.responses.weight_averaging import (
    FEW_ROWS,
    MOST_KEPT,
    Named,
    Spectrum,
    WeightNet,
    spectra,
    weigh,
)
from perturbrl.schema import GeneVector

_CHUNK: Final = 256

Across = Float[np.ndarray, "_ asked rows"]
Within = Float[np.ndarray, "_ asked asked"]


class Kriging(ResponseModel):
    """A Gaussian process over perturbations (see the module).

    Args:
        priors: sources of similarity between perturbations; which of them help is found from the data.

    Attributes:
        weights: share of the variance of effects that each covariance over treatments explains, on average over
            components; known after ``fit``.
        moments: all that was learned from, known after ``fit``; with the priors it restores the model.
    """

    name = "kriging"

    weights: dict[str, float]
    moments: Moments

    def __init__(self, priors: Sequence[PriorKnowledge] = ()) -> None:
        self.priors = tuple(priors)

    def fit(self, cells: TrainingCells) -> Self:
        """Learn from training cells; cell types, where they are known, are contexts.

        Raises:
            DataError: see ``Moments``.
        """
        return self.fit_moments(Moments.of(cells))

    def fit_moments(self, moments: Moments) -> Self:
        """Learn from populations, such as those of a checkpoint; the same ones give the same model to the last bit."""
        self.moments = moments
        self._covariances = Covariances.of(moments, self.priors)
        self._take_components()
        rows = self.moments.conditions
        treatments, contexts = (
            self._covariances.over_treatments(rows, rows),
            self._covariances.over_contexts(rows, rows),
        )
        self._net, self._spectra = self._weighed(treatments, contexts)
        average = self._net.shares.mean(axis=1) @ self._net.treatments
        self.weights = dict(zip(self._covariances.treatments, average.tolist(), strict=True))
        return self

    def _take_components(self) -> None:
        """The shifts along their components in units of noise, and what they leave out of a new shift."""
        moments = self.moments
        self._components = moments.components
        self._noise_sd = np.sqrt(_noise_variance(moments).clip(min=np.finfo(float).tiny))
        self._responses = moments.noise.whiten(moments.shifts) @ self._components.T / self._noise_sd
        self._outside = _outside_variance(moments)

    def _weighed(self, treatments: Named, contexts: Named) -> tuple[WeightNet, list[Spectrum]]:
        """The net after the data and its points' processes; of many rows, every so-manyth weighs it."""
        moments = self.moments
        n_rows = len(moments.conditions)
        some = np.arange(0, n_rows, -(-n_rows // FEW_ROWS))
        noise = moments.noise.of_rows(some)
        responses = noise.whiten(moments.shifts[some] @ self._components.T / self._noise_sd)
        even = WeightNet.even(len(treatments), len(contexts))
        found = spectra(
            even, treatments[:, some][:, :, some], contexts[:, some][:, :, some], noise, responses
        )
        net = weigh(even, found)
        if len(some) == n_rows:
            return net, found
        net = net.most_likely(MOST_KEPT)
        return net, spectra(net, treatments, contexts, moments.noise, self._responses)

    @property
    def control_counts(self) -> Mapping[str, int]:
        """Training control cells of each context."""
        return self.moments.control_counts

    def _predict(self, conditions: Sequence[Condition]) -> PredictedShifts:
        parts = [self._chunk(conditions[i : i + _CHUNK]) for i in range(0, len(conditions), _CHUNK)]
        mean, sd, along = (np.concatenate(found) for found in zip(*parts, strict=True))
        heeded = [prior for prior in self.priors if self.weights[prior.source] > 0]
        measured = self.moments.conditions
        evidence = EvidenceFor(measured, likened_by(heeded, measured))
        return PredictedShifts(mean, sd, along, tuple(map(evidence, conditions)))

    def row_weights(self, conditions: Sequence[Condition]) -> Float[np.ndarray, "asked rows"]:
        """Weight with which each measured row's shift enters the expected one of conditions.

        A component has weights of its own; theirs are averaged by the variance of effects along each.
        """
        amplitudes = np.array([spectrum.amplitude for spectrum in self._spectra])
        signal = np.square(self._noise_sd) * (self._net.shares * amplitudes).sum(axis=0)
        shares = self._net.shares * signal / signal.sum()
        rows = self.moments.conditions
        across = (
            self._covariances.over_treatments(conditions, rows),
            self._covariances.over_contexts(conditions, rows),
        )
        turned = np.zeros((len(rows), len(conditions)))
        for point, spectrum in enumerate(self._spectra):
            seen = spectrum.vectors.T @ self.moments.noise.whiten(self._net.covariance(point, *across).T)
            turned += spectrum.vectors @ ((spectrum.gain @ shares[point])[:, None] * seen)
        return self.moments.noise.back(turned).T

    def _chunk(self, asked: Sequence[Condition]) -> tuple[Shifts, Shifts, Float[np.ndarray, " asked"]]:
        rows, covariances = self.moments.conditions, self._covariances
        across = covariances.over_treatments(asked, rows), covariances.over_contexts(asked, rows)
        within = covariances.over_treatments(asked, asked), covariances.over_contexts(asked, asked)
        points = np.array([self._at_point(i, across, within) for i in range(len(self._spectra))])
        shares = self._net.shares[:, None, None, :]
        mean, variance, prior = (shares * points).sum(axis=0)
        between = (shares[:, 0] * np.square(points[:, 0] - mean)).sum(axis=0)
        unit = np.square(self._noise_sd)
        unexplained = (variance @ unit) / np.maximum(prior @ unit, np.finfo(float).tiny)
        inside = (variance + between) * unit
        sd = np.sqrt(inside @ np.square(self._components) + unexplained[:, None] * self._outside)
        way = _directions(mean * self._noise_sd)
        outside = np.square(way @ self._components) @ self._outside
        along = np.sqrt((np.square(way) * inside).sum(axis=1) + unexplained * outside)
        return (mean * self._noise_sd) @ self._components, sd, along

    def _at_point(
        self, point: int, across: tuple[Across, Across], within: tuple[Within, Within]
    ) -> Float[np.ndarray, "3 asked components"]:
        """Mean, variance, and variance before the data, at one point of the net, in units of the components' noise."""
        spectrum = self._spectra[point]
        seen = spectrum.vectors.T @ self.moments.noise.whiten(self._net.covariance(point, *across).T)
        prior = np.diag(self._net.covariance(point, *within))[:, None] * spectrum.amplitude
        variance = prior - np.square(seen).T @ spectrum.curvature + np.square(seen.T @ spectrum.sway)
        return np.stack([seen.T @ spectrum.coefficients, variance.clip(min=0.0), prior])


def _directions(vectors: Float[np.ndarray, "asked components"]) -> Float[np.ndarray, "asked components"]:
    """Of length 1; of no effect at all, the diagonal."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 0, vectors / np.where(length > 0, length, 1.0), vectors.shape[1] ** -0.5)


def _noise_variance(moments: Moments) -> Float[np.ndarray, " components"]:
    """A cell's variance along each component, together that of all genes.

    Components are directions in which the measured shifts lie, sampling noise included: of fewer shifts than genes
    they hold the noise of every gene, and not just their own.
    """
    own = moments.component_variance
    return own / own.sum() * moments.gene_variance.sum()


def _outside_variance(moments: Moments) -> GeneVector:
    """Variance by gene of what a new shift has outside of the span of the others, sampling noise taken off.

    Each measured shift is compared with the span of all others (the hat-matrix identity of leave-one-out residuals).
    """
    gram = moments.shifts @ moments.shifts.T
    scale = float(np.trace(gram)) / len(gram)
    inverse = np.linalg.inv(gram + 1e-9 * max(scale, np.finfo(float).tiny) * np.eye(len(gram)))
    combination = inverse / np.diag(inverse)[:, None]
    left = combination @ moments.shifts
    noise = np.einsum("ij,jk,ik->i", combination, moments.noise.covariance, combination)
    return (np.square(left) - noise[:, None] * moments.gene_variance).mean(axis=0).clip(min=0.0)
