"""Sets of perturbations and their doses, for twins on which a combination is nearly the sum of its parts."""

from collections.abc import Iterator
from typing import Final

from perturbrl.errors import ConfigurationError
from perturbrl.planning.best_sets import (
    DosedSets,
    best_singles,
    extended,
    fitted_pairs,
    measured_sets,
    with_one_exchanged,
)
from perturbrl.planning.design_problem import DesignProblem, OpenLoop, Schedule
from perturbrl.planning.set_scores import SetScores
from perturbrl.planning.tried_sets import TriedSets

_EXTENSIONS: Final = 50_000_000
_FEWEST: Final = 200
_EXCHANGED: Final = 300
_EXCHANGES: Final = 5
_REFINED: Final = 8
_GAIN: Final = 1e-4


class BeamSearch(OpenLoop):
    """The best set of perturbations with its best doses, among thousands.

    By what the twin expects of parts of combinations every perturbation and every pair is looked at, each at its best
    doses; larger sets grow from the best smaller ones by each perturbation that is not in them, until none is worth
    more, and in the best no exchange of one perturbation may be worth more either. The best of every size, and the best
    measured combinations, are then tried on the twin itself, and the doses of the best refined there.

    With up to 460 perturbations every set of three is looked at (as extensions of every pair).

    Args:
        max_size: largest set, where the space allows as many.
        n_tried: sets of each size, and of measured ones, that are tried on the twin.
    """

    name = "beam"

    def __init__(self, max_size: int = 8, n_tried: int = 100) -> None:
        if min(max_size, n_tried) < 1:
            raise ConfigurationError(
                f"beam search got max_size {max_size} and n_tried {n_tried}; give at least 1 of each"
            )
        self.max_size, self.n_tried = max_size, n_tried

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The best schedule found, doing nothing included; ``None`` where the twin tells no sum of parts."""
        scores = SetScores.of(problem)
        if scores is None:
            return None
        size = min(self.max_size, problem.space.most_used)
        sets = [*self._expected(scores, size), *self._measured(scores, size)]
        return TriedSets.of(problem, scores, sets).best_refined(_REFINED)

    def _expected(self, scores: SetScores, max_size: int) -> Iterator[DosedSets]:
        """The best sets of every size."""
        n = len(scores.low)
        width = max(_FEWEST, min(n * (n - 1) // 2, _EXTENSIONS // n))
        sets = best_singles(scores, width)
        yield sets.best(self.n_tried)
        for size in range(2, max_size + 1):
            before = float(sets.returns[0])
            grown = fitted_pairs(scores, width) if size == 2 else extended(scores, sets, width)
            sets = grown.with_fitted_doses(scores)
            best = sets.best(self.n_tried) if size == 2 else _exchanged(scores, sets).best(self.n_tried)
            yield best
            if size > 2 and float(best.returns[0]) < before + _GAIN:
                return

    def _measured(self, scores: SetScores, max_size: int) -> Iterator[DosedSets]:
        for size in range(2, max_size + 1):
            yield measured_sets(scores, size, self.n_tried)


def _exchanged(scores: SetScores, sets: DosedSets) -> DosedSets:
    """The best sets, once no exchange of one perturbation makes the best of them better."""
    best = sets.best(_EXCHANGED)
    for _ in range(_EXCHANGES):
        before, best = float(best.returns[0]), with_one_exchanged(scores, best, _EXCHANGED)
        if float(best.returns[0]) < before + _GAIN:
            break
    return best
