"""Whether intervals hold what they promise."""

import numpy as np
from scipy.stats import norm

from perturbrl.schema import GeneVector


def held_share(
    mean: GeneVector, sd: GeneVector, measured: GeneVector, noise: GeneVector, level: float
) -> float:
    """Share of genes whose measured shift a central interval holds, the judge's sampling noise included.

    Genes that no cell of the judge expresses say nothing, for any interval holds their shift of 0, and are not counted.

    Args:
        mean: expected shift.
        sd: of the shift itself; NaN where the model does not tell how sure it is.
        measured: what judges.
        noise: its sampling variance.
        level: that the interval promises.

    Returns:
        float: NaN where no gene is counted.
    """
    counted = ((noise > 0) | (measured != 0)) & np.isfinite(sd)
    if not counted.any():
        return np.nan
    half = norm.ppf((1 + level) / 2) * np.sqrt(np.square(sd) + noise)
    return float((np.abs(mean - measured) <= half)[counted].mean())
