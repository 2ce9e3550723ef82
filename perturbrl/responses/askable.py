"""Everything that a fitted model can be asked where nobody asks anything in particular."""

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import Final

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import Label, Part
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.kriging import Kriging

MOST_PAIRS: Final = 500
MOST_UNMEASURED: Final = 2000  # over all contexts
_AT_ONCE: Final = 256  # names compared with all measured ones at a time
_DIGITS: Final = 9  # beyond which a similarity is rounding, which would decide between equals


def everything(model: Kriging, dataset: PerturbationDataset) -> tuple[list[str], tuple[str, ...]]:
    """Queries, and what was left out of them, in sentences.

    Measured labels, held out or not; names that were never measured and that prior knowledge likens to a learned one,
    the most alike first; pairs of perturbations that were measured alone.

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
    ordered = most_alike_first(model.priors, learned, known)
    most = MOST_UNMEASURED // len(model.contexts)
    return ordered[:most], (_cut_off(len(ordered), most),) if len(ordered) > most else ()


def most_alike_first(
    priors: Sequence[PriorKnowledge], learned: Sequence[str], known: Collection[str]
) -> list[str]:
    """Names that are not ``known`` and that prior knowledge likens to a learned one, by what each is most like."""
    alike: dict[str, float] = {}
    for prior in priors:
        names = [name for name in prior.names if name not in known and Label.parse(name) == name]
        for name, similarity in _likeness(prior, names, learned):
            alike[name] = max(similarity, alike.get(name, 0.0))
    return sorted((name for name in alike if alike[name] > 0), key=lambda name: (-alike[name], name))


def _likeness(
    prior: PriorKnowledge, names: Sequence[str], learned: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """Each name's similarity to what it is most like."""
    for some in (names[i : i + _AT_ONCE] for i in range(0, len(names), _AT_ONCE)):
        largest = prior.similarity(some, learned).max(axis=1, initial=0.0)
        yield from zip(some, largest.round(_DIGITS).tolist(), strict=True)


def _cut_off(n_names: int, n_asked: int) -> str:
    left = n_names - n_asked
    return (
        f"{left} more unmeasured perturbation{'s' if left > 1 else ''} could be asked about: the {n_asked} asked of "
        f"{n_names} {'is' if n_asked == 1 else 'are'} what prior knowledge likens most to measured ones; name others "
        "with --data.queries."
    )


def _pairs(dataset: PerturbationDataset) -> tuple[list[str], tuple[str, ...]]:
    pairs = unmeasured_pairs(dataset)
    if len(pairs) > MOST_PAIRS:
        return [], (
            f"{len(pairs)} pairs of measured perturbations are more than {MOST_PAIRS}, so none is asked about; name "
            "those of interest with --data.queries.",
        )
    return [str(pair) for pair in pairs], ()


def unmeasured_pairs(dataset: PerturbationDataset) -> list[Label]:
    """Pairs of perturbations measured alone that were not measured, at the largest dose of each."""
    largest: dict[str, Part] = {}
    for label in dataset.singles:
        part = label.parts[0]
        if part.name not in largest or (part.dose or 0.0) > (largest[part.name].dose or 0.0):
            largest[part.name] = part
    measured = set(dataset.perturbations)
    return [pair for pair in map(Label, combinations(largest.values(), 2)) if pair not in measured]
