"""Labels as a file has them: one column with names, perhaps another one with doses."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import pandas as pd

from perturbrl.data.labels import CONTROL, Label, Part, label_in_file, split_label
from perturbrl.data.presets import FieldMap
from perturbrl.errors import DataError, listed
from perturbrl.schema import COMBINATION_SEPARATOR, CONTROL_LABEL

_SHOWN: Final = 3
_Row = tuple[str, str | None]  # what the columns say of a cell: its label and its doses


def read_labels(obs: pd.DataFrame, fields: FieldMap) -> list[Label]:
    """The label of every cell.

    A perturbation that the file has at several doses carries its dose (``dexamethasone:0.1``); one with a
    single dose stays plain. At a dose of 0 nothing was added. Where no column tells of perturbations, all cells
    are control.

    Raises:
        DataError: a label is missing, not text or ambiguous, doses do not fit the labels, or there is no
            control cell.
    """
    if fields.perturbation_key is None:
        return [CONTROL] * len(obs)
    column = obs[fields.perturbation_key]
    _check_column(column, fields)
    doses = [None] * len(obs) if fields.dose_key is None else _texts(obs[fields.dose_key])
    rows: list[_Row] = list(zip(column, doses, strict=True))
    parts = {row: _parts(*row, fields) for row in dict.fromkeys(rows)}
    read = _labelled(parts, _at_several_doses(parts.values(), fields))
    labels = [read[row] for row in rows]
    if CONTROL not in set(labels):
        raise DataError(
            f"there are no control cells: no label of obs['{fields.perturbation_key}'] is "
            f"'{fields.control_value}'; give columns.control_value"
        )
    return labels


def cells_at_dose_zero(obs: pd.DataFrame, fields: FieldMap, labels: Iterable[Label]) -> int:
    """How many cells count as control because the perturbation they name has the dose 0."""
    if fields.perturbation_key is None:
        return 0
    named = {
        text: not label_in_file(text, fields.control_value).is_control
        for text in obs[fields.perturbation_key].unique()
    }
    return sum(
        label.is_control and named[text]
        for text, label in zip(obs[fields.perturbation_key], labels, strict=True)
    )


def _texts(column: pd.Series) -> list[str | None]:
    text = {value: str(value) for value in column.dropna().unique()}
    return [text.get(value) for value in column]


def _parts(label: str, doses: str | None, fields: FieldMap) -> tuple[Part, ...]:
    if label == fields.control_value:
        return ()
    names = split_label(label)
    given = [None] if doses is None else [float(dose) for dose in doses.split(COMBINATION_SEPARATOR)]
    if len(given) not in (1, len(names)):
        raise DataError(
            f"the label '{label}' has {len(names)} parts and its dose '{doses}' in obs['{fields.dose_key}'] "
            f"{len(given)}; give one dose for each part, or one for all"
        )
    pairs = zip(names, given if len(given) == len(names) else given * len(names), strict=True)
    return tuple(Part(*pair) for pair in pairs if pair[0] not in (fields.control_value, CONTROL_LABEL))


def _at_several_doses(labels: Iterable[tuple[Part, ...]], fields: FieldMap) -> set[str]:
    """Names that the file has at more than one dose."""
    doses = defaultdict[str, set[float | None]](set)
    for name, dose in {part for parts in labels for part in parts if part.dose != 0}:
        doses[name].add(dose)
    several = {name for name, found in doses.items() if len(found) > 1}
    unknown = sorted(name for name in several if None in doses[name])
    if unknown:
        raise DataError(
            f"some cells of {listed(unknown, _SHOWN)} have a dose in obs['{fields.dose_key}'] and others have "
            "none there; fill the doses in or drop those cells"
        )
    return several


def _labelled(parts: dict[_Row, tuple[Part, ...]], several: set[str]) -> dict[_Row, Label]:
    read = {row: Label(_with_dose(part, several) for part in found) for row, found in parts.items()}
    first: dict[str, Label] = {}
    for label in read.values():
        same = first.setdefault(str(label), label)
        if same.parts != label.parts:
            raise DataError(
                f"two perturbations would both be called '{label}', one by its name and one by its dose; "
                "rename the first in the file"
            )
    return read


def _with_dose(part: Part, several: set[str]) -> Part:
    return part if part.dose == 0 or part.name in several else Part(part.name)


def _check_column(column: pd.Series, fields: FieldMap) -> None:
    key = fields.perturbation_key
    missing = int(column.isna().sum())
    if missing:
        raise DataError(f"{missing} of {len(column)} cells have no label (NaN) in obs['{key}']; drop them")
    odd = [label for label in column.unique() if not isinstance(label, str) or not label.strip()]
    if odd:
        shown = listed([repr(label) for label in odd], _SHOWN)
        raise DataError(f"labels in obs['{key}'] must be text and {shown} are not; make them str")
    if fields.control_value != CONTROL_LABEL and CONTROL_LABEL in set(column.unique()):
        raise DataError(
            f"obs['{key}'] has the label '{CONTROL_LABEL}' beside the control '{fields.control_value}'; "
            "rename one, so that the control is clear"
        )
