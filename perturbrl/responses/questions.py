"""Questions about responses, as a person writes them: ``KLF1+MAP2K6``, ``IFNB@cell_type=NK``, ``dexamethasone:3``."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from perturbrl.data.labels import Label, Part
from perturbrl.errors import DataError, closest
from perturbrl.responses.training_cells import ONE_CONTEXT, Condition
from perturbrl.schema import CELL_TYPE_OBS

CONTEXT_SEPARATOR: Final = "@"


@dataclass(frozen=True)
class Asked:
    """One condition that is asked for.

    Attributes:
        text: the query as it was written; its context is added where it named none and there are several.
        condition: what it means.
        said: how it was read where that is not plain, in sentences.
        extrapolated: whether a dose lies outside of those measured.
    """

    text: str
    condition: Condition
    said: tuple[str, ...] = ()
    extrapolated: bool = False


@dataclass(frozen=True)
class Known:
    """What may be asked about.

    Attributes:
        measured: labels of the data by their text, which a query is taken for first.
        contexts: contexts with control cells.
        names: perturbations of which anything may be known.
        learned: labels whose cells were learned from, which tell what an extrapolation is.
        aliases: the name that is meant by another one, which is no name of the data.
        column: the data's name for the column of contexts, which may stand before one as ``cell_type`` may.
    """

    measured: Mapping[str, Label]
    contexts: Collection[str]
    names: Collection[str]
    learned: Collection[Label]
    aliases: Mapping[str, str] = field(default_factory=dict)
    column: str = CELL_TYPE_OBS

    def doses_of(self, name: str) -> list[float | None]:
        """Doses learned from, ascending; ``None`` first for one that has none."""
        doses = {part.dose for label in self.learned for part in label.parts if part.name == name}
        return sorted(doses, key=lambda dose: -1.0 if dose is None else dose)


def questions(queries: Sequence[str], known: Known) -> list[Asked]:
    """The conditions that queries ask for, each text once; one without a context asks for every context.

    Args:
        queries: ``+`` joins perturbations, ``:`` gives a dose (the largest measured one where it is left out), ``@`` a
            context, with or without its column's name or ``cell_type``.
        known: what may be asked about.

    Raises:
        DataError: a query names a perturbation or a context that is not known (the closest ones are named), the
            control, or a dose of what has none; or there is no query.
    """
    if not queries:
        raise DataError("queries is empty; ask for a perturbation of the data, a combination or a gene")
    asked = [one for query in queries for one in _asked(query, known)]
    return list({one.text: one for one in asked}.values())


def text_of(condition: tuple[str, str]) -> str:
    """A condition as a query."""
    label, context = condition
    return f"{label}{CONTEXT_SEPARATOR}{context}" if context else str(label)


def stream_of(condition: tuple[str, str]) -> int:
    """The number of a condition's own random numbers, whatever else is asked."""
    return crc32(text_of(condition).encode())


def _asked(query: str, known: Known) -> Iterator[Asked]:
    what, at, where = ("", "", "") if query in known.measured else query.rpartition(CONTEXT_SEPARATOR)
    text = what if at else query
    label, renamed = _meant(known.measured.get(text) or Label.parse(text), known)
    if label.is_control:
        raise DataError(f"'{query}' is what shifts are counted from; ask for a perturbation")
    if str(label) not in known.measured:
        _require_answerable(label, known)
        label, without = _with_doses(label, known)
    else:
        without = ()
    outside = tuple(_outside(label, known))
    contexts = [_context(where, known)] if at else sorted(known.contexts)
    for context in contexts:
        row = query if at or len(contexts) == 1 else f"{query}{CONTEXT_SEPARATOR}{context}"
        yield Asked(row, (label, context), (*renamed, *without, *outside), bool(outside))


def _meant(label: Label, known: Known) -> tuple[Label, tuple[str, ...]]:
    """The label under the names that are meant, and which were not written; a name of the data means itself."""
    own = {name for one in known.measured.values() for name in one.names}
    aliases = {alias: name for alias, name in known.aliases.items() if alias not in own}
    said = tuple(
        f"{name} is {aliases[name]} by the table of aliases" for name in label.names if name in aliases
    )
    return Label(Part(aliases.get(part.name, part.name), part.dose) for part in label.parts), said


def _with_doses(label: Label, known: Known) -> tuple[Label, tuple[str, ...]]:
    """Parts without a dose at their largest measured one, and that this was done."""
    parts, said = [], []
    for part in label.parts:
        doses = known.doses_of(part.name)
        if part.dose is None and doses and doses[0] is not None:
            largest = Part(part.name, doses[-1])
            said.append(f"{part.name} without a dose means its largest measured one, {largest}")
            parts.append(largest)
        else:
            parts.append(part)
    return Label(parts), tuple(said)


def _outside(label: Label, known: Known) -> Iterator[str]:
    for part in label.parts:
        doses = [dose for dose in known.doses_of(part.name) if dose is not None]
        if part.dose is None:
            continue
        if not doses:
            yield f"no dose of {part.name} was measured, so {part.dose:g} is taken for a full one"
        elif not doses[0] <= part.dose <= doses[-1]:
            measured = f"{doses[0]:g}" if len(doses) == 1 else f"{doses[0]:g} to {doses[-1]:g}"
            yield f"extrapolated: dose {part.dose:g} of {part.name} lies outside of those measured ({measured})"


def _require_answerable(label: Label, known: Known) -> None:
    parts = {part for one in known.measured.values() for part in one.parts}
    plain = {part.name for part in parts if part.dose is None}
    for part in label.parts:
        _require(
            part.name,
            known.names,
            "perturbation of the data, gene of theirs or name in prior knowledge",
            {one.name for one in parts},
        )
        if part.dose is not None and part.name in plain:
            raise DataError(
                f"'{part}' asks for a dose, and the data do not tell doses of {part.name} apart; ask for '{part.name}'"
            )


def _context(where: str, known: Known) -> str:
    if set(known.contexts) == {ONE_CONTEXT}:
        raise DataError(
            f"'{where}' is asked for, and no column of contexts was given; name one (cell_type_key; as a command "
            f"--data.columns.cell_type_key), or ask without '{CONTEXT_SEPARATOR}'"
        )
    column, named, context = where.partition("=")
    if not named or where in known.contexts:
        column, context = known.column, where
    if column not in (known.column, CELL_TYPE_OBS):
        raise DataError(
            f"'{where}' names the column '{column}', and contexts are told by '{known.column}'; ask for "
            f"'{CONTEXT_SEPARATOR}{known.column}={context}', or for '{CONTEXT_SEPARATOR}{context}'"
        )
    _require(context, known.contexts, "context with control cells")
    return context


def _require(name: str, known: Collection[str], what: str, likeliest: Collection[str] = ()) -> None:
    if name in known:
        return
    parts = [part.strip() for part in name.split(",")]
    if len(parts) > 1 and set(parts) <= set(known):
        raise DataError(f"'{name}' is no {what} here; ask for several as a list, '[{', '.join(parts)}]'")
    near = list(dict.fromkeys([*closest(name, likeliest), *closest(name, known)]))[:3]
    hint = (
        f"did you mean {' or '.join(near)}?" if near else f"choose one such as {', '.join(sorted(known)[:5])}"
    )
    raise DataError(f"'{name}' is no {what} here; {hint}")
