"""What every response model answers: the shift of mean expression under a perturbation, in a context."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Self

import numpy as np
from jaxtyping import Float

from perturbrl.data.labels import Label, Part
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import DataError
from perturbrl.responses.training_cells import Condition, TrainingCells

Evidence = Literal["measured", "combined", "transferred", "prior", "none"]

EVIDENCE: Final[dict[Evidence, str]] = {
    "measured": "cells under this very perturbation, in this context, were measured",
    "combined": "all its perturbations were measured in this context, alone or in combinations",
    "transferred": "all its perturbations were measured, but some only in another context",
    "prior": "some of its perturbations were never measured, but prior knowledge says which are like them, though not "
    "whether they do the opposite",
    "none": "nothing is known of some of its perturbations, of which no more is expected than what all have in common, "
    "with a wide interval",
}

Shifts = Float[np.ndarray, "asked genes"]


@dataclass(frozen=True, eq=False)
class PredictedShifts:
    """What a model says of conditions.

    Attributes:
        mean: ``[asked, genes]`` expected shift of mean log expression from control.
        sd: ``[asked, genes]`` standard deviation of the shift itself, without the noise of any cells that judge it;
            NaN where a model does not tell how sure it is.
        along: ``[asked]`` standard deviation of the shift along its expected direction; NaN likewise.
        evidence: what each rests on.
    """

    mean: Shifts
    sd: Shifts
    along: Float[np.ndarray, " asked"]
    evidence: tuple[Evidence, ...]


class ResponseModel(ABC):
    """A predictor of responses: ``fit`` once, then ``predict`` any perturbation in any context with control cells.

    Predictions do not depend on the order of cells, of queries or of the parts of a combination, and equal calls give
    equal results.

    Attributes:
        name: row of the tables.
    """

    name: ClassVar[str]

    @abstractmethod
    def fit(self, cells: TrainingCells) -> Self:
        """Learn from training cells; cell types, where they are known, are contexts.

        Raises:
            DataError: no context has both control and perturbed cells.
        """

    @property
    @abstractmethod
    def control_counts(self) -> Mapping[str, int]:
        """Training control cells of each context; these contexts can be asked about."""

    @property
    def contexts(self) -> tuple[str, ...]:
        """Contexts that can be asked about: those with control cells."""
        return tuple(sorted(self.control_counts))

    def predict(self, conditions: Sequence[Condition]) -> PredictedShifts:
        """What is expected under conditions, measured ones included.

        Raises:
            DataError: nothing is asked, or a context has no control cells among the training cells.
        """
        if not conditions:
            raise DataError("no perturbation was asked for; name at least one")
        absent = sorted({context for _, context in conditions} - set(self.control_counts))
        if absent:
            raise DataError(
                f"no control cells were measured in the context '{absent[0]}'; choose among "
                f"{', '.join(name or 'the only one' for name in self.contexts)}"
            )
        return self._predict(conditions)

    @abstractmethod
    def _predict(self, conditions: Sequence[Condition]) -> PredictedShifts:
        """The same of conditions that can be asked about."""

    def overall(self, perturbations: Sequence[str]) -> Float[np.ndarray, "perturbations genes"]:
        """Expected shift of each perturbation, mean over the control cells of all contexts."""
        contexts, counts = zip(*sorted(self.control_counts.items()), strict=True)
        asked = [(Label.parse(text), context) for context in contexts for text in perturbations]
        found = self.predict(asked).mean.reshape(len(contexts), len(perturbations), -1)
        return np.average(found, axis=0, weights=counts)


class EvidenceFor:
    """What predictions rest on, from what was measured.

    Args:
        measured: conditions.
        is_like_a_measured_one: whether prior knowledge likens a perturbation to a measured one.
    """

    def __init__(
        self,
        measured: Sequence[Condition],
        is_like_a_measured_one: Callable[[Part], bool] = lambda _: False,
    ) -> None:
        self._measured, self._is_like_a_measured_one = frozenset(measured), is_like_a_measured_one
        self._names_in: dict[str, set[str]] = {}
        for label, context in measured:
            self._names_in.setdefault(context, set()).update(label.names)
        self._names = set().union(*self._names_in.values())

    def __call__(self, condition: Condition) -> Evidence:
        """Evidence for a condition."""
        label, context = condition
        if condition in self._measured:
            return "measured"
        names = set(label.names)
        if names <= self._names_in.get(context, set()):
            return "combined"
        unmeasured = [part for part in label.parts if part.name not in self._names]
        if not unmeasured:
            return "transferred"
        return "prior" if all(map(self._is_like_a_measured_one, unmeasured)) else "none"


def likened_by(priors: Sequence[PriorKnowledge], measured: Sequence[Condition]) -> Callable[[Part], bool]:
    """Whether any of these priors likens a perturbation to a measured one."""
    names = sorted({name for label, _ in measured for name in label.names})
    likens = [prior.likens(names) for prior in priors]
    return lambda part: any(one(part.name) for one in likens)
