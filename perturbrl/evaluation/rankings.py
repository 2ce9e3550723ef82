"""How high a ranking of everything that may be proposed places the one thing that is right."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from perturbrl.errors import DataError
from perturbrl.evaluation.metrics import recall_at_k


@dataclass(frozen=True)
class Placed:
    """Where the right one stands among all that may be proposed; equal scores share their places.

    What is not proposed (a score of -inf) comes after all that is, in no order, and finds nothing: it has a rank, and
    recall and nDCG of 0.

    Attributes:
        rank: 1 is first; of equals the mean of their places.
        n: how many may be proposed.
        ndcg: discounted cumulative gain, 1 / log2(1 + place), the mean over the places shared with equals: 1 is first,
            and random order among 100 scores 0.22.
        recall_1: share of orders of equals in which it is first.
        recall_5: among the first 5.
        recall_10: among the first 10.

    Source: Järvelin & Kekäläinen 2002 (10.1145/582415.582418); ties as in scikit-learn's ``ndcg_score``, averaged.
    """

    rank: float
    n: int
    ndcg: float
    recall_1: float
    recall_5: float
    recall_10: float

    @property
    def normalised_rank(self) -> float:
        """(rank - 1) / (n - 1): 0 is first, 0.5 what random order scores on average, 1 last."""
        return (self.rank - 1.0) / (self.n - 1.0)


def placed(scores: Float[np.ndarray, " candidates"], right: int) -> Placed:
    """Where candidate ``right`` stands by these scores, the highest first.

    Raises:
        DataError: there are fewer than two candidates, no such one, or a score that is not a number.
    """
    n = len(scores)
    if n < 2 or not 0 <= right < n or np.isnan(scores).any():
        raise DataError(
            f"place {right} among {n} candidates, {int(np.isnan(scores).sum())} of them without a score, says nothing; "
            "rank at least two, the right one among them"
        )
    above, equal = int((scores > scores[right]).sum()), int((scores == scores[right]).sum())
    places = 1 + above + np.arange(equal)
    proposed = bool(np.isfinite(scores[right]))
    is_right = np.arange(n) == right
    recall = (recall_at_k(scores, is_right, min(k, n)) for k in (1, 5, 10))
    return Placed(float(places.mean()), n, float((1.0 / np.log2(1.0 + places)).mean()) * proposed, *recall)
