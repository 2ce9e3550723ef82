"""What every response model answers: the shift of mean expression under a perturbation."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from perturbrl.data.labels import CONTROL, Label
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import GeneVector


class ResponseModel(ABC):
    """A predictor of mean responses: ``fit`` once, then ``predict`` any perturbation.

    Attributes:
        name: row of the tables.
        control: mean expression of the training control cells, known after ``fit``.
        centroids: mean expression of each training perturbation, known after ``fit``.
        training_mean: m, the mean of these centroids.
    """

    name: ClassVar[str]
    control: GeneVector
    centroids: dict[Label, GeneVector]
    training_mean: GeneVector

    def fit(self, cells: TrainingCells) -> "ResponseModel":
        """Learn from training cells."""
        self._take(cells.centroids())
        return self

    def _take(self, centroids: dict[Label, GeneVector]) -> None:
        self.control = centroids[CONTROL]
        self.centroids = {label: mean for label, mean in centroids.items() if not label.is_control}
        self.training_mean = np.mean(list(self.centroids.values()), axis=0)

    @abstractmethod
    def delta(self, perturbation: str) -> GeneVector:
        """Predicted shift of the mean from control."""

    def predict(
        self, perturbations: Sequence[str], control: GeneVector | None = None
    ) -> Float[np.ndarray, "perturbations genes"]:
        """Predicted mean expression of each perturbation.

        Args:
            perturbations: labels.
            control: mean of the control cells in question; the training control by default.
        """
        start = self.control if control is None else control
        return np.stack([start + self.delta(perturbation) for perturbation in perturbations])
