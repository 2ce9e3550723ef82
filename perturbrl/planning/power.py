"""How many cells, or repeats, show an effect that is expected."""

from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

LEVEL: Final = 0.05
POWER: Final = 0.8
IN_WORDS: Final = f"two-sided z test at a level of {LEVEL:.0%} with a power of {POWER:.0%}".replace("%", " %")


def needed(
    effects: Float[np.ndarray, " candidates"],
    variances: Float[np.ndarray, " candidates"],
    others: Float[np.ndarray, " candidates"],
    level: float = LEVEL,
    power: float = POWER,
) -> Float[np.ndarray, " candidates"]:
    """Cells of each candidate whose mean shows its effect, as a whole number; infinite where no number would.

    With n cells the estimate has variance v/n + o, and a two-sided z test sees an effect e with the wanted power where
    e is (z of the level + z of the power) standard deviations; the far tail is left out.

    Args:
        effects: expected sizes.
        variances: of a single cell along the effect.
        others: variance that more cells do not lower, such as of the control cells' mean.
        level: of the test.
        power: wanted.
    """
    reach = float(norm.isf(level / 2) + norm.ppf(power))
    room = np.square(effects / reach) - others
    with np.errstate(divide="ignore"):
        found = np.ceil(np.where(room > 0, variances / np.where(room > 0, room, 1.0), np.inf))
    return np.maximum(found, 1.0)
