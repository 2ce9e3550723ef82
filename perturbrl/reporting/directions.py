"""What a dose does to a gene: in a knock-out screen a positive dose means that the gene goes down."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pandas as pd

from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.evaluation.hits import Hit
from perturbrl.reporting.report_text import AS_MEASURED, REVERSED
from perturbrl.schema import PERTURBATION_TYPE_OBS

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


def in_words(cells: MeasuredCells | None, hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
    """Hits with the sign of the dose in terms of the gene, as far as the data tell.

    What a dose of 1 does is read from the scPerturb column ``perturbation_type``. Where it does not say, only
    ``as measured`` and ``reversed`` are certain.
    """
    words = {} if cells is None else _directions(cells)
    return tuple(replace(hit, direction=words.get(hit.direction, hit.direction)) for hit in hits)


def _directions(cells: MeasuredCells) -> Mapping[str, str]:
    obs = cells.dataset.adata.obs
    sense = sense_of(obs[PERTURBATION_TYPE_OBS]) if PERTURBATION_TYPE_OBS in obs else 0
    return {1: {}, -1: {"up": "down", "down": "up"}, 0: {"up": AS_MEASURED, "down": REVERSED}}[sense]


def sense_of(kinds: pd.Series) -> int:
    """1 where all perturbations raise their gene, -1 where all lower it, 0 where that is not known."""
    named = {str(kind).casefold() for kind in kinds.dropna().unique()} - _NOTHING
    if not named:
        return 0
    if all(kind.startswith(_RAISES) for kind in named):
        return 1
    return -1 if all(kind.startswith(_LOWERS) and not kind.startswith(_RAISES) for kind in named) else 0
