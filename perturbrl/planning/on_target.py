"""What the expression of a gene says of whether it was itself perturbed.

A knock-out or an activation changes the transcript of its own gene, alike in many perturbations, and no similarity
between perturbations tells that: each has a gene of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student_t

from perturbrl.responses.moments import Moments
from perturbrl.schema import GeneVector

FEWEST: Final = 3

Values = Float[np.ndarray, " values"]


def on_target_evidence(
    moments: Moments, genes: Sequence[str], shift: GeneVector, n_cells: int
) -> Mapping[str, float]:
    """Log Bayes factor, by gene, of its own perturbation having been there, for genes that nobody perturbed.

    Shifts count in units of how cells vary in the gene. What perturbations that were measured alone did to their own
    genes tells what to expect of another one, and what all others did to the gene what else may have shifted it; both
    as Student's t for one more draw.

    Args:
        moments: of the training cells.
        genes: of the columns.
        shift: ``[genes]`` of the goal's mean expression from control.
        n_cells: cells of the goal.

    Returns:
        Mapping[str, float]: nothing where fewer than ``FEWEST`` perturbations of measured genes were measured alone,
        or
            another screen's shifts are taken off.

    Source: the posterior predictive of a normal sample (Gelman 2013, Bayesian Data Analysis, 3.2).
    """
    column = {gene: i for i, gene in enumerate(genes)}
    unit = np.sqrt(np.maximum(moments.gene_variance, np.finfo(float).tiny))
    shifts, wanted = moments.shifts / unit, shift / unit
    alone = [
        (row, label.names[0]) for row, (label, _) in enumerate(moments.conditions) if len(label.names) == 1
    ]
    own = np.array([shifts[row, column[name]] for row, name in alone if name in column])
    if len(own) < FEWEST or moments.transfer is not None:
        return {}
    perturbed = {name for label, _ in moments.conditions for name in label.names}
    varies = moments.gene_variance > 0
    return {
        gene: _log_density(wanted[i], own, n_cells) - _log_density(wanted[i], shifts[:, i], n_cells)
        for gene, i in column.items()
        if gene not in perturbed and varies[i]
    }


def _log_density(value: float, like: Values, n_cells: int) -> float:
    """Of one more draw of what these are draws of, seen with the noise of so many cells."""
    n = len(like)
    scale = np.sqrt(like.var(ddof=1) * (1 + 1 / n) + 1 / n_cells)
    return float(student_t.logpdf(value, n - 1, like.mean(), scale))
