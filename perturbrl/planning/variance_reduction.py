"""Which measurements would make predictions surer: expected reduction of variance, one choice after another.

Beliefs about candidates are Gaussian, so how much surer a measurement makes all of them is known before it is made.
Greedy choice takes the variance that is left after those chosen before, so a batch holds nothing twice.

Source: Krause 2008 (JMLR 9:235, near-optimal sensor placements); Cohn 1996 (10.1613/jair.295, minimising variance).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Covariances = Float[np.ndarray, "components candidates candidates"]
Noise = Float[np.ndarray, "components candidates"]


def variance_reductions(covariances: Covariances, noise: Noise) -> Float[np.ndarray, " candidates"]:
    """By how much measuring each candidate lowers the variance of all, summed over candidates and components.

    Args:
        covariances: of what is to be known.
        noise: variance of one measurement around it.
    """
    told = np.square(covariances).sum(axis=2)
    return (told / _surely_positive(_variances(covariances) + noise)).sum(axis=0)


def after_measuring(covariances: Covariances, noise: Noise, one: int) -> Covariances:
    """Covariances once a candidate has been measured, whatever comes out."""
    column = covariances[:, :, one]
    scale = _surely_positive(column[:, one] + noise[:, one])
    return covariances - column[:, :, None] * (column / scale[:, None])[:, None, :]


@dataclass(frozen=True, eq=False)
class Chosen:
    """A batch, the first choice first.

    Attributes:
        candidates: numbers.
        gains: what each added to those before it.
    """

    candidates: Int[np.ndarray, " chosen"]
    gains: Float[np.ndarray, " chosen"]


def greedy_by_variance(
    covariances: Covariances, noise: Noise, n: int, costs: Float[np.ndarray, " candidates"]
) -> Chosen:
    """The batch that lowers variance most for what it costs, each choice given the ones before.

    Args:
        covariances: of what is to be known.
        noise: variance of one measurement.
        n: choices.
        costs: of each candidate.
    """
    chosen: list[int] = []
    gains: list[float] = []
    for _ in range(n):
        worth = variance_reductions(covariances, noise)
        told = worth / costs
        told[chosen] = -np.inf
        best = int(np.argmax(told))
        chosen.append(best)
        gains.append(float(worth[best]))
        covariances = after_measuring(covariances, noise, best)
    return Chosen(np.array(chosen, dtype=int), np.array(gains))


def reduction_of_batch(covariances: Covariances, noise: Noise, batch: Int[np.ndarray, " chosen"]) -> float:
    """By how much a batch lowers the variance of all, whatever order it is measured in."""
    found = 0.0
    for covariance, of_one in zip(covariances, noise, strict=True):
        columns = covariance[:, batch].astype(np.float64)
        among = columns[batch] + np.diag(_surely_positive(of_one[batch].astype(np.float64)))
        found += float((columns * np.linalg.lstsq(among, columns.T, rcond=None)[0].T).sum())
    return found


def _variances(covariances: Covariances) -> Noise:
    return np.diagonal(covariances, axis1=1, axis2=2)


def _surely_positive(variances: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.maximum(variances, np.finfo(variances.dtype).tiny)
