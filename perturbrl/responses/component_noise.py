"""What of measured shifts is sampling noise along their principal components, and what lies outside of these."""

import numpy as np
from jaxtyping import Float

from perturbrl.responses.moments import Moments
from perturbrl.schema import GeneVector


def noise_variance(moments: Moments) -> Float[np.ndarray, " components"]:
    """A cell's variance along each component.

    Components are directions in which the measured shifts lie, sampling noise included. Where shifts are noise, few of
    them hold the noise of every gene, and not just their own: what their own lacks is shared out among them. The more
    of a component is effect, the less of other genes' noise turns it their way.
    """
    own, every = moments.component_variance, float(moments.gene_variance.sum())
    size = np.square(moments.noise.whiten(moments.shifts @ moments.components.T)).sum(axis=0)
    lacking = max(every - float(own.sum()), 0.0) / len(own)
    return own + lacking * np.minimum(1.0, every / size)


def outside_variance(moments: Moments) -> GeneVector:
    """Variance by gene of what a new shift has outside of the span of the others, sampling noise taken off.

    Each measured shift is compared with the span of all others (the hat-matrix identity of leave-one-out residuals).
    More shifts than genes span all that there is.
    """
    shifts = moments.shifts
    if len(shifts) > shifts.shape[1]:
        return np.zeros(shifts.shape[1])
    gram = shifts @ shifts.T
    scale = float(np.trace(gram)) / len(gram)
    inverse = np.linalg.inv(gram + 1e-9 * max(scale, np.finfo(float).tiny) * np.eye(len(gram)))
    combination = inverse / np.diag(inverse)[:, None]
    noise = moments.noise.of_sums(combination)
    return (
        (np.square(combination @ shifts) - noise[:, None] * moments.gene_variance).mean(axis=0).clip(min=0.0)
    )
