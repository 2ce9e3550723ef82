"""Gaussian processes averaged over how much each covariance explains, instead of one best guess.

Component j of all rows is Gaussian with covariance s_j K(w) + D. D is the known noise in units of the component's own;
K(w) = Σ_ab w_a v_b A_a ∘ B_b joins covariances over treatments and over contexts with weights that sum to 1 each; s_j
says how strongly component j responds. Beforehand one or two weights are likely to outweigh the others (Dirichlet
with less than 1), combinations add up or saturate (see ``BetweenTreatments``), and the root of s_j is
half-Cauchy with the scale of the noise: no effect is likely, and so is a large one. The posterior of both is a sum over
a fixed net of points, so nothing is drawn at random. Each component has weights of its own, about which the others say
a part (``POOLING``): one component may be what all perturbations do, another what few do. With twenty measured
perturbations no weights are certain: on Papalexi 2021 with Reactome (STAT1, JAK2, IFNGR1 held out in turn) those of the
largest likelihood give a centred correlation of −.57, −.61, −.61, the average .91, .90, .94.

Source: Rasmussen and Williams 2006, chapters 2 and 5; MacKay 1999 (integration over hyperparameters);
Carvalho 2010 (10.1093/biomet/asq017), the horseshoe's half-Cauchy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import eigh
from scipy.special import gammaincinv, logsumexp
from scipy.stats import qmc

from perturbrl.responses.covariances import BetweenTreatments
from perturbrl.responses.sampling_noise import SamplingNoise

N_POINTS: Final = 256
FEW_ROWS: Final = 200
MOST_KEPT: Final = 16
# Of the Dirichlet distributions of weights over treatments and over contexts.
_CONCENTRATIONS: Final = (0.5, 0.25)
# How much of another component's evidence counts: 1 is one set of weights for all, 0 a set for each.
POOLING: Final = 0.25
_LEAST_SHARE: Final = 1e-3
AMPLITUDES: Final = np.exp(np.linspace(-12.0, 12.0, 49))

Rows = Float[np.ndarray, "rows rows"]
Components = Float[np.ndarray, "rows components"]
Named = Float[np.ndarray, "_ a b"]
Weights = Float[np.ndarray, "points _"]


@dataclass(frozen=True)
class WeightNet:
    """Points of what the covariance may be, with the share that each deserves.

    Attributes:
        treatments: weights over treatments of each point, on their simplex.
        contexts: the same over contexts.
        strong: whether perturbations are as strong as measured, at each point.
        saturations: of combinations, from 0 (sums) to 1 (means), at each point.
        shares: posterior of the points for each component, summing to 1 over points.
    """

    treatments: Weights
    contexts: Weights
    strong: Bool[np.ndarray, " points"]
    saturations: Float[np.ndarray, " points"]
    shares: Float[np.ndarray, "points _"]

    @classmethod
    def even(cls, n_treatments: int, n_contexts: int, n_points: int = N_POINTS) -> "WeightNet":
        """Points spread evenly, all alike: what is known beforehand (by a Sobol sequence)."""
        wide = n_treatments + n_contexts
        places = qmc.Sobol(wide + 2, scramble=False).random(2 * n_points)[n_points:]
        halves = np.split(places[:, :wide].clip(1e-9, 1.0 - 1e-9), [n_treatments], axis=1)
        spread = (gammaincinv(*pair) for pair in zip(_CONCENTRATIONS, halves, strict=True))
        treatments, contexts = (half / half.sum(axis=1, keepdims=True) for half in spread)
        # Half of the points add effects up, the others let them saturate.
        saturations = (2.0 * places[:, wide + 1] - 1.0).clip(min=0.0)
        shares = np.full((n_points, 1), 1.0 / n_points)
        return cls(treatments, contexts, places[:, wide] >= 0.5, saturations, shares)

    def covariance(
        self, point: int, treatments: BetweenTreatments, contexts: Named
    ) -> Float[np.ndarray, "a b"]:
        """K at one point."""
        over_contexts = np.tensordot(self.contexts[point], contexts, axes=1)
        strong, saturation = bool(self.strong[point]), float(self.saturations[point])
        return treatments.at(self.treatments[point], strong=strong, saturation=saturation) * over_contexts

    def mean(self) -> "WeightNet":
        """One point: the mean of all, by their shares over components."""
        shares = self.shares.mean(axis=1)
        means = (
            shares @ values for values in (self.treatments, self.contexts, self.strong, self.saturations)
        )
        treatments, contexts, strong, saturation = means
        certain = np.ones((1, 1))
        return WeightNet(treatments[None], contexts[None], strong[None] >= 0.5, saturation[None], certain)

    def most_likely(self, at_most: int) -> "WeightNet":
        """The points that matter for some component, at most so many."""
        matters = self.shares.max(axis=1)
        order = np.argsort(-matters, kind="stable")[:at_most]
        order = order[matters[order] >= _LEAST_SHARE * matters[order[0]]]
        # A component that none of them suits has no share left to be divided by.
        shares = self.shares[order] + np.finfo(float).tiny
        return WeightNet(
            self.treatments[order],
            self.contexts[order],
            self.strong[order],
            self.saturations[order],
            shares / shares.sum(axis=0),
        )


@dataclass(frozen=True)
class Spectrum:
    """One point's process after the data: what predictions need.

    Attributes:
        values: eigenvalues λ of the turned covariance.
        vectors: its eigenvectors.
        turned: ``[rows, components]`` responses along them.
        amplitudes: the tried s.
        posterior: ``[tried, components]`` share of each s.
        evidence: ``[components]`` log of the marginal likelihood, without constants.
    """

    values: Float[np.ndarray, " rows"]
    vectors: Rows
    turned: Components
    amplitudes: Float[np.ndarray, " tried"]
    posterior: Float[np.ndarray, "tried components"]
    evidence: Float[np.ndarray, " components"]

    @classmethod
    def of(
        cls, covariance: Rows, responses: Components, amplitudes: Float[np.ndarray, " tried"] = AMPLITUDES
    ) -> "Spectrum":
        """Of a turned covariance and turned responses, averaged over amplitudes."""
        values, vectors = eigh(covariance)
        values, turned = values.clip(min=0.0), vectors.T @ responses
        variance = 1.0 + amplitudes[:, None] * values
        fit = -0.5 * ((1.0 / variance) @ np.square(turned) + np.log(variance).sum(axis=1)[:, None])
        best = fit.max(axis=0)
        posterior = np.exp(fit - best) * beforehand(signal_of(amplitudes, float(values.mean())))[:, None]
        evidence = best + np.log(posterior.sum(axis=0))
        return cls(values, vectors, turned, amplitudes, posterior / posterior.sum(axis=0), evidence)

    @property
    def gain(self) -> Components:
        """E[s / (s λ + 1)], by which data are weighed."""
        return self._gains @ self.posterior

    @property
    def coefficients(self) -> Components:
        """Turned responses times their gain."""
        return self.gain * self.turned

    @property
    def sway(self) -> Components:
        """How far one standard deviation of s moves the coefficients, to first order in the share it explains."""
        signal = signal_of(self.amplitudes, float(self.values.mean()))
        return (self._gains @ deviations(signal, self.posterior)) * self.turned

    @property
    def curvature(self) -> Components:
        """E[s² / (s λ + 1)], by which variance is explained."""
        return (self._gains * self.amplitudes) @ self.posterior

    @property
    def amplitude(self) -> Float[np.ndarray, " components"]:
        """E[s]."""
        return self.amplitudes @ self.posterior

    @property
    def _gains(self) -> Float[np.ndarray, "rows tried"]:
        return self.amplitudes / (1.0 + self.amplitudes * self.values[:, None])


def signal_of(amplitudes: Float[np.ndarray, " tried"], mean_variance: float) -> Float[np.ndarray, " tried"]:
    """Variance of a row's effect in units of its noise, on average over rows."""
    return amplitudes * max(mean_variance, np.finfo(float).tiny)


def beforehand(signal: Float[np.ndarray, " tried"]) -> Float[np.ndarray, " tried"]:
    """Shares of amplitudes before the data: the root of the signal, in units of noise, is half-Cauchy."""
    density = np.sqrt(signal) / (1.0 + signal)
    return density / density.sum()


def deviations(
    signal: Float[np.ndarray, " tried"], posterior: Float[np.ndarray, "tried components"]
) -> Float[np.ndarray, "tried components"]:
    """Weights whose sum with any function of the amplitude is its covariance with the standardised explained share."""
    share = signal / (1.0 + signal)
    away = share[:, None] - share @ posterior
    sd = np.sqrt((np.square(away) * posterior).sum(axis=0))
    return away * posterior / np.maximum(sd, np.finfo(float).tiny)


def spectra(
    net: WeightNet,
    treatments: BetweenTreatments,
    contexts: Named,
    noise: SamplingNoise,
    responses: Components,
) -> Iterator[Spectrum]:
    """Each point's process after the data, one at a time: all of many rows would take much memory.

    Args:
        net: the points.
        treatments: covariances between rows over treatments.
        contexts: the same over contexts.
        noise: of the rows.
        responses: turned, in units of each component's noise.
    """
    for i in range(len(net.shares)):
        covariance = net.covariance(i, treatments, contexts)
        yield Spectrum.of(noise.whiten(noise.whiten(covariance).T), responses)


def weigh(net: WeightNet, evidence: Float[np.ndarray, "points components"]) -> WeightNet:
    """The net after the data, by the evidence of its points' processes.

    Points with and without measured strengths keep the share they had together: strengths come from the very data
    that would weigh them.
    """
    told = POOLING * evidence.sum(axis=1, keepdims=True) + (1.0 - POOLING) * evidence
    shares = np.zeros_like(told)
    for points in (net.strong, ~net.strong):
        if points.any():
            before = np.broadcast_to(net.shares, told.shape)[points]
            after = before * np.exp(told[points] - told[points].max(axis=0))
            shares[points] = before.sum(axis=0) * after / after.sum(axis=0)
    return replace(net, shares=shares)


def log_evidence(net: WeightNet, evidence: Float[np.ndarray, "points components"]) -> float:
    """Log marginal likelihood over the points of the net and all components, without constants.

    Points with measured strengths do not count, for these come from the very data.
    """
    of_points = evidence[~net.strong]
    return float((logsumexp(of_points, axis=0) - np.log(len(of_points))).sum())
