"""Which names prior knowledge and data have in common, and why they may have none."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

import pandas as pd

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import DataError, closest, listed

_NAMED: Final = 5
# What names look like; the first that fits counts.
_KINDS: Final = (
    ("Ensembl ids", re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?")),
    ("UniProt ids", re.compile(r"[OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d[A-Z][A-Z0-9]{2}\d")),
    ("STRING ids", re.compile(r"\d+\.ENS[A-Z]*P\d+")),
    ("numbers, such as Entrez ids", re.compile(r"\d+")),
    ("upper-case symbols, as of human genes", re.compile(r"(?=.*[A-Z])[A-Z0-9][A-Z0-9.orf-]*")),
    ("capitalised symbols, as of mouse genes", re.compile(r"(?=.*[a-z])[A-Z][a-z0-9.-]*|\d+[A-Z]\d+Rik")),
    ("lower-case names", re.compile(r"(?=.*[a-z])[a-z0-9][a-z0-9.-]*")),
)


def matched_names(
    priors: Sequence[PriorKnowledge], measured: Collection[str], asked: Collection[str] = ()
) -> pd.DataFrame:
    """How many names each prior has in common with the data; one row per prior, by its source.

    Columns are ``names`` (all that it has), ``measured`` (perturbations of the data that it knows), ``of_measured``
    (how many there are), ``asked`` and ``of_asked`` (the same of perturbations in queries).

    Raises:
        DataError: a prior knows no measured perturbation, so it can liken nothing to one.
    """
    rows = {}
    for prior in priors:
        known = sorted(name for name in measured if prior.knows(name))
        if not known:
            raise DataError(_nothing_in_common(prior, sorted(measured)))
        rows[prior.source] = (
            len(prior.names),
            len(known),
            len(measured),
            sum(map(prior.knows, asked)),
            len(asked),
        )
    columns = ["names", "measured", "of_measured", "asked", "of_asked"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("source")


def _nothing_in_common(prior: PriorKnowledge, measured: Sequence[str]) -> str:
    if silent := sorted(set(measured) & set(prior.names)):
        return (
            f"'{prior.source}' has {listed(silent, _NAMED)} of the {len(measured)} measured perturbations, and all "
            "their features are 0 (weights of 0, or columns with one value), so it says nothing of them; give weights "
            "or features that differ"
        )
    ours, theirs = kind_of_names(measured), kind_of_names(prior.names)
    differ = (
        f"; the first look like {theirs} and the others like {ours}, so convert one"
        if ours and theirs and ours != theirs
        else f"; {_remedy(prior, measured)}"
    )
    return (
        f"'{prior.source}' knows none of the {len(measured)} measured perturbations: it has "
        f"{listed(prior.names, _NAMED)}, the data have {listed(measured, _NAMED)}{differ}"
    )


def _remedy(prior: PriorKnowledge, measured: Sequence[str]) -> str:
    near = {name: closest(name, prior.names, cutoff=0.8) for name in measured[:_NAMED]}
    meant = [f"{found[0]} by {name}" for name, found in near.items() if found]
    if not meant:
        return "give one that names these perturbations"
    return f"did you mean {listed(meant, _NAMED)}? Say so in a table of aliases (columns alias and name)"


def kind_of_names(names: Collection[str]) -> str | None:
    """What most names look like; ``None`` where they look like nothing known."""
    kinds = Counter(
        next((kind for kind, pattern in _KINDS if pattern.fullmatch(name)), None) for name in names
    )
    kind, n = kinds.most_common(1)[0] if kinds else (None, 0)
    return kind if 2 * n > len(names) else None
