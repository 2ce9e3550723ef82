"""Validated pairs of measured and predicted responses, the one input of every response metric.

A prediction is its shift from control, and cells where the predictor emits them. Two rules keep noise from
passing for skill: a correlation of shifts compares the predicted shift, which counts from the control that the
predictor learned from, with a difference of held-out means, so the two share no control cell; and an error
compares the predictor's control plus shift with the held-out cells.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from perturbrl.errors import DataError
from perturbrl.evaluation.de_metrics import DifferentialExpression, differential_expression, top_genes
from perturbrl.evaluation.metrics import CallScores, Means, call_scores
from perturbrl.schema import GeneVector, LogExpression

TOP_GENES: Final = 20
FEWEST_TARGET: Final = 4
FEWEST_CONTROL: Final = 2


class CellsOnDemand(Mapping[str, LogExpression]):
    """Log-normalised cells by label, made when they are asked for, so that one label at a time is in memory.

    Args:
        labels: what can be asked for.
        make: the cells of a label.
    """

    def __init__(self, labels: Iterable[str], make: Callable[[str], LogExpression]) -> None:
        self._labels, self._make = tuple(labels), make

    def __getitem__(self, label: str) -> LogExpression:
        if label not in self._labels:
            raise KeyError(label)
        return self._make(label)

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


@dataclass(frozen=True, eq=False)
class MeasuredResponses:
    """Cells that nothing was learned from, under one perturbation or many: the judges.

    Attributes:
        genes: name of each column.
        control: ``[cells, genes]`` log-normalised control cells.
        cells: the same for each perturbation.
        panel: measured shift from control of further perturbations, which are not judged; a prediction has to be
            told from them, too.

    Raises:
        DataError: no perturbation, fewer than four of its cells or two of control, or widths that differ.
    """

    genes: tuple[str, ...]
    control: LogExpression
    cells: Mapping[str, LogExpression]
    panel: Mapping[str, GeneVector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.cells:
            raise DataError("there are only control cells; add cells of at least one perturbation")
        self._check("control", self.control, FEWEST_CONTROL)
        self._check_width(*self.panel.items())

    def _check(self, label: str, cells: LogExpression, fewest: int) -> None:
        if len(cells) < fewest:
            raise DataError(
                f"{len(cells)} held-out cells of {label} cannot judge a predicted response; hold out at least "
                f"{FEWEST_TARGET} of a perturbation and {FEWEST_CONTROL} of control"
            )
        self._check_width((label, cells))

    def _check_width(self, *values: tuple[str, np.ndarray]) -> None:
        for label, value in values:
            if value.shape[-1] != len(self.genes):
                raise DataError(
                    f"{label} has {value.shape[-1]} genes and {len(self.genes)} have names; give the same ones"
                )

    @property
    def perturbations(self) -> tuple[str, ...]:
        """What is judged, the rows of every table."""
        return tuple(self.cells)

    @cached_property
    def means(self) -> Mapping[str, GeneVector]:
        """Mean log expression under each perturbation."""
        means = {}
        for label, cells in self.cells.items():
            self._check(label, cells, FEWEST_TARGET)
            means[label] = cells.mean(axis=0, dtype=np.float64)
        return means

    @cached_property
    def control_mean(self) -> GeneVector:
        """Mean log expression of control cells."""
        return self.control.mean(axis=0, dtype=np.float64)

    @property
    def shifts(self) -> Mapping[str, GeneVector]:
        """Measured shift of the mean from control."""
        return {label: mean - self.control_mean for label, mean in self.means.items()}

    @cached_property
    def tests(self) -> Mapping[str, DifferentialExpression]:
        """Rank-sum test of each perturbation against control."""
        return {label: differential_expression(cells, self.control) for label, cells in self.cells.items()}


@dataclass(frozen=True, eq=False)
class PredictedResponses:
    """What one predictor says.

    Attributes:
        shifts: predicted shift of the mean from control by perturbation.
        control: mean log expression that the shifts count from, of the control cells the predictor learned from.
        cells: predicted cells, log-normalised; ``None`` where it predicts means alone.
    """

    shifts: Mapping[str, GeneVector]
    control: GeneVector
    cells: Mapping[str, LogExpression] | None = None


@dataclass(frozen=True, eq=False)
class PairedMeans:
    """Predicted and measured means, one row each, for the metrics of means.

    Attributes:
        predicted_shift: ``[rows, genes]`` predicted shifts.
        predicted_control: what they count from.
        real: ``[rows, genes]`` measured means.
        real_control: measured mean of control, one for all rows or one per row.
        training_mean: mean of the centroids of the training perturbations.
        top: ``[rows, k]`` the genes that change most surely in measured cells.
    """

    predicted_shift: Means
    predicted_control: GeneVector
    real: Means
    real_control: Float[np.ndarray, "_ genes"]
    training_mean: GeneVector
    top: Int[np.ndarray, "perturbations k"]

    @property
    def predicted(self) -> Means:
        """Predicted means."""
        return self.predicted_control + self.predicted_shift

    @property
    def real_shift(self) -> Means:
        """Measured shifts from control."""
        return self.real - self.real_control

    def against(self, real: LogExpression, control: LogExpression) -> "PairedMeans":
        """The one prediction of this pair against several measured means and control means, row by row."""
        rows = max(len(real), len(control))
        return replace(
            self,
            predicted_shift=np.repeat(self.predicted_shift, rows, axis=0),
            real=np.broadcast_to(real, (rows, real.shape[1])),
            real_control=control,
            top=np.repeat(self.top, rows, axis=0),
        )


@dataclass(frozen=True, eq=False)
class PairedCells:
    """Predicted and measured cells of one perturbation, for the metrics of populations.

    Attributes:
        predicted: ``[cells, genes]``.
        real: ``[cells, genes]``; the numbers may differ.
        control: MEASURED control cells, for both sides: a predictor must not look good by shifting its control.
        real_test: rank-sum test of ``real`` against ``control``.
    """

    predicted: LogExpression
    real: LogExpression
    control: LogExpression
    real_test: DifferentialExpression

    @cached_property
    def predicted_test(self) -> DifferentialExpression:
        """Rank-sum test of the predicted cells against control."""
        return differential_expression(self.predicted, self.control)

    @cached_property
    def calls(self) -> CallScores:
        """Agreement of the significant up and down calls."""
        return call_scores(self.predicted_test.calls(), self.real_test.calls())


@dataclass(frozen=True, eq=False)
class ResponsePair:
    """One predictor against the measured responses, checked once.

    Attributes:
        measured: the judges.
        predicted: the prediction, of the same perturbations and genes.
        training_mean: mean of the centroids of the TRAINING perturbations, log expression.

    Raises:
        DataError: perturbations or genes differ, or a predicted value is not finite.
    """

    measured: MeasuredResponses
    predicted: PredictedResponses
    training_mean: GeneVector

    def __post_init__(self) -> None:
        self._check_perturbations(self.predicted.shifts)
        if self.predicted.cells is not None:
            self._check_perturbations(self.predicted.cells)
        for label, shift in self.predicted.shifts.items():
            if shift.shape != (len(self.measured.genes),) or not np.isfinite(shift).all():
                raise DataError(
                    f"the predicted shift of {label} has {len(shift)} values, {int(np.isfinite(shift).sum())} of them "
                    f"finite, for {len(self.measured.genes)} genes; give one finite value per gene"
                )

    def _check_perturbations(self, predicted: Iterable[str]) -> None:
        a, b = set(self.measured.cells), set(predicted)
        if a != b:
            raise DataError(
                f"perturbations differ: {sorted(a - b)[:5]} were measured and not predicted, {sorted(b - a)[:5]} "
                "predicted and not measured; cut both to the same ones"
            )

    @cached_property
    def means(self) -> PairedMeans:
        """All perturbations, one row each, in the order of ``measured.perturbations``."""
        labels = self.measured.perturbations
        k = min(TOP_GENES, len(self.measured.genes))
        return PairedMeans(
            predicted_shift=np.stack([self.predicted.shifts[label] for label in labels]),
            predicted_control=self.predicted.control,
            real=np.stack([self.measured.means[label] for label in labels]),
            real_control=self.measured.control_mean[None],
            training_mean=self.training_mean,
            top=np.stack([top_genes(self.measured.tests[label], k) for label in labels]),
        )

    def means_of(self, label: str) -> PairedMeans:
        """The row of one perturbation."""
        row = [self.measured.perturbations.index(label)]
        every = self.means
        return replace(
            every, predicted_shift=every.predicted_shift[row], real=every.real[row], top=every.top[row]
        )

    def cells(self, label: str) -> PairedCells | None:
        """The populations of one perturbation; ``None`` where no cells are predicted."""
        if self.predicted.cells is None:
            return None
        measured = self.measured
        return PairedCells(
            self.predicted.cells[label], measured.cells[label], measured.control, measured.tests[label]
        )
