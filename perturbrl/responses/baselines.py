"""Response predictors that know little: what any model of perturbation responses has to beat.

All of them predict a shift from control. In a context (a cell type, say) they go by the shifts measured there, and by
the mean over the other contexts for a perturbation that was not; with one context this is each baseline's formula as
published. A combination is a label such as ``A+B``; the order of its parts does not matter.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self
from zlib import crc32

import numpy as np

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.responses.base import Evidence, EvidenceFor, PredictedShifts, ResponseModel
from perturbrl.responses.measured_shifts import MeasuredShifts, mean_shift
from perturbrl.responses.training_cells import Condition, TrainingCells
from perturbrl.schema import GeneVector

ShiftOf = Callable[[Label], GeneVector]

NOTHING: Final[Evidence] = "none"


class Baseline(ResponseModel):
    """A predictor from mean shifts alone, which does not tell how sure it is.

    Attributes:
        measured: mean shifts of the training cells, known after ``fit``.
    """

    measured: MeasuredShifts

    def fit(self, cells: TrainingCells) -> Self:
        """Learn from training cells."""
        self.measured = MeasuredShifts.of(cells)
        return self

    @property
    def control_counts(self) -> Mapping[str, int]:
        """Training control cells of each context."""
        return self.measured.control_counts

    def _predict(self, conditions: Sequence[Condition]) -> PredictedShifts:
        shift_in = {context: self.learn(context) for context in sorted({where for _, where in conditions})}
        mean = np.stack([shift_in[context](label) for label, context in conditions])
        unsaid = np.full_like(mean, np.nan)
        return PredictedShifts(mean, unsaid, unsaid[:, 0], self._evidence(conditions))

    def _evidence(self, conditions: Sequence[Condition]) -> tuple[Evidence, ...]:
        return tuple(map(EvidenceFor(self.measured.conditions), conditions))

    @abstractmethod
    def learn(self, context: str) -> ShiftOf:
        """The shift of any perturbation in a context."""


class _WhateverIsAsked(Baseline):
    """A baseline that does not look at the perturbation, and so has no evidence for any."""

    def _evidence(self, conditions: Sequence[Condition]) -> tuple[Evidence, ...]:
        return tuple(NOTHING for _ in conditions)


class NoOpResponse(_WhateverIsAsked):
    """Nothing happens: the control mean."""

    name = "no_op"

    def learn(self, context: str) -> ShiftOf:
        """Zero."""
        nothing = np.zeros_like(self.measured.controls[context])
        return lambda _: nothing


class TrainingMean(_WhateverIsAsked):
    """Every perturbation does what the training perturbations do on average: m, in every context the same."""

    name = "training_mean"

    def learn(self, context: str) -> ShiftOf:
        """m − c."""
        mean = mean_shift(self.measured.everywhere)
        return lambda _: mean


class RandomPerturbation(_WhateverIsAsked):
    """The shift of a training perturbation drawn at random for each query.

    Args:
        seed: of the draws, which depend on it and on the query only.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def learn(self, context: str) -> ShiftOf:
        """x̄ of a random training perturbation − c."""
        known = list(self.measured.seen_from(context).values())

        def shift(label: Label) -> GeneVector:
            stream = np.random.default_rng([self.seed, crc32(f"{label}@{context}".encode())])
            return known[stream.integers(len(known))]

        return shift


class CellTypeMean(_WhateverIsAsked):
    """In each cell type, every perturbation does what the training perturbations do on average in that type.

    A type without perturbed training cells gets the mean over all types.
    """

    name = "cell_type_mean"

    def learn(self, context: str) -> ShiftOf:
        """m − c of the type."""
        mean = mean_shift(self.measured.by_context[context] or self.measured.everywhere)
        return lambda _: mean


class Additive(Baseline):
    """Effects of single perturbations add up: c + Σ (x̄ᵢ − c).

    A part never seen alone counts as the average training perturbation, m − c.
    """

    name = "additive"

    def learn(self, context: str) -> ShiftOf:
        """Sum of the parts' shifts."""
        known = self.measured.seen_from(context)
        unknown = mean_shift(known)
        return lambda label: np.sum([known.get(single, unknown) for single in label.singles], axis=0)


class MatchingMean(Baseline):
    """Mean of the centroids of the parts, m for a part never seen alone (Viñas Torné 2025, "Systema")."""

    name = "matching_mean"

    def learn(self, context: str) -> ShiftOf:
        """Mean of the parts' shifts."""
        known = self.measured.seen_from(context)
        unknown = mean_shift(known)
        return lambda label: np.mean([known.get(single, unknown) for single in label.singles], axis=0)


class NearestPerturbationResponse(Baseline):
    """The mean centroid of the training perturbations that share the largest part of the query's genes.

    Nearness is the Jaccard index of the sets of names, whatever the doses; m where nothing is shared.
    """

    name = "nearest_perturbation"

    def learn(self, context: str) -> ShiftOf:
        """Mean shift of the nearest training perturbations."""
        known = self.measured.seen_from(context)
        shifts, names = np.stack(list(known.values())), [set(label.names) for label in known]

        def shift(label: Label) -> GeneVector:
            query = set(label.names)
            shared = np.array([len(query & one) / len(query | one) for one in names])
            return shifts[shared == shared.max()].mean(axis=0)

        return shift


class NearestContext(Baseline):
    """What a perturbation does in the context whose control cells are nearest among those where it was measured.

    A combination that was measured nowhere is the sum of its parts; a part measured nowhere counts as the average
    training perturbation.
    """

    name = "nearest_context"

    def learn(self, context: str) -> ShiftOf:
        """Shift in the nearest context."""
        known: dict[Label, GeneVector] = {}
        for one in self.measured.nearest_first(context):
            known = self.measured.by_context[one] | known
        unknown = mean_shift(known)

        def shift(label: Label) -> GeneVector:
            parts = (label,) if label in known else label.singles
            return np.sum([known.get(part, unknown) for part in parts], axis=0)

        return shift


class SplitHalfReplicate(Baseline):
    """The ceiling: the mean of OTHER measured cells under the very same perturbation.

    Not a competitor: it is fitted on one half of the held-out cells, the goal part of a split, and judged on the
    other.
    """

    name = "split_half_replicate"

    def learn(self, context: str) -> ShiftOf:
        """Measured shift in the replicate.

        Raises:
            DataError: the replicate holds no cell of this perturbation.
        """
        known = self.measured.by_context[context]

        def shift(label: Label) -> GeneVector:
            if label not in known:
                raise DataError(
                    f"the replicate has no cells of '{label}'; fit it on one half of the cells to judge"
                )
            return known[label]

        return shift
