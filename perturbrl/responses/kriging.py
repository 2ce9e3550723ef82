"""Kriging: the shift under a perturbation nobody measured, from those that were, with its uncertainty.

The shift of a population is the sum of its perturbations' effects, an interaction and noise. Effects are a Gaussian
process whose covariance is a sum of named ones (see ``covariances``). How much each of these explains is averaged over
(see ``weight_averaging``). All principal components of the measured shifts are used, in units of their noise, each with
an amplitude of its own (of thousands of rows, the leading ones: see ``induced_posterior``). What a new shift has
outside of their span makes predictions less sure. Additive effects, matching mean, training mean and nearest context
are limits of it.

Source: Rasmussen and Williams 2006, chapter 2 (kriging is their name in geostatistics, Matheron 1963).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Final, Self

import numpy as np
from jaxtyping import Float, Int

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import ConfigurationError
from perturbrl.responses.base import EvidenceFor, PredictedShifts, ResponseModel, Shifts, likened_by
from perturbrl.responses.component_noise import noise_variance, outside_variance
from perturbrl.responses.covariances import BUILT_IN, Covariances
from perturbrl.responses.induced_posterior import InducedPosterior
from perturbrl.responses.joint_shifts import JointShifts
from perturbrl.responses.moments import Moments
from perturbrl.responses.posterior import ExactPosterior, Posterior, averaged
from perturbrl.responses.target_loadings import SOURCE, target_loadings
from perturbrl.responses.telling_rows import telling_rows
from perturbrl.responses.training_cells import Condition, TrainingCells
from perturbrl.responses.transfer import Transfer
from perturbrl.responses.weight_averaging import (
    MOST_KEPT,
    Spectrum,
    WeightNet,
    log_evidence,
    spectra,
    weigh,
)

EXACT_ROWS: Final = 3000
FEW_KEPT: Final = 8
_CHUNK: Final = 2048
# Components along which conditions are judged together: so many at most, and no more than hold this share of effects.
MOST_TOGETHER: Final = 16
NEARLY_ALL: Final = 0.99
# Log evidence of 3, odds of 20 to 1, is strong (Kass 1995, 10.1080/01621459.1995.10476572).
WORTH: Final = 3.0
# A prior that explains a smaller share of the variance of effects is no evidence for anything; of a dozen perturbations
# any prior explains as much beforehand, so the measured shifts must not speak against it, either.
LITTLE: Final = 0.1


class Kriging(ResponseModel):
    """A Gaussian process over perturbations (see the module).

    Args:
        priors: sources of similarity between perturbations; which of them help is found from the data. What the first
            that is another screen foretells is taken off the shifts, if it foretells any, and put back on predictions.
            The loadings of perturbed genes are one more (see ``target_loadings``), if the measured shifts clearly speak
            for them beside the others.
        exact_rows: of more populations the equations are solved through inducing conditions (see ``inducing``).

    Raises:
        ConfigurationError: two priors have one name, or one has that of another covariance.

    Attributes:
        weights: share of the variance of effects that each covariance over treatments explains, over all components;
            known after ``fit``.
        moments: all that was learned from, known after ``fit``; with the priors it restores the model.
    """

    name = "kriging"

    weights: dict[str, float]
    moments: Moments

    def __init__(self, priors: Sequence[PriorKnowledge] = (), exact_rows: int = EXACT_ROWS) -> None:
        taken = [*BUILT_IN, *(prior.source for prior in priors)]
        twice = sorted({name for name in taken if taken.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"'{twice[0]}' names two similarities between perturbations, which could not be told apart; rename a "
                "source of prior knowledge"
            )
        self.priors = self._given = tuple(priors)
        self._sources = frozenset(taken)
        self.exact_rows = exact_rows

    def fit(self, cells: TrainingCells) -> Self:
        """Learn from training cells; cell types, where they are known, are contexts.

        Raises:
            DataError: see ``Moments`` and ``Transfer``.
        """
        moments = _moments(cells, self._given)
        loadings = None if SOURCE in self._sources else target_loadings(cells)
        self.priors = self._given
        if loadings is not None and self._gain(moments, (*self._given, loadings), loadings) > WORTH:
            self.priors = (*self._given, loadings)
        return self.fit_moments(moments)

    def refitted(self, cells: TrainingCells) -> "Kriging":
        """A model of other cells with the priors of this one; whether loadings are one is not asked again.

        Raises:
            DataError: see ``fit``.
        """
        return Kriging(self.priors, self.exact_rows).fit_moments(_moments(cells, self.priors))

    def fit_moments(self, moments: Moments) -> Self:
        """Learn from populations, such as those of a checkpoint; the same ones give the same model to the last bit."""
        self._take(moments, self.priors)
        self._outside = outside_variance(moments)
        every, some = np.arange(len(moments.conditions)), self._some
        net = self._even_net
        found = self._spectra(net, some)
        kept = list(found) if len(some) == len(every) else []
        evidence = np.array([one.evidence for one in kept or found])
        self._log_evidence = log_evidence(net, evidence)
        self._gains: dict[str, float] = {}
        net = weighed = weigh(net, evidence)
        self._posterior: Posterior
        if len(every) > self.exact_rows:
            net = net.most_likely(FEW_KEPT)
            responses = moments.shifts @ self._components.T / self._noise_sd
            self._posterior = InducedPosterior(
                net, self._covariances, moments.conditions, moments.noise, responses
            )
        else:
            net = net if kept else net.most_likely(MOST_KEPT)
            self._posterior = ExactPosterior(
                net,
                kept or list(self._spectra(net, every)),
                self._covariances,
                moments.conditions,
                moments.noise,
            )
        average = (weighed.shares * self._signal).sum(axis=1) @ weighed.treatments
        self.weights = dict(zip(self._covariances.treatments, average.tolist(), strict=True))
        return self

    def gain_of(self, source: str) -> float:
        """By how much a prior raises the log evidence of the measured shifts, beside the others."""
        if source not in self._gains:
            prior = next(one for one in self.priors if one.source == source)
            self._gains[source] = self._gain(self.moments, self.priors, prior, self._log_evidence)
            self._take(self.moments, self.priors)
        return self._gains[source]

    @property
    def heeded(self) -> tuple[PriorKnowledge, ...]:
        """Priors that are evidence: they explain a share, and the measured shifts do not speak against them."""
        return tuple(
            prior
            for prior in self.priors
            if self.weights[prior.source] >= LITTLE and self.gain_of(prior.source) > 0
        )

    @property
    def confirmed(self) -> bool:
        """Whether the measured shifts clearly speak for some prior, or for another screen's."""
        transfer = self.moments.transfer
        return any(self.gain_of(prior.source) > WORTH for prior in self.heeded) or (
            transfer is not None and transfer.scale != 0.0
        )

    def _gain(
        self,
        moments: Moments,
        priors: Sequence[PriorKnowledge],
        prior: PriorKnowledge,
        with_it: float | None = None,
    ) -> float:
        """What one of some priors adds to the others; what all tell is worked out where it is not given."""
        self._take(moments, priors)
        some = self._some  # the same rows for both
        with_it = self._evidence(moments, priors, some) if with_it is None else with_it
        return with_it - self._evidence(moments, [one for one in priors if one is not prior], some)

    def _evidence(
        self, moments: Moments, priors: Sequence[PriorKnowledge], some: Int[np.ndarray, " some"]
    ) -> float:
        self._take(moments, priors)
        found = self._spectra(self._even_net, some)
        return log_evidence(self._even_net, np.array([one.evidence for one in found]))

    def _take(self, moments: Moments, priors: Sequence[PriorKnowledge]) -> None:
        self.moments = moments
        self._covariances = Covariances.of(moments, priors)
        self._components = moments.components
        self._noise_sd = np.sqrt(noise_variance(moments).clip(min=np.finfo(float).tiny))

    @property
    def _some(self) -> Int[np.ndarray, " some"]:
        """Rows that weigh the points of the net; of few rows all."""
        return telling_rows(self._covariances, self._even_net, self.moments.conditions)

    @property
    def _even_net(self) -> WeightNet:
        return WeightNet.even(len(self._covariances.treatments), len(self._covariances.contexts))

    @property
    def _signal(self) -> Float[np.ndarray, " components"]:
        """Share of the variance of effects along each component."""
        signal = np.square(self._noise_sd) * self._posterior.amplitude
        return signal / signal.sum()

    def _spectra(self, net: WeightNet, some: Int[np.ndarray, " some"]) -> Iterator[Spectrum]:
        """Processes of the points after some rows."""
        moments = self.moments
        rows, noise = [moments.conditions[i] for i in some], moments.noise.of_rows(some)
        responses = noise.whiten(moments.shifts[some] @ self._components.T / self._noise_sd)
        return spectra(net, *self._covariances.over(rows, rows), noise, responses)

    @property
    def control_counts(self) -> Mapping[str, int]:
        """Training control cells of each context."""
        return self.moments.control_counts

    def _predict(self, conditions: Sequence[Condition]) -> PredictedShifts:
        mean, sd = np.empty((2, len(conditions), self._components.shape[1]))
        along, transfer = np.empty(len(conditions)), self.moments.transfer
        for start in range(0, len(conditions), _CHUNK):
            at = slice(start, start + _CHUNK)
            foretold = None if transfer is None else transfer.of(conditions[at])
            mean[at], sd[at], along[at] = self._chunk(conditions[at], foretold)
        measured = self.moments.conditions
        # What priors are worth takes as long as a fit, and need not be known where all parts were measured.
        likened = cache(lambda: likened_by(self.heeded, measured))
        evidence = EvidenceFor(
            measured, lambda part: (transfer is not None and transfer.tells_of(part)) or likened()(part)
        )
        return PredictedShifts(mean, sd, along, tuple(map(evidence, conditions)))

    def row_weights(self, conditions: Sequence[Condition]) -> Float[np.ndarray, "asked rows"]:
        """Weight with which each measured row's shift enters the expected one of conditions.

        A component has weights of its own; theirs are averaged by the variance of effects along each.
        """
        return self._posterior.row_weights(conditions, self._signal)

    def together(self, conditions: Sequence[Condition]) -> JointShifts:
        """What is thought of conditions together, along the components that hold nearly all of the effects.

        Raises:
            ConfigurationError: the model learned from more conditions than ``exact_rows``.
        """
        if not isinstance(self._posterior, ExactPosterior):
            raise ConfigurationError(
                f"{len(self.moments.conditions):,} measured populations are more than the {self.exact_rows:,} of which "
                "candidates are judged together; leave out cells of those that matter least"
            )
        order = np.argsort(-self._signal, kind="stable")[:MOST_TOGETHER]
        enough = int(np.searchsorted(np.cumsum(self._signal[order]), NEARLY_ALL)) + 1
        columns = order[:enough]
        mean, covariance = self._posterior.together(conditions, columns)
        unit, directions = self._noise_sd[columns], self._components[columns]
        mean = mean * unit
        if self.moments.transfer is not None:
            mean += self.moments.transfer.of(conditions) @ directions.T
        return JointShifts(directions, mean, covariance * np.square(unit)[:, None, None], np.square(unit))

    def deviations(
        self, conditions: Sequence[Condition], n_draws: int, rng: np.random.Generator
    ) -> Float[np.ndarray, "draws asked genes"]:
        """Draws of how far shifts may be from what is expected, genes together, conditions each for itself."""
        _, variance, prior = averaged(
            self._posterior.at_points(conditions), len(conditions), len(self._components)
        )
        inside, unexplained = self._uncertain(variance, prior)
        along, outside = (
            rng.standard_normal((n_draws, len(conditions), width)) for width in self._components.shape
        )
        outside *= np.sqrt(unexplained[:, None] * self._outside)
        return (along * np.sqrt(inside)) @ self._components + outside

    def covariance_along(
        self, conditions: Sequence[Condition], directions: Float[np.ndarray, "directions genes"]
    ) -> Float[np.ndarray, "asked directions directions"]:
        """Covariance of each condition's shift along directions, without the noise of any cells that judge it."""
        _, variance, prior = averaged(
            self._posterior.at_points(conditions), len(conditions), len(self._components)
        )
        inside, unexplained = self._uncertain(variance, prior)
        within, across = self._components @ directions.T, (directions * self._outside) @ directions.T
        return np.einsum("ac,cd,ce->ade", inside, within, within) + unexplained[:, None, None] * across

    def _uncertain(
        self, variance: Float[np.ndarray, "asked components"], prior: Float[np.ndarray, "asked components"]
    ) -> tuple[Float[np.ndarray, "asked components"], Float[np.ndarray, " asked"]]:
        """Variance along components, and the share that the data leave of the variance before them."""
        unit = np.square(self._noise_sd)
        return variance * unit, (variance @ unit) / np.maximum(prior @ unit, np.finfo(float).tiny)

    def _chunk(
        self, asked: Sequence[Condition], foretold: Shifts | None
    ) -> tuple[Shifts, Shifts, Float[np.ndarray, " asked"]]:
        points = self._posterior.at_points(asked)
        mean, variance, prior = averaged(points, len(asked), len(self._components))
        inside, unexplained = self._uncertain(variance, prior)
        sd = np.sqrt(inside @ np.square(self._components) + unexplained[:, None] * self._outside)
        shift = (mean * self._noise_sd) @ self._components
        shift = shift if foretold is None else shift + foretold
        way = _directions(shift)
        within = (np.square(way @ self._components.T) * inside).sum(axis=1)
        along = np.sqrt(within + unexplained * (np.square(way) @ self._outside))
        if foretold is None:
            return shift, sd, along
        doubt = self._doubt(asked, foretold)
        return shift, np.hypot(sd, doubt), np.hypot(along, (way * doubt).sum(axis=1))

    def _doubt(self, asked: Sequence[Condition], foretold: Shifts) -> Shifts:
        """By how much a transfer's scale that is off by its standard deviation would change what is expected.

        What it would then leave over in measured shifts comes back with their weights.
        """
        transfer, rows = self.moments.transfer, self.moments.conditions
        assert transfer is not None
        return transfer.doubt * (foretold - self.row_weights(asked) @ transfer.of(rows))


def _moments(cells: TrainingCells, priors: Sequence[PriorKnowledge]) -> Moments:
    screen = next((prior for prior in priors if prior.screen is not None), None)
    return Moments.of(cells, Transfer.learn(screen, cells) if screen else None)


def _directions(vectors: Shifts) -> Shifts:
    """Of length 1; of no effect at all, the diagonal."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 0, vectors / np.where(length > 0, length, 1.0), vectors.shape[1] ** -0.5)
