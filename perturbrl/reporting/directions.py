"""What a dose does to a gene: in a knock-out screen a positive dose means that the gene goes down."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from perturbrl.data.senses import sense_of
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.evaluation.hits import Hit
from perturbrl.reporting.report_text import AS_MEASURED, REVERSED
from perturbrl.schema import PERTURBATION_TYPE_OBS
from perturbrl.twins.base import DigitalTwin

_WORDS: Final[dict[int, Mapping[str, str]]] = {
    1: {},
    -1: {"up": "down", "down": "up"},
    0: {"up": AS_MEASURED, "down": REVERSED},
}


def in_words(cells: MeasuredCells | None, twin: DigitalTwin, hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
    """Hits with the sign of the dose in terms of the gene, as far as the twin or the data tell.

    What a dose of 1 does is read from the scPerturb column ``perturbation_type``, where the twin does not say. Where
    neither does, only ``as measured`` and ``reversed`` are certain.
    """
    if cells is None:
        return hits
    told = dict(zip(twin.perturbations.names, twin.senses, strict=False))
    obs = cells.dataset.adata.obs
    sense = sense_of(obs[PERTURBATION_TYPE_OBS]) if PERTURBATION_TYPE_OBS in obs else 0
    return tuple(
        replace(hit, direction=_WORDS[told.get(hit.perturbation) or sense].get(hit.direction, hit.direction))
        for hit in hits
    )
