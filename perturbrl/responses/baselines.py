"""Response predictors that know little: what any model of perturbation responses has to beat.

All of them predict a shift from control, ``delta``; a prediction is the control mean of the cells in question
plus that shift. With the training control this is each baseline's formula as published, and with the control
of another cell type it carries the effect over to that type. A combination is a label such as ``A+B``; the
order of its parts does not matter.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from perturbrl.data.labels import CONTROL, Label
from perturbrl.errors import DataError
from perturbrl.responses.base import ResponseModel
from perturbrl.responses.bilinear_ridge import BilinearRidge
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import GeneVector


class NoOpResponse(ResponseModel):
    """Nothing happens: the control mean."""

    name = "no_op"

    def delta(self, perturbation: str) -> GeneVector:
        """Zero."""
        return np.zeros_like(self.control)


class TrainingMean(ResponseModel):
    """Every perturbation does what the training perturbations do on average: m."""

    name = "training_mean"

    def delta(self, perturbation: str) -> GeneVector:
        """m − c."""
        return self.training_mean - self.control


class RandomPerturbation(ResponseModel):
    """The centroid of a training perturbation drawn at random for each query.

    Args:
        seed: of the draws; the same query gets another one in every call.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def delta(self, perturbation: str) -> GeneVector:
        """x̄ of a random training perturbation − c."""
        drawn = list(self.centroids.values())[self._rng.integers(len(self.centroids))]
        return drawn - self.control


class CellTypeMean(ResponseModel):
    """In each cell type, every perturbation does what the training perturbations do on average in that type.

    Args:
        cell_types: types of the cells in question, one per cell; by default those of the training controls. The
            prediction is the mean over these cells, without those whose type was not measured both with and
            without a perturbation.
    """

    name = "cell_type_mean"

    def __init__(self, cell_types: Sequence[str] | None = None) -> None:
        self.cell_types = cell_types

    def fit(self, cells: TrainingCells) -> "ResponseModel":
        """Learn from the training cells of these types only.

        Raises:
            DataError: there are no cell types, or none in question has a control and a perturbed training cell.
        """
        super().fit(cells)
        if cells.cell_types is None:
            raise DataError(
                "the cell-type mean needs the cell type of every cell; name the column that holds it"
            )
        wanted = cells.control_types if self.cell_types is None else self.cell_types
        measured = cells.types_with_both
        known = [cell_type for cell_type in wanted if cell_type in measured]
        if not known:
            raise DataError(
                f"none of the cell types {sorted(set(wanted))} has both control and perturbed training cells (those "
                f"that have: {sorted(measured)}); leave the cell-type mean out for them"
            )
        share = Counter(known)
        means = [_means_within(cells, cell_type) for cell_type in share]
        self.control, self.training_mean = np.average(means, axis=0, weights=list(share.values()))
        return self

    def delta(self, perturbation: str) -> GeneVector:
        """Mean over the cells in question of m − c of their type."""
        return self.training_mean - self.control


def _means_within(cells: TrainingCells, cell_type: str) -> tuple[GeneVector, GeneVector]:
    """Control mean and mean of the centroids of one cell type."""
    centroids = cells.centroids(among=np.asarray(cells.cell_types) == cell_type)
    control = centroids.pop(CONTROL)
    return control, np.mean(list(centroids.values()), axis=0)


class Additive(ResponseModel):
    """Effects of single perturbations add up: c + Σ (x̄ᵢ − c).

    A part never seen alone counts as the average training perturbation, m − c.
    """

    name = "additive"

    def delta(self, perturbation: str) -> GeneVector:
        """Sum of the parts' shifts."""
        singles = Label.parse(perturbation).singles
        return np.sum([self.centroids.get(single, self.training_mean) for single in singles], axis=0) - (
            len(singles) * self.control
        )


class MatchingMean(ResponseModel):
    """Mean of the centroids of the parts, m for a part never seen alone (Viñas Torné 2025, "Systema")."""

    name = "matching_mean"

    def delta(self, perturbation: str) -> GeneVector:
        """Mean of the parts' shifts."""
        singles = Label.parse(perturbation).singles
        means = [self.centroids.get(single, self.training_mean) for single in singles]
        return np.mean(means, axis=0) - self.control


class NearestPerturbationResponse(ResponseModel):
    """The mean centroid of the training perturbations that share the largest part of the query's genes.

    Nearness is the Jaccard index of the sets of names, whatever the doses; m where nothing is shared.
    """

    name = "nearest_perturbation"

    def delta(self, perturbation: str) -> GeneVector:
        """Mean shift of the nearest training perturbations."""
        query = set(Label.parse(perturbation).names)
        known = [set(label.names) for label in self.centroids]
        shared = np.array([len(query & names) / len(query | names) for names in known])
        if shared.max() == 0:
            return self.training_mean - self.control
        nearest = np.stack(list(self.centroids.values()))[shared == shared.max()]
        return nearest.mean(axis=0) - self.control


class SplitHalfReplicate(ResponseModel):
    """The ceiling: the mean of OTHER measured cells under the very same perturbation.

    Not a competitor: it is fitted on one half of the held-out cells, the goal part of a split, and judged on the
    other.
    """

    name = "split_half_replicate"

    def delta(self, perturbation: str) -> GeneVector:
        """Measured shift in the replicate.

        Raises:
            DataError: the replicate holds no cell of this perturbation.
        """
        label = Label.parse(perturbation)
        if label not in self.centroids:
            raise DataError(
                f"the replicate has no cells of '{perturbation}'; fit it on one half of the cells to judge"
            )
        return self.centroids[label] - self.control


def competitors(cells: TrainingCells, seed: int = 0) -> tuple[ResponseModel, ...]:
    """Every baseline that needs nothing but these training cells, unfitted; the rows of every response table.

    The cell-type mean is one of them where several types were measured with and without perturbation.
    """
    typed = (CellTypeMean(),) if len(cells.types_with_both) > 1 else ()
    return (
        NoOpResponse(),
        RandomPerturbation(seed),
        TrainingMean(),
        *typed,
        Additive(),
        MatchingMean(),
        BilinearRidge(),
        NearestPerturbationResponse(),
    )
