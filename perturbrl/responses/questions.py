"""Questions about responses, as a person writes them: ``KLF1+MAP2K6``, ``IFNB@cell_type=NK``, ``dexamethasone:3``."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.responses.training_cells import ONE_CONTEXT, Condition

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
        DataError: a query names a perturbation or a context that is not known (the closest ones are named), the
            control, or a dose of what has none; or there is no query.
    """
    if not queries:
        raise DataError("queries is empty; ask for a perturbation of the data, a combination or a gene")
    return [condition for query in queries for condition in _conditions(query, measured, contexts, known)]


def text_of(condition: Condition) -> str:
    """A condition as a query."""
    label, context = condition
    return f"{label}{CONTEXT_SEPARATOR}{context}" if context else str(label)


def _conditions(
    query: str, measured: Mapping[str, Label], contexts: Collection[str], known: Collection[str]
) -> list[Condition]:
    what, at, where = ("", "", "") if query in measured else query.rpartition(CONTEXT_SEPARATOR)
    text = what if at else query
    label = measured.get(text) or Label.parse(text)
    if label.is_control:
        raise DataError(f"'{query}' is what shifts are counted from; ask for a perturbation")
    if text not in measured:
        _require_answerable(label, measured, known)
    return [(label, context) for context in (_asked(where, contexts) if at else sorted(contexts))]


def _require_answerable(label: Label, measured: Mapping[str, Label], known: Collection[str]) -> None:
    parts = {part for one in measured.values() for part in one.parts}
    plain = {part.name for part in parts if part.dose is None}
    for part in label.parts:
        _require(
            part.name,
            known,
            "perturbation of the data, gene of theirs or name in prior knowledge",
            {one.name for one in parts},
        )
        if part.dose is not None and part.name in plain:
            raise DataError(
                f"'{part}' asks for a dose, and the data do not tell doses of {part.name} apart; ask for '{part.name}'"
            )


def _asked(where: str, contexts: Collection[str]) -> list[str]:
    if set(contexts) == {ONE_CONTEXT}:
        raise DataError(
            f"'{where}' is asked for, and no column of contexts was given; name one (cell_type_key), or ask without "
            f"'{CONTEXT_SEPARATOR}'"
        )
    context = where if where in contexts else where.rpartition("=")[2]
    _require(context, contexts, "context with control cells")
    return [context]


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
