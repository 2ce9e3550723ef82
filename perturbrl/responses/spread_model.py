"""What perturbations do to the spread of cells, learned from training cells and said of any perturbation.

Three things beside the mean change how cells vary. Their depth changes: kriging tells it like any other shift, from
the size factors. Cells respond unequally, so what is added to a gene that rises is dispersed: one number per gene,
found from the variances of training populations in which it rises, shrunk to those of other genes. And some cells
escape: see ``escape``.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Self

import numpy as np
from jaxtyping import Float, Int

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.counted_cells import CountedCells, counted_cells
from perturbrl.responses.escape import escaped_shares
from perturbrl.responses.grid_shrinkage import GridShrinkage
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.measured_spread import MeasuredSpread, measured_spreads
from perturbrl.responses.spread import ResponseSpread, Share, mixed_moments
from perturbrl.responses.training_cells import Condition, TrainingCells
from perturbrl.schema import CellIndex, GeneVector

_DISPERSIONS: Final = np.array([0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0])


class SpreadModel:
    """The spread of responses (see the module).

    Args:
        priors: sources of similarity between perturbations, by which depth is predicted.

    Attributes:
        dispersion: of each gene, see ``ResponseSpread``; known after ``fit``.
    """

    dispersion: GeneVector

    def __init__(self, priors: Sequence[PriorKnowledge] = ()) -> None:
        # Another screen foretells shifts of genes, and depth is none of them.
        self.priors = tuple(replace(prior, screen=None) for prior in priors)

    def fit(self, cells: CountedCells, labels: Sequence[str], contexts: Sequence[str] | None = None) -> Self:
        """Learn from training cells.

        Args:
            cells: control and perturbed cells.
            labels: one per cell, see ``TrainingCells``.
            contexts: one per cell, where there are several.

        Raises:
            DataError: see ``TrainingCells``.
        """
        logarithm = np.log(cells.size_factors)[:, None]
        sizes = TrainingCells(logarithm, labels, ("log size factor",), contexts)
        populations = measured_spreads(cells, *sizes.conditions)
        self._depth = Kriging(self.priors).fit(sizes) if np.ptp(logarithm) > 0 else None
        n_genes = cells.counts.shape[1]
        own, self._elsewhere = escaped_shares(populations, n_genes)
        self._escaped = {one.condition: share for one, share in zip(populations, own, strict=True)}
        self.dispersion = _dispersions(populations, own, n_genes)
        return self

    def predict(self, conditions: Sequence[Condition]) -> list[ResponseSpread]:
        """The spread of each condition, measured or not.

        Raises:
            DataError: see ``Kriging``.
        """
        depths = np.ones(len(conditions))
        if self._depth is not None:
            depths = np.exp(self._depth.predict(conditions).mean[:, 0])
        escaped = [self._escaped.get(condition, self._elsewhere) for condition in conditions]
        return [
            ResponseSpread(depth, self.dispersion, share)
            for depth, share in zip(depths.tolist(), escaped, strict=True)
        ]


def spreads_under(
    conditions: Sequence[Condition],
    dataset: PerturbationDataset,
    rows: CellIndex,
    genes: Sequence[str],
    priors: Sequence[PriorKnowledge] = (),
) -> list[ResponseSpread]:
    """What some cells of a data set say of the spread under conditions.

    Args:
        conditions: measured or not.
        dataset: the cells.
        rows: those that are learned from, control cells among them.
        genes: that the spread is told of.
        priors: sources of similarity between perturbations.

    Raises:
        DataError: the data are no counts, or see ``SpreadModel``.
    """
    counted, labels = counted_cells(dataset, rows, genes), list(dataset.labels[rows])
    contexts = list(dataset.cell_types[rows]) if dataset.fields.cell_type_key else None
    return SpreadModel(priors).fit(counted, labels, contexts).predict(conditions)


def _dispersions(populations: Sequence[MeasuredSpread], escaped: Sequence[Share], n_genes: int) -> GeneVector:
    """Posterior mean of each gene's dispersion, that of all genes for one that never rose."""
    told = np.zeros((n_genes, len(_DISPERSIONS)))
    rose = np.zeros(n_genes, dtype=bool)
    for population, share in zip(populations, escaped, strict=True):
        genes = np.flatnonzero(population.rises)
        told[genes] += _log_likelihoods(population, share, genes)
        rose |= population.rises
    shrunk = GridShrinkage.of(told[rose])
    found = np.full(n_genes, shrunk.beforehand @ _DISPERSIONS)
    found[rose] = shrunk.afterwards @ _DISPERSIONS
    return found


def _log_likelihoods(
    population: MeasuredSpread, escaped: Share, genes: Int[np.ndarray, " some"]
) -> Float[np.ndarray, "some points"]:
    """How well each dispersion tells the measured variance; log variances are nearly Gaussian."""
    # All at once: a calibration of few genes takes hardly less time than one of many.
    n, every = len(_DISPERSIONS), np.tile(genes, len(_DISPERSIONS))
    spread = ResponseSpread(population.depth, np.repeat(_DISPERSIONS, len(genes)), escaped)
    variance = mixed_moments(population.controls.columns(every), population.shift[every], spread)[1]
    away = np.log(population.variance[every]) - np.log(variance)
    return np.reshape(-0.5 * np.square(away) / population.noise[every], (n, -1)).T
