"""Honest summaries of repeated runs: robust means, intervals, and comparisons of methods.

Scores come as strata, one array per task with one value per seed (their numbers may differ), or one stratum
with one value per cell. Every function that draws random numbers takes a seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest, mannwhitneyu, norm, trim_mean
from scipy.stats import t as student_t

from perturbrl.errors import DataError

Strata = Sequence[Float[np.ndarray, " _"]]
"""One array of scores per task."""

Statistic = Callable[[Float[np.ndarray, "*resamples scores"]], Float[np.ndarray, "*resamples"]]

_CHUNK: Final = 1 << 22

SIGNIFICANCE: Final = 0.05


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its confidence interval."""

    estimate: float
    low: float
    high: float


def interquartile_mean(scores: Float[np.ndarray, "*resamples scores"]) -> Float[np.ndarray, "*resamples"]:
    """Mean of the middle half of the scores along the last axis.

    ``floor(n / 4)`` scores are cut at either end. As robust as the median, with less variance. Below four
    scores nothing is cut, so it is the mean.

    Source: Agarwal 2021, "Deep RL at the edge of the statistical precipice"; ``scipy.stats.trim_mean``.
    """
    return np.asarray(trim_mean(scores, 0.25, axis=-1))


def bootstrap_interval(
    strata: Strata,
    statistic: Statistic = interquartile_mean,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Stratified bootstrap interval of a statistic of all scores: seeds are resampled within their task.

    One stratum is the plain bootstrap, over cells for example. The interval is the percentile interval with
    expanded tails: the quantile level is Φ(−t · sqrt(n̄ / (n̄ − 1))) with t the Student quantile at
    (number of scores − number of strata) degrees of freedom and n̄ the mean stratum size. The plain percentile
    interval is too short by that factor at 10 seeds; for a mean of normal scores the expanded one is the
    t interval. Pitfall: it speaks about new seeds of THESE tasks, not about new tasks.

    Args:
        strata: one array of scores per task.
        statistic: function of the pooled scores along the last axis.
        confidence: coverage of the interval.
        n_resamples: bootstrap resamples.
        seed: of the resampling.

    Source: Agarwal 2021 (strata); Hesterberg 2015, "What teachers should know about the bootstrap"
    (expanded percentile interval).

    Raises:
        DataError: a task has fewer than two scores, or one that is not finite.
    """
    _check(strata)
    rng = np.random.default_rng(seed)
    pooled = np.concatenate(strata)
    rows = max(1, _CHUNK // len(pooled))
    drawn = [
        statistic(_resample(strata, min(rows, n_resamples - first), rng))
        for first in range(0, n_resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(drawn), _expanded_levels(strata, confidence))
    return Interval(float(statistic(pooled)), float(low), float(high))


def mean_interval(scores: Float[np.ndarray, " scores"], confidence: float = 0.95) -> Interval:
    """Mean of scores with its Student t interval; its ends are NaN where there are fewer than two.

    For few scores: resampling two or three of them never leaves their range.

    Raises:
        DataError: there is no score, or one that is not finite.
    """
    if len(scores) == 0 or not np.isfinite(scores).all():
        raise DataError(
            f"the mean of {len(scores)} scores, {int(np.isfinite(scores).sum())} of them finite, says nothing; judge "
            "at least one condition"
        )
    mean, n = float(scores.mean()), len(scores)
    if n < 2:
        return Interval(mean, np.nan, np.nan)
    half = float(student_t.isf((1.0 - confidence) / 2.0, n - 1) * scores.std(ddof=1) / n**0.5)
    return Interval(mean, mean - half, mean + half)


def _resample(strata: Strata, n: int, rng: np.random.Generator) -> Float[np.ndarray, "{n} scores"]:
    parts = [scores[rng.integers(len(scores), size=(n, len(scores)))] for scores in strata]
    return np.concatenate(parts, axis=1)


def _expanded_levels(strata: Strata, confidence: float) -> tuple[float, float]:
    n_scores = sum(len(scores) for scores in strata)
    degrees = n_scores - len(strata)
    tail = student_t.isf((1.0 - confidence) / 2.0, degrees) * np.sqrt(n_scores / degrees)
    return float(norm.sf(tail)), float(norm.cdf(tail))


def _check(strata: Strata) -> None:
    if not strata or min(len(scores) for scores in strata) < 2:
        sizes = [len(scores) for scores in strata]
        raise DataError(
            f"an interval needs at least two scores per task, not {sizes}; run more seeds, at least 10 for a "
            "claim"
        )
    bad = sum(int((~np.isfinite(scores)).sum()) for scores in strata)
    if bad:
        raise DataError(f"{bad} scores are not finite; find out why these runs failed before averaging them")


def probability_of_improvement(x: Strata, y: Strata) -> float:
    """Probability that a run of method X beats one of method Y on the same task, averaged over tasks.

    P(X > Y) + P(X = Y) / 2 over all pairs of seeds: the Mann-Whitney U statistic divided by the number of
    pairs. Range [0, 1]; 0.5 is no difference. It says how often, not by how much.

    Source: Agarwal 2021.

    Raises:
        DataError: the methods were run on different numbers of tasks.
    """
    if len(x) != len(y):
        raise DataError(f"the methods have {len(x)} and {len(y)} tasks; compare them on the same tasks")
    shares = [mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in zip(x, y, strict=True)]
    return float(np.mean(shares))


def improvement_interval(
    x: Strata, y: Strata, *, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """`probability_of_improvement` with a stratified bootstrap interval, both methods resampled within tasks.

    Expanded like `bootstrap_interval`, with the degrees of freedom of both methods together.

    Raises:
        DataError: as `probability_of_improvement` and `bootstrap_interval`.
    """
    estimate = probability_of_improvement(x, y)
    _check(x)
    _check(y)
    rng = np.random.default_rng(seed)
    shares = [_resampled_shares(a, b, n_resamples, rng) for a, b in zip(x, y, strict=True)]
    levels = _expanded_levels([*x, *y], confidence)
    low, high = np.quantile(np.mean(shares, axis=0), levels)
    return Interval(estimate, float(low), float(high))


def _resampled_shares(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " m"], n_resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, " resamples"]:
    # A resample is a vector of multiplicities, so each share is a bilinear form in the table of wins.
    wins = (x[:, None] > y).astype(float) + 0.5 * (x[:, None] == y)
    x_counts = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=n_resamples)
    y_counts = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=n_resamples)
    return ((x_counts @ wins) * y_counts).sum(axis=1) / wins.size


def performance_profile(
    strata: Strata, thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, " thresholds"]:
    """Share of runs that score above each threshold, every task weighing the same.

    Falls from 1 to 0; a curve above another everywhere belongs to the stochastically better method, and
    crossing curves mean that the winner depends on the threshold. Scores of different tasks must be on one
    scale.

    Source: Agarwal 2021 (run-score distribution).
    """
    return np.mean([(scores[:, None] > thresholds).mean(axis=0) for scores in strata], axis=0)


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Share of successes with its Wilson score interval, which keeps its coverage near 0, 1 and at small n.

    Source: Wilson 1927; ``scipy.stats.binomtest``.

    Raises:
        DataError: no trial, or more successes than trials.
    """
    if n < 1 or not 0 <= successes <= n:
        raise DataError(f"{successes} successes in {n} trials is not a share; count the trials again")
    ends = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Interval(successes / n, float(ends.low), float(ends.high))


def holm_correction(p_values: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """p-values adjusted for their number by Holm's step-down method; compare them with the level directly.

    Controls the chance of one false claim among all, under any dependence. In order of size,
    p₍ᵢ₎ → max_{j ≤ i} min(1, (n − j + 1) p₍ⱼ₎).

    Source: Holm 1979.

    Raises:
        DataError: a p-value is outside [0, 1] or not a number.
    """
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise DataError(
            f"p-values must be in [0, 1], not {p_values.tolist()}; check the tests they come from"
        )
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(factors * p_values[order]).clip(max=1.0)
    return adjusted
