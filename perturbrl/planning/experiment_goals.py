"""What the next experiments are for, each goal with the worth of a batch and the choice that makes it large.

- learn: predictions of all candidates become surer (see ``variance_reduction``);
- reach: a candidate comes nearer to a target than the best measured one, by expected improvement;
- interact: combinations deviate from the sum of their parts, as predicted or as far as is possible.

Source: Jones 1998 (10.1023/A:1008306431147, expected improvement); Ginsbourger 2010
(10.1007/978-3-642-10701-6_6, of batches).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr

from perturbrl.planning.variance_reduction import (
    Chosen,
    after_measuring,
    greedy_by_variance,
    reduction_of_batch,
)
from perturbrl.responses.joint_shifts import JointShifts

N_DRAWS: Final = 512
_JITTER: Final = 1e-8
_FAR: Final = 40.0  # standard deviations, beyond which a density is 0

Candidates = Float[np.ndarray, " candidates"]
Batch = Int[np.ndarray, " chosen"]


class ExperimentGoal(ABC):
    """A worth of batches of candidates, by what is believed of them.

    Args:
        beliefs: about what would be measured of each candidate.
        noise: ``[components, candidates]`` variance of one measurement.
    """

    def __init__(self, beliefs: JointShifts, noise: Float[np.ndarray, "components candidates"]) -> None:
        self.beliefs, self.noise = beliefs, noise

    @abstractmethod
    def choose(self, n: int, costs: Candidates) -> Chosen:
        """The batch of ``n`` that is worth most for what it costs, each choice given the ones before."""

    @abstractmethod
    def worth(self, batch: Batch) -> float:
        """What a batch is expected to be worth, whoever chose it."""

    @abstractmethod
    def promise(self) -> Candidates:
        """What greedy choice goes by: what is expected of each candidate, however sure that is."""

    @cached_property
    def variances(self) -> Candidates:
        """Of each candidate, over components: what choice by uncertainty goes by."""
        return np.einsum("jcc->c", self.beliefs.covariance).clip(min=0.0)

    @property
    def sizes(self) -> Candidates:
        """Length of what is expected."""
        return np.linalg.norm(self.beliefs.mean, axis=1)


class LearnResponses(ExperimentGoal):
    """Lower the variance of all candidates; worth is the share of it that goes."""

    def choose(self, n: int, costs: Candidates) -> Chosen:
        """See ``ExperimentGoal``."""
        found = greedy_by_variance(self.beliefs.covariance, self.noise, n, costs)
        return Chosen(found.candidates, found.gains / self._total)

    def worth(self, batch: Batch) -> float:
        """Share of the variance of all candidates that goes."""
        return reduction_of_batch(self.beliefs.covariance, self.noise, batch) / self._total

    def promise(self) -> Candidates:
        """Largest expected effect."""
        return self.sizes

    @property
    def _total(self) -> float:
        return max(float(self.variances.sum()), np.finfo(float).tiny)


class ReachTarget(ExperimentGoal):
    """Come nearer to a target; worth is the expected decrease of the squared distance left by the best so far.

    Args:
        beliefs: about shifts.
        noise: of measurements.
        wanted: ``[candidates, components]`` shift that would reach the target.
        best: squared distance that the nearest so far leaves.
        seed: of the draws.
    """

    def __init__(
        self,
        beliefs: JointShifts,
        noise: Float[np.ndarray, "components candidates"],
        wanted: Float[np.ndarray, "candidates components"],
        best: float,
        seed: int = 0,
    ) -> None:
        super().__init__(beliefs, noise)
        self._wanted, self.best, self._seed = wanted, best, seed

    def choose(self, n: int, costs: Candidates) -> Chosen:
        """See ``ExperimentGoal``."""
        left = np.full(len(self._distances), self.best)
        chosen: list[int] = []
        gains: list[float] = []
        for _ in range(n):
            gain = (left[:, None] - self._distances).clip(min=0.0).mean(axis=0)
            told = gain / costs
            told[chosen] = -np.inf
            one = int(np.argmax(told))
            chosen.append(one)
            gains.append(float(gain[one]) / self._scale)
            left = np.minimum(left, self._distances[:, one])
        return Chosen(np.array(chosen, dtype=int), np.array(gains))

    def worth(self, batch: Batch) -> float:
        """As a share of the squared distance that the best so far leaves."""
        nearest = self._distances[:, batch].min(axis=1)
        return float((self.best - nearest).clip(min=0.0).mean()) / self._scale

    def promise(self) -> Candidates:
        """Smallest expected distance."""
        return -np.linalg.norm(self.beliefs.mean - self._wanted, axis=1)

    @cached_property
    def moments(self) -> tuple[Candidates, Candidates]:
        """Mean and standard deviation of each squared distance."""
        away = self.beliefs.mean - self._wanted
        variance = np.einsum("jcc->cj", self.beliefs.covariance).clip(min=0.0)
        mean = (np.square(away) + variance).sum(axis=1)
        return mean, np.sqrt((4.0 * np.square(away) * variance + 2.0 * np.square(variance)).sum(axis=1))

    @property
    def improvements(self) -> Candidates:
        """Expected improvement of each candidate alone."""
        return expected_improvement(*self.moments, self.best) / self._scale

    @property
    def chances(self) -> Candidates:
        """Probability of each candidate to be nearer than the best so far."""
        mean, sd = self.moments
        return ndtr((self.best - mean) / np.maximum(sd, np.finfo(float).tiny))

    @property
    def _scale(self) -> float:
        return max(self.best, np.finfo(float).tiny)

    @cached_property
    def _distances(self) -> Float[np.ndarray, "draws candidates"]:
        """Squared distances of draws, candidates together."""
        rng = np.random.default_rng(self._seed)
        found = np.zeros((N_DRAWS, len(self._wanted)))
        for j, covariance in enumerate(self.beliefs.covariance):
            root = np.linalg.cholesky(covariance + _JITTER * _scale_of(covariance) * np.eye(len(covariance)))
            away = self.beliefs.mean[:, j] - self._wanted[:, j]
            found += np.square(away + rng.standard_normal((N_DRAWS, len(covariance))) @ root.T)
        return found


class FindInteractions(ExperimentGoal):
    """Find large deviations from the sum of the parts; worth is their expected square, what is possible included.

    What is possible of a candidate is what those chosen before it leave open, so that likes of one another are not
    taken for their uncertainty twice.

    Args:
        beliefs: about deviations.
        noise: of their measurements.
    """

    def choose(self, n: int, costs: Candidates) -> Chosen:
        """See ``ExperimentGoal``."""
        covariance, size = self.beliefs.covariance, np.square(self.sizes)
        chosen: list[int] = []
        gains: list[float] = []
        for _ in range(n):
            gain = size + np.einsum("jcc->c", covariance).clip(min=0.0)
            told = gain / costs
            told[chosen] = -np.inf
            one = int(np.argmax(told))
            chosen.append(one)
            gains.append(float(gain[one]))
            covariance = after_measuring(covariance, self.noise, one)
        return Chosen(np.array(chosen, dtype=int), np.array(gains))

    def worth(self, batch: Batch) -> float:
        """Sum of what each adds to those of the batch before it, the largest first."""
        beliefs = self.beliefs
        ones = np.ix_(np.arange(len(self.noise)), batch, batch)
        some = JointShifts(
            beliefs.directions, beliefs.mean[batch], beliefs.covariance[ones], beliefs.cell_variance
        )
        alone = FindInteractions(some, self.noise[:, batch])
        return float(alone.choose(len(batch), np.ones(len(batch))).gains.sum())

    def promise(self) -> Candidates:
        """Largest expected deviation."""
        return self.sizes


def expected_improvement(mean: Candidates, sd: Candidates, best: float) -> Candidates:
    """Expected decrease of a minimum ``best`` by Gaussian values: (b − m) Φ(u) + s φ(u) with u = (b − m)/s."""
    spread = np.maximum(sd, np.finfo(float).tiny)
    ahead = (best - mean) / spread
    density = np.exp(-0.5 * np.square(ahead.clip(-_FAR, _FAR))) / np.sqrt(2.0 * np.pi)
    return ((best - mean) * ndtr(ahead) + sd * density).clip(min=0.0)


@dataclass(frozen=True)
class ComparedBatch:
    """What a way to choose would be worth.

    Attributes:
        strategy: how the batch was chosen.
        worth: of the batch, by the same beliefs.
        cost: of the batch.
    """

    strategy: str
    worth: float
    cost: float


def _scale_of(covariance: Float[np.ndarray, "candidates candidates"]) -> float:
    return max(float(np.diag(covariance).max(initial=0.0)), np.finfo(float).tiny)
