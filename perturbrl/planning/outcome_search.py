"""Strong interactions of a measured number, such as growth: which pairs to measure next.

An interaction is a pair's deviation from what pairs of its singles' sum have on average: a line or a parabola fitted
to all pairs, measured or foretold. Pairs are foretold by their members' factors (see ``pair_factors``), and that from
measured pairs alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.planning.variance_reduction import greedy_by_variance, reduction_of_batch
from perturbrl.responses.pair_factors import PairDraws, PairFactors

Expected = Literal["line", "parabola"]
Strategy = Literal["strong interactions", "learn", "uncertainty", "greedy", "random"]
STRATEGIES: Final[tuple[Strategy, ...]] = ("strong interactions", "learn", "uncertainty", "greedy", "random")
CURVES: Final[tuple[Expected, ...]] = ("line", "parabola")
DEGREES: Final[dict[Expected, int]] = {"line": 1, "parabola": 2}
N_FEATURES: Final = 20
_HALVINGS: Final = 16

Draws = Float[np.ndarray, "draws candidates"]
Candidates = Float[np.ndarray, " candidates"]


@dataclass(frozen=True, eq=False)
class PairPanel:
    """All pairs that there are, measured or not.

    Attributes:
        names: of the members.
        pairs: numbers of the members of each pair.
        singles: ``[members]`` the number measured of each alone.
        priors: what is known of members.
        expected: the curve from which deviations count.
    """

    names: tuple[str, ...]
    pairs: Int[np.ndarray, "pairs 2"]
    singles: Float[np.ndarray, " members"]
    priors: tuple[PriorKnowledge, ...] = ()
    expected: Expected = "line"

    @cached_property
    def terms(self) -> Float[np.ndarray, "pairs terms"]:
        """What the model knows of each pair: 1, the singles' sum, its square, the product."""
        left, right = self.singles[self.pairs].T
        columns = (left + right, np.square(left + right), left * right)
        return np.column_stack([np.ones(len(left)), *map(_standard, columns)])

    @cached_property
    def features(self) -> Float[np.ndarray, "members features"]:
        """What may foretell a member's factors: its own number, its square, and leading directions of likeness."""
        alone = _standard(self.singles)
        likeness = [prior.similarity(self.names, self.names) for prior in self.priors]
        return np.column_stack([alone, np.square(alone) - 1.0, *_leading(likeness)])

    @cached_property
    def _curve(self) -> Float[np.ndarray, "pairs degrees"]:
        """Orthonormal powers of the singles' sum."""
        total = _standard(self.singles[self.pairs].sum(axis=1))
        powers = np.vander(total, DEGREES[self.expected] + 1)
        directions, size, _ = np.linalg.svd(powers, full_matrices=False)
        return directions[:, size > 1e-9 * size[0]]

    def deviations(self, values: Float[np.ndarray, "*draws pairs"]) -> Float[np.ndarray, "*draws pairs"]:
        """What is left of numbers of all pairs beside the curve fitted to them."""
        return values - (values @ self._curve) @ self._curve.T


@dataclass(frozen=True, eq=False)
class OutcomeBeliefs:
    """What is thought of the pairs that are not measured yet.

    Attributes:
        open: their numbers.
        deviations: ``[draws, open]`` draws of how far each is from the curve, without noise.
        noise_sd: ``[draws]`` of one measurement.
        threshold: size of deviation beyond which as many pairs as are sought are expected.
        found: numbers of measured pairs beyond it.
        curve: mean of what the curve expects of open pairs.
    """

    open: Int[np.ndarray, " candidates"]
    deviations: Draws
    noise_sd: Float[np.ndarray, " draws"]
    threshold: float
    found: Int[np.ndarray, " found"]
    curve: Candidates

    @cached_property
    def mean(self) -> Candidates:
        """Expected deviation."""
        return self.deviations.mean(axis=0)

    @cached_property
    def sd(self) -> Candidates:
        """Of the deviation that would be measured, noise included."""
        return np.sqrt(self.deviations.var(axis=0) + np.square(self.noise_sd).mean())

    @cached_property
    def chances(self) -> Candidates:
        """Probability of a measured deviation beyond the threshold, in either direction."""
        return _beyond(self.threshold, self.deviations, self.noise_sd)

    def share_learned(self, batch: Int[np.ndarray, " chosen"]) -> float:
        """Share of the variance of open pairs that measuring a batch takes away."""
        covariance, noise = self._gaussian
        total = float(np.trace(covariance[0]))
        return reduction_of_batch(covariance, noise, batch) / max(total, np.finfo(float).tiny)

    def learned_most(self, n: int, costs: Candidates) -> Int[np.ndarray, " chosen"]:
        """The batch that takes most away for what it costs."""
        return greedy_by_variance(*self._gaussian, n, costs).candidates

    @cached_property
    def _gaussian(self) -> tuple[Float[np.ndarray, "1 open open"], Float[np.ndarray, "1 open"]]:
        """Covariance of the draws, in single precision since pairs are thousands, and noise of a measurement."""
        away = (self.deviations - self.mean).astype(np.float32)
        noise = np.full((1, len(self.open)), np.square(self.noise_sd).mean(), dtype=np.float32)
        return (away.T @ away / np.float32(len(away)))[None], noise


def choose(
    beliefs: OutcomeBeliefs, strategy: Strategy, n: int, costs: Candidates, rng: np.random.Generator
) -> Int[np.ndarray, " chosen"]:
    """Places of the next pairs among the open ones, the first choice first.

    The expected number of strong interactions found is the sum of their probabilities, so the likeliest ones are the
    best batch, and no order or likeness among them changes that.

    Args:
        beliefs: about open pairs.
        strategy: ``strong interactions`` takes the likeliest, ``learn`` lowers the variance of all, ``uncertainty``
            takes the least known, ``greedy`` the largest expected deviation, ``random`` any.
        n: pairs.
        costs: of open pairs.
        rng: of ``random``.
    """
    if strategy == "learn":
        return beliefs.learned_most(n, costs)
    score = {
        "strong interactions": lambda: beliefs.chances,
        "uncertainty": lambda: beliefs.sd,
        "greedy": lambda: np.abs(beliefs.mean),
        "random": lambda: rng.random(len(beliefs.open)) * costs,
    }[strategy]()
    return np.argsort(-score / costs, kind="stable")[:n]


@dataclass(frozen=True)
class Effort:
    """How long is drawn: sweeps before and after the first batch, how many of the last are kept, one in so many."""

    first: int = 40
    later: int = 8
    kept: int = 4
    thin: int = 1


class OutcomeSearch:
    """A search over pairs that goes on as they are measured.

    Args:
        panel: all pairs.
        n_strongest: how many of the largest deviations are sought.
        seed: of the draws.
        effort: of the sampler.
    """

    def __init__(
        self,
        panel: PairPanel,
        n_strongest: int,
        seed: int = 0,
        effort: Effort = Effort(),
    ) -> None:
        self.panel, self.n_strongest, self._effort = panel, n_strongest, effort
        self._model = PairFactors(panel.features, seed=seed)
        self._begun = False

    def believe(self, measured: Mapping[int, float]) -> OutcomeBeliefs:
        """Learn from all that was measured.

        Args:
            measured: number of each measured pair of the panel, and what was measured.
        """
        panel, rows = self.panel, np.array(sorted(measured), dtype=int)
        values = np.array([measured[row] for row in rows.tolist()])
        draws = self._drawn(rows, values)
        whole = draws.of(panel.pairs, panel.terms)
        whole[:, rows] = values
        deviations = panel.deviations(whole)
        is_open = np.ones(len(panel.pairs), dtype=bool)
        is_open[rows] = False
        known, unknown = deviations[:, rows].mean(axis=0), deviations[:, is_open]
        threshold = _threshold(known, unknown, draws.noise_sd, self.n_strongest)
        curve = (whole - deviations).mean(axis=0)[is_open]
        found = rows[np.abs(known) > threshold]
        return OutcomeBeliefs(np.flatnonzero(is_open), unknown, draws.noise_sd, threshold, found, curve)

    def _drawn(self, rows: Int[np.ndarray, " rows"], values: Float[np.ndarray, " rows"]) -> PairDraws:
        effort = self._effort
        sweeps = effort.later if self._begun else effort.first
        self._begun = True
        panel = self.panel
        return self._model.learn(
            panel.pairs[rows], panel.terms[rows], values, sweeps, effort.kept, effort.thin
        )


def _threshold(
    known: Float[np.ndarray, " measured"],
    deviations: Draws,
    noise_sd: Float[np.ndarray, " draws"],
    n_strongest: int,
) -> float:
    """Size beyond which ``n_strongest`` deviations are expected, measured ones included."""
    low, high = 0.0, float(max(np.abs(known).max(initial=0.0), np.abs(deviations).max(initial=0.0)))
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        expected = (np.abs(known) > middle).sum() + _beyond(middle, deviations, noise_sd).sum()
        low, high = (middle, high) if expected > n_strongest else (low, middle)
    return 0.5 * (low + high)


def _beyond(threshold: float, deviations: Draws, noise_sd: Float[np.ndarray, " draws"]) -> Candidates:
    sd = np.maximum(noise_sd, np.finfo(float).tiny)[:, None]
    above, below = (deviations - threshold) / sd, (-threshold - deviations) / sd
    return (ndtr(above) + ndtr(below)).mean(axis=0)


def _standard(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    sd = float(values.std())
    return (values - values.mean()) / sd if sd > 0 else np.zeros_like(values)


def _leading(
    likeness: Sequence[Float[np.ndarray, "members members"]],
) -> list[Float[np.ndarray, "members _"]]:
    """Leading directions of the mean likeness, in units of their own mean square."""
    if not likeness:
        return []
    between = np.mean(likeness, axis=0)
    np.fill_diagonal(between, 0.0)
    size, directions = np.linalg.eigh(between)
    order = np.argsort(-size)[:N_FEATURES]
    order = order[size[order] > 1e-9]
    if not len(order):
        return []
    found = directions[:, order] * np.sqrt(size[order])
    return [found / np.sqrt(np.square(found).sum(axis=1).mean())]
