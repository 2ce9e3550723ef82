"""The baseline that a second screen is: what the same target did there."""

from collections.abc import Sequence

import numpy as np

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import ConfigurationError
from perturbrl.responses.base import Evidence, EvidenceFor, likened_by
from perturbrl.responses.baselines import Baseline, ShiftOf
from perturbrl.responses.measured_shifts import mean_shift
from perturbrl.responses.training_cells import Condition
from perturbrl.schema import GeneVector


class SameTarget(Baseline):
    """The other screen's shift of the same target; of a combination the sum of its parts'.

    Where the other screen does not know the target, or did not measure the gene, the mean over training perturbations.

    Args:
        reference: the other screen.

    Raises:
        ConfigurationError: it is none.
    """

    name = "same_target"

    def __init__(self, reference: PriorKnowledge) -> None:
        if reference.screen is None:
            raise ConfigurationError(f"{self.name} goes by another screen, and '{reference.source}' is none")
        self.reference, self._screen = reference, reference.screen

    def learn(self, context: str) -> ShiftOf:
        """Shift in the other screen."""
        known = self.measured.seen_from(context)
        unknown = mean_shift(known)
        values = self._screen.of_genes(self.measured.genes)
        there = dict(zip(self.reference.names, values, strict=True))
        in_common = [(there[str(label)], shift) for label, shift in known.items() if str(label) in there]
        scale = self._scale(in_common)
        measured = np.isin(np.array(self.measured.genes), np.array(self._screen.genes))

        def shift(label: Label) -> GeneVector:
            if not set(label.names) <= set(there):
                return unknown
            return np.where(measured, scale * np.sum([there[name] for name in label.names], axis=0), unknown)

        return shift

    def _scale(self, in_common: Sequence[tuple[GeneVector, GeneVector]]) -> float:
        """By which the other screen's shifts are multiplied."""
        return 1.0

    def _evidence(self, conditions: Sequence[Condition]) -> tuple[Evidence, ...]:
        measured = self.measured.conditions
        return tuple(map(EvidenceFor(measured, likened_by([self.reference], measured)), conditions))


class ScaledSameTarget(SameTarget):
    """The same times the factor of least squares over the training perturbations in common; without any, as it is."""

    name = "same_target_scaled"

    def _scale(self, in_common: Sequence[tuple[GeneVector, GeneVector]]) -> float:
        square = sum(float(there @ there) for there, _ in in_common)
        return sum(float(there @ here) for there, here in in_common) / square if square else 1.0
