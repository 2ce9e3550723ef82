"""Whether a dose raises or lowers the gene that a perturbation is named after."""

from typing import Final

import pandas as pd

# Beginnings of what scPerturb and others write, in lower case; the first that fits counts.
_RAISES: Final = (
    "crispra",
    "crispr activation",
    "crispr-activation",
    "overexpression",
    "over-expression",
    "orf",
    "cdna",
)
_LOWERS: Final = ("crispr", "cas9", "cas13", "knock", "ko", "kd", "rnai", "sirna", "shrna")
_NOTHING: Final = {"control", "none", "nan", "non-targeting", ""}


def sense_of(kinds: pd.Series) -> int:
    """1 where all perturbations raise their gene, -1 where all lower it, 0 where that is not known.

    Args:
        kinds: what the scPerturb column ``perturbation_type`` says.
    """
    named = {str(kind).casefold() for kind in kinds.dropna().unique()} - _NOTHING
    if not named:
        return 0
    if all(kind.startswith(_RAISES) for kind in named):
        return 1
    return -1 if all(kind.startswith(_LOWERS) and not kind.startswith(_RAISES) for kind in named) else 0
