"""Which experiments may be chosen: those that are named, or all that the data let one ask about."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from perturbrl.data.candidate_names import CandidateNames
from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import Label
from perturbrl.errors import ConfigurationError, DataError, listed
from perturbrl.responses.askable import most_alike_first, unmeasured_pairs
from perturbrl.responses.base import likened_by
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.questions import Asked, Known, questions

MOST_CANDIDATES: Final = 600
_NAMED: Final = 5


def candidates_of(
    given: str | Sequence[str] | None,
    model: Kriging,
    dataset: PerturbationDataset,
    known: Known,
    *,
    combinations_only: bool,
) -> tuple[list[Asked], tuple[str, ...]]:
    """Conditions that nobody measured, and what was left out of them, in sentences.

    Args:
        given: names, or a file of one a line, of which those that are measured or unknown are left out; ``None`` takes
            perturbations that prior knowledge likens to measured ones and pairs of those measured alone.
        model: fitted.
        dataset: the cells.
        known: what may be asked about.
        combinations_only: whether singles are none.

    Raises:
        DataError: a name is unknown, measured already, or no combination where combinations are asked for; there is no
            candidate; or nothing is known of any of them.
        ConfigurationError: see ``CandidateNames``.
    """
    allowed = None if given is None else CandidateNames.of(given)
    names, notes = (
        _by_default(model, dataset, combinations_only) if allowed is None else _named(allowed, known)
    )
    if combinations_only and (singles := [name for name in names if not Label.parse(name).is_combination]):
        raise DataError(
            f"{listed(singles, _NAMED)} among the candidates is no combination, and only combinations have an "
            "interaction; write A+B"
        )
    asked = questions(names, known) if names else []
    measured = set(model.moments.conditions)
    done = [one.text for one in asked if one.condition in measured]
    if done and allowed is not None and allowed.file is None:
        raise DataError(
            f"{listed(done, _NAMED)} among the candidates is measured already, and measuring it again would be a "
            "replicate; leave it out of candidates"
        )
    if done and allowed is not None:
        notes = (*notes, f"{len(done)} candidates of '{allowed.file}' are measured already and left out")
    new = [one for one in asked if one.condition not in measured]
    _require_some(new, len(done))
    return new, (*notes, *_known_little(new, model))


def _named(allowed: CandidateNames, known: Known) -> tuple[list[str], tuple[str, ...]]:
    """Of a file those that are known; who names one in a list means it."""
    if allowed.file is None:
        return list(allowed.names), ()
    askable = [
        name
        for name in allowed.names
        if name in known.measured or all(part in known.names for part in Label.parse(name).names)
    ]
    lost = len(allowed.names) - len(askable)
    if not askable:
        raise ConfigurationError(
            f"none of the {len(allowed.names)} candidates of '{allowed.file}' is known "
            f"({listed(allowed.names, _NAMED)}); give symbols of the same species, in the same case"
        )
    return askable, (f"{lost} candidates of '{allowed.file}' are not known and left out",) if lost else ()


def _by_default(
    model: Kriging, dataset: PerturbationDataset, combinations_only: bool
) -> tuple[list[str], tuple[str, ...]]:
    """The likest to measured ones first, pairs by the size of both effects; so many that all can be compared."""
    most = MOST_CANDIDATES // len(model.contexts)
    singles: list[str] = []
    if not combinations_only:
        learned = sorted({name for label, _ in model.moments.conditions for name in label.names})
        taken = {name for label in dataset.perturbations for name in label.names}
        singles = most_alike_first(model.priors, learned, taken)
    pairs = _strongest_first(model, unmeasured_pairs(dataset))
    n_singles = min(len(singles), max(most // 2, most - len(pairs)))
    kept = [*singles[:n_singles], *pairs[: most - n_singles]]
    lost = len(singles) + len(pairs) - len(kept)
    if not lost:
        return kept, ()
    return kept, (
        f"{len(kept):,} of {len(singles) + len(pairs):,} candidates are compared: those that prior knowledge likens "
        "most to measured ones, and pairs of the largest effects; name others with candidates",
    )


def _strongest_first(model: Kriging, pairs: Sequence[Label]) -> list[str]:
    sizes: dict[str, float] = {}
    lengths = np.linalg.norm(model.moments.shifts, axis=1).tolist()
    for (label, _), length in zip(model.moments.conditions, lengths, strict=True):
        sizes[str(label)] = max(length, sizes.get(str(label), 0.0))
    size = {pair: float(np.prod([sizes.get(str(one), 0.0) for one in pair.singles])) for pair in pairs}
    return [str(pair) for pair in sorted(pairs, key=lambda pair: (-size[pair], str(pair)))]


def _require_some(candidates: Sequence[Asked], n_measured: int) -> None:
    if not candidates:
        why = f"all {n_measured} are measured already" if n_measured else "the data let one ask about none"
        raise DataError(
            f"there is no candidate: {why}; name perturbations or combinations with candidates, or give prior "
            "knowledge (gene_sets, edges, features) that knows more"
        )


def _known_little(candidates: Sequence[Asked], model: Kriging) -> tuple[str, ...]:
    """A note where prior knowledge likens candidates to measured ones and measured ones show that it does not help."""
    conditions = [one.condition for one in candidates]
    if set(model.predict(conditions).evidence) != {"none"}:
        return ()
    measured = {name for label, _ in model.moments.conditions for name in label.names}
    likened = likened_by(model.priors, model.moments.conditions)
    if not any(
        all(part.name in measured or likened(part) for part in label.parts) for label, _ in conditions
    ):
        named = listed([one.text for one in candidates], _NAMED)
        raise DataError(
            f"nothing is known of any of the {len(candidates)} candidates ({named}), so none can be told from another; "
            "give prior knowledge that likens them to measured ones (gene_sets, edges, features)"
        )
    return (
        "prior knowledge explains next to nothing of the measured responses, so this choice may be no better than a "
        "random one",
    )
