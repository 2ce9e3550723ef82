"""The few of thousands of perturbations that a search by simulation looks at."""

from collections.abc import Callable, Iterator
from typing import Final

import torch
from jaxtyping import Int
from torch import Tensor

from perturbrl.planning.best_sets import DosedSets, best_singles, extended, fitted_pairs
from perturbrl.planning.design_problem import DesignProblem, Schedule
from perturbrl.planning.set_scores import SetScores

MOST_SIMULATED: Final = 2_000
_LONGEST: Final = 4


def among_few(
    problem: DesignProblem, most: int, search: Callable[[DesignProblem], Schedule]
) -> Schedule | None:
    """What a search finds, among the ``most`` most promising where there are more perturbations and the twin tells.

    ``None`` where it does not tell what to expect of each and there are more than ``MOST_SIMULATED``.
    """
    n = problem.space.n_perturbations
    columns = promising(problem, most) if n > most else None
    if columns is not None:
        return problem.widened(search(problem.among(columns)), columns)
    return search(problem) if n <= MOST_SIMULATED else None


def too_many(problem: DesignProblem) -> str:
    """Why a search refuses, in words."""
    return (
        f"each of {problem.space.n_perturbations:,} perturbations would be simulated again and again, and "
        f"{type(problem.twin).__name__} does not tell what to expect of them"
    )


def promising(problem: DesignProblem, most: int) -> Int[Tensor, " some"] | None:
    """At most so many perturbations that are expected to do most; ``None`` where the twin tells no sum of parts.

    The best alone, those of the best pairs, and what goes best with the best.
    """
    scores = SetScores.of(problem)
    if scores is None:
        return None
    parts = list(_candidates(scores, most, problem.space.most_used))
    share = most // len(parts)
    return torch.cat([_first(columns, share) for columns in parts]).unique()


def _candidates(scores: SetScores, most: int, most_used: int) -> Iterator[Int[Tensor, " columns"]]:
    """Perturbations, the most promising first, some of them several times."""
    singles = best_singles(scores, most)
    yield singles.columns.flatten()
    if most_used > 1:
        yield fitted_pairs(scores, most).with_fitted_doses(scores).columns.flatten()
    path: DosedSets = singles
    for _ in range(1, min(most_used, _LONGEST)):
        following = extended(scores, path.best(1), most)
        yield following.columns.flatten()
        path = following


def _first(columns: Int[Tensor, " columns"], n: int) -> Int[Tensor, " few"]:
    """The first ``n`` different ones."""
    return torch.tensor(list(dict.fromkeys(columns.tolist()))[:n], device=columns.device)
