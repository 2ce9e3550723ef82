"""What was done to a cell, as text with one grammar: ``KLF1+MAP2K6``, ``dexamethasone:0.1``, ``control``."""

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, NoReturn

from perturbrl.errors import ConfigurationError
from perturbrl.schema import COMBINATION_SEPARATOR, CONTROL_LABEL, DOSE_SEPARATOR

DOSE_NUMBER: Final = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE]-?\d+)?"
_DOSED: Final = re.compile(rf"(?P<name>.*\S)\s*{DOSE_SEPARATOR}\s*(?P<dose>{DOSE_NUMBER})", re.DOTALL)
# Of several "+" in a row the last one separates, and none does at an end of the text or before a ":".
_JOINT: Final = re.compile(r"(?<=[^+\s])(?P<name_end>(?:\s*\+)*)\s*\+\s*(?=[^+:\s])")
_BRACKETS: Final = {"(": ")", "[": "]", "{": "}"}


class Part(NamedTuple):
    """One perturbation of a label: its name and, where it matters which, its dose in the file's units."""

    name: str
    dose: float | None = None

    def __str__(self) -> str:
        return self.name if self.dose is None else f"{self.name}{DOSE_SEPARATOR}{_number(self.dose)}"


class Label(str):
    """A perturbation in its one spelling; it is a text, and knows its parts.

    ``+`` joins perturbations, whose order does not matter; inside brackets (``(+)-JQ1``) or at an end
    (``Ca2+``) it belongs to a name. ``:`` and a number at the end of a part is a dose. ``control`` has no
    parts, and control or a dose of 0 as a part adds nothing.

    A name may itself end in ``:1`` (``C18:1``). Its text alone does not say so; therefore a data set never
    looks for doses in its own labels (``doses=False``) and takes a user's text for a measured label first.

    Args:
        parts: the perturbations, in any order.

    Attributes:
        parts: the perturbations, by name.

    Raises:
        ConfigurationError: a name is empty or given two doses, a dose is negative or not finite, or the parts
            cannot be told apart once they are joined by ``+``.
    """

    parts: tuple[Part, ...]

    def __new__(cls, parts: Iterable[Part] = ()) -> "Label":
        """Sort the parts and write them."""
        kept = sorted({part for part in parts if _adds(part)}, key=_order)
        texts = [str(part) for part in kept]
        text = COMBINATION_SEPARATOR.join(texts) or CONTROL_LABEL
        _check(kept, texts, text)
        label = super().__new__(cls, text)
        label.__dict__["parts"] = tuple(kept)
        return label

    def __getnewargs__(self) -> Any:
        return (self.parts,)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a label does not change: {name} of '{self}' cannot be set; make another label")

    @classmethod
    def parse(cls, text: str, *, doses: bool = True, control: str = CONTROL_LABEL) -> "Label":
        """Read a label; one that was read already comes back as it is.

        Args:
            text: the label, its parts in any order.
            doses: whether ``:`` and a number end a part with its dose, or belong to the name.
            control: what a file calls its control, alone or as a part (``KLF1+ctrl``).

        Raises:
            ConfigurationError: the text is empty or gives a perturbation two doses.
        """
        return text if isinstance(text, Label) else _read(str(text), doses, control)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the perturbations, without doses."""
        return tuple(part.name for part in self.parts)

    @property
    def singles(self) -> tuple["Label", ...]:
        """Each part as a label of its own."""
        return (self,) if len(self.parts) == 1 else tuple(Label((part,)) for part in self.parts)

    @property
    def is_combination(self) -> bool:
        """Whether there are two perturbations or more."""
        return len(self.parts) > 1

    @property
    def is_control(self) -> bool:
        """Whether nothing was done."""
        return not self.parts

    def contains(self, other: "Label") -> bool:
        """Whether all of ``other``'s parts, doses included, are parts of this label; control is in none."""
        return not other.is_control and set(other.parts) <= set(self.parts)


def label_in_file(text: str, control: str) -> Label:
    """Read a label of a file's own column, in which ``:`` is part of a name: doses have their own column."""
    return Label.parse(text, doses=False, control=control)


@lru_cache(maxsize=1 << 16)
def _read(text: str, doses: bool, control: str) -> Label:
    if not text.strip():
        raise ConfigurationError(f"the label {text!r} is empty; name a perturbation or '{CONTROL_LABEL}'")
    if text == control:
        return CONTROL
    return Label(_part(piece, doses) for piece in split_label(text) if piece != control)


def split_label(text: str) -> list[str]:
    """The pieces between the ``+`` that join, stripped, in the order of the text.

    A text whose brackets do not pair is one name.
    """
    inside = _bracketed(text)
    pieces, start = [], 0
    for joint in _JOINT.finditer(text) if inside is not None else ():
        end = joint.end("name_end")
        if inside and inside[joint.start()]:
            continue
        pieces.append(text[start:end].strip())
        start = joint.end()
    return [*pieces, text[start:].strip()]


def _bracketed(text: str) -> list[bool] | None:
    """Whether each character lies inside brackets; ``None`` where they do not pair."""
    closing: list[str] = []
    inside = []
    for character in text:
        if closing and character == closing[-1]:
            closing.pop()
        elif character in _BRACKETS:
            closing.append(_BRACKETS[character])
        elif character in _BRACKETS.values():
            return None
        inside.append(bool(closing))
    return None if closing else inside


def _part(text: str, doses: bool) -> Part:
    found = _DOSED.fullmatch(text) if doses else None
    if found is None or not math.isfinite(float(found["dose"])):
        return Part(text)
    return Part(found["name"], float(found["dose"]))


def _adds(part: Part) -> bool:
    return part.name != CONTROL_LABEL and part.dose != 0


def _order(part: Part) -> tuple[bool, str, float]:
    # What begins with a sign of the grammar can only stand first.
    return part.name[:1] not in (COMBINATION_SEPARATOR, DOSE_SEPARATOR), part.name, part.dose or 0.0


def _check(parts: list[Part], texts: list[str], text: str) -> None:
    for part, following in pairwise(parts):
        if part.name == following.name:
            raise ConfigurationError(
                f"'{text}' gives '{part.name}' twice with different doses; give it one dose"
            )
    for part in parts:
        if part.dose is not None and not 0 <= part.dose < math.inf:
            raise ConfigurationError(f"the dose of '{part.name}' is {part.dose:g}; give a positive number")
    if parts and split_label(text) != texts:
        raise ConfigurationError(
            f"the names {texts} cannot be told apart in '{text}': '+' joins perturbations; rename one"
        )


def _number(dose: float) -> str:
    """The shortest text of a number that reads back the same, without a ``+``."""
    return repr(float(dose)).removesuffix(".0").replace("e+", "e")


CONTROL: Final = Label()
