"""Everything that a fitted model can be asked where nobody asks anything in particular."""

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import Label, Part
from perturbrl.responses.kriging import Kriging

MOST_PAIRS: Final = 500
MOST_UNMEASURED: Final = 2000  # over all contexts


def everything(model: Kriging, dataset: PerturbationDataset) -> tuple[list[str], tuple[str, ...]]:
    """Queries, and what was left out of them, in sentences.

    Measured labels, held out or not; names that were never measured and that prior knowledge likens to a learned one,
    genes of the data first; pairs of perturbations that were measured alone.

    Args:
        model: fitted.
        dataset: the cells.
    """
    learned = sorted({name for label, _ in model.moments.conditions for name in label.names})
    measured = [str(label) for label in dataset.perturbations]
    unmeasured, without_names = _unmeasured(model, dataset, learned)
    pairs, without_pairs = _pairs(dataset)
    return [*measured, *unmeasured, *pairs], (*without_names, *without_pairs)


def _unmeasured(
    model: Kriging, dataset: PerturbationDataset, learned: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    known = {name for label in dataset.perturbations for name in label.names}
    alike: set[str] = set()
    for prior in model.priors:
        names = [name for name in prior.names if name not in known and Label.parse(name) == name]
        near = np.flatnonzero(prior.similarity(names, learned).max(axis=1, initial=0.0) > 0)
        alike |= {names[i] for i in near}
    genes = set(dataset.genes)
    ordered = sorted(alike, key=lambda name: (name not in genes, name))
    most = MOST_UNMEASURED // len(model.contexts)
    left = len(ordered) - most
    said = (
        f"{left} more names of prior knowledge could be asked about; name those of interest with --data.queries",
    )
    return ordered[:most], said if left > 0 else ()


def _pairs(dataset: PerturbationDataset) -> tuple[list[str], tuple[str, ...]]:
    """At the largest dose of each, where there are doses."""
    largest: dict[str, Part] = {}
    for label in dataset.singles:
        part = label.parts[0]
        if part.name not in largest or (part.dose or 0.0) > (largest[part.name].dose or 0.0):
            largest[part.name] = part
    pairs = [Label(pair) for pair in combinations(largest.values(), 2)]
    if len(pairs) > MOST_PAIRS:
        return [], (
            f"{len(pairs)} pairs of measured perturbations are more than {MOST_PAIRS}, so none is asked about; name "
            "those of interest with --data.queries",
        )
    measured = set(dataset.perturbations)
    return [str(pair) for pair in pairs if pair not in measured], ()
