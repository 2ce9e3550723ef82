"""Questions about responses, as a person writes them: ``KLF1+MAP2K6``, ``IFNB@cell_type=NK``, ``dexamethasone:3``."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.responses.moments import Condition

CONTEXT_SEPARATOR: Final = "@"


def conditions_of(
    queries: Sequence[str], measured: Mapping[str, Label], contexts: Collection[str], known: Collection[str]
) -> list[Condition]:
    """The conditions that queries ask for; one without a context asks for every context.

    Args:
        queries: ``+`` joins perturbations, ``:`` gives a dose, ``@`` a context, with or without its column's name.
        measured: labels of the data by their text, which a query is taken for first.
        contexts: contexts with control cells.
        known: perturbations of which anything may be known.

    Raises:
        DataError: a query names a perturbation or a context that is not known; the closest ones are named.
    """
    return [condition for query in queries for condition in _conditions(query, measured, contexts, known)]


def text_of(condition: Condition) -> str:
    """A condition as a query."""
    label, context = condition
    return f"{label}{CONTEXT_SEPARATOR}{context}" if context else str(label)


def _conditions(
    query: str, measured: Mapping[str, Label], contexts: Collection[str], known: Collection[str]
) -> list[Condition]:
    if query in measured:
        return [(measured[query], context) for context in sorted(contexts)]
    what, at, where = query.rpartition(CONTEXT_SEPARATOR)
    label = measured.get(what) if at else None
    if label is None:
        label = Label.parse(what if at else query)
    names = {name for one in measured.values() for name in one.names}
    for name in label.names:
        _require(name, known, "perturbation of the data, gene of theirs or name in prior knowledge", names)
    if not at:
        return [(label, context) for context in sorted(contexts)]
    context = where if where in contexts else where.rpartition("=")[2]
    _require(context, contexts, "context with control cells")
    return [(label, context)]


def _require(name: str, known: Collection[str], what: str, likeliest: Collection[str] = ()) -> None:
    if name in known:
        return
    near = list(dict.fromkeys([*_close(name, likeliest), *_close(name, known)]))[:3]
    hint = (
        f"did you mean {' or '.join(near)}?" if near else f"choose one such as {', '.join(sorted(known)[:5])}"
    )
    raise DataError(f"'{name}' is no {what} here; {hint}")


def _close(name: str, known: Collection[str]) -> list[str]:
    folded = {one.casefold(): one for one in known}
    return [folded[one] for one in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
