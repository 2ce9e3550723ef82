"""Populations of cells by name: a label of the file, or a query of its obs (``cell_type=B,perturbation=IFNB``)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from perturbrl.data.labels import CONTROL, Label, label_in_file
from perturbrl.errors import ConfigurationError, DataError, closest, listed
from perturbrl.schema import CELL_TYPE_OBS, IS_CONTROL_OBS, PERTURBATION_OBS, SIZE_FACTOR_OBS, CellIndex

# A comma separates where a further "name=" follows it; others belong to a value.
_JOINT: Final = re.compile(r",(?=[^,=]+=)")
_OURS: Final = (IS_CONTROL_OBS, SIZE_FACTOR_OBS)
_SHOWN: Final = 5


class Condition(NamedTuple):
    """One equation of a query: a column of obs, or a gene of a network, and its value."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


def conditions_in(text: str) -> tuple[Condition, ...]:
    """The equations of ``name=value[,name=value]``; none where the text holds no ``=``.

    Raises:
        ConfigurationError: one has no name or no value, or a name stands twice.
    """
    if "=" not in text:
        return ()
    pieces = [piece.partition("=") for piece in _JOINT.split(text)]
    found = tuple(Condition(name.strip(), value.strip()) for name, _, value in pieces)
    if not all(name and value for name, value in found):
        raise ConfigurationError(
            f"'{text}' is no query of cells; write column=value, or column=value,column=value"
        )
    names = [name for name, _ in found]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigurationError(f"'{text}' gives {listed(repeated)} twice; give it one value")
    return found


@dataclass(frozen=True, eq=False)
class Populations:
    """The populations of a data set.

    A text is taken for a label first, so that one that contains ``=`` stays a label, then for a cell type, which is
    what a landscape's attractors are named by (``Erythrocyte`` is ``cell_type=Erythrocyte``). Of a query's columns,
    ``perturbation``, ``cell_type`` and ``batch`` are the recognised ones.

    Args:
        obs: what is known of each cell, with the canonical columns of ``PerturbationDataset``.
        measured: every label of the cells, control among them.
        control_value: what the file calls its control.
    """

    obs: pd.DataFrame
    measured: tuple[Label, ...]
    control_value: str

    @cached_property
    def perturbations(self) -> tuple[Label, ...]:
        """All labels but control."""
        return tuple(label for label in self.measured if not label.is_control)

    def named(self, text: str) -> str:
        """The population in its one spelling: a ``Label``, or a query as text.

        Raises:
            DataError: there is no such label, column, value or cell; the closest are named.
            ConfigurationError: the text is neither a label nor a query.
        """
        label = self._measured(text)
        if label is not None:
            return label
        if self._is_cell_type(text):
            return self.named(f"{CELL_TYPE_OBS}={text}")
        conditions = self._conditions(text)
        if not conditions:
            return self.label(text)
        if [name for name, _ in conditions] == [PERTURBATION_OBS]:
            return self.named(conditions[0].value)
        self._require_cells(conditions)
        return ",".join(map(str, conditions))

    def _is_cell_type(self, text: str) -> bool:
        """A landscape's attractors are named by the cell types that rest there."""
        return CELL_TYPE_OBS in self.obs.columns and text in set(self.obs[CELL_TYPE_OBS].astype(str))

    def target(self, text: str) -> str:
        """The population where cells should go, in its one spelling; all controls are none.

        Raises:
            DataError: as ``named`` does, or the text means all control cells.
            ConfigurationError: as ``named`` does.
        """
        name = self.named(text)
        return self.label(text) if name == CONTROL else name

    def require_apart(self, source: str, target: str) -> None:
        """Refuse populations that are one, or that share cells.

        Raises:
            ConfigurationError: how many cells they share.
        """
        if source == target:
            raise ConfigurationError(f"source and target are both '{source}'; choose another target")
        goal = self.rows(target)
        shared = len(np.intersect1d(self.rows(source), goal))
        if shared:
            share = f"all {shared}" if shared == len(goal) else f"{shared} of the {len(goal)}"
            raise ConfigurationError(
                f"source '{source}' has {share} cells of target '{target}'; choose a source without them, such as "
                f"{self._example_apart(goal)}"
            )

    def _example_apart(self, rows: CellIndex) -> str:
        """A population without any of the ``rows``: the largest cell type, else label."""
        columns = [name for name in (CELL_TYPE_OBS, PERTURBATION_OBS) if name in self.obs.columns]
        for column in columns:
            inside = set(self.obs[column].astype(str).iloc[rows])
            sizes = self.obs[column].astype(str).value_counts()
            outside = [level for level in sizes.index if level not in inside]
            if outside:
                return f"{column}={outside[0]}" if column != PERTURBATION_OBS else outside[0]
        return "another column=value"

    def rows(self, text: str) -> CellIndex:
        """Rows of the cells, in file order.

        Raises:
            DataError: as ``named`` does.
            ConfigurationError: as ``named`` does.
        """
        name = self.named(text)
        if isinstance(name, Label):
            return self._rows[str(name)]
        return np.flatnonzero(self._meet(self._conditions(name)))

    def telling(self, text: str) -> CellIndex:
        """Rows of the cells that tell of a population: its own, and those whose label contains its label.

        Raises:
            DataError: as ``named`` does.
            ConfigurationError: as ``named`` does.
        """
        name = self.named(text)
        conditions = () if isinstance(name, Label) else self._conditions(name)
        label = self.label_of(name)
        if label is None or label.is_control:
            return self.rows(name)
        others = tuple(condition for condition in conditions if condition.name != PERTURBATION_OBS)
        containing = [str(measured) for measured in self.measured if measured.contains(label)]
        return np.flatnonzero(self._meet(others) & self.obs[PERTURBATION_OBS].isin(containing).to_numpy())

    def label_of(self, text: str) -> Label | None:
        """What was done to a population's cells, where its name says so."""
        name = self.named(text)
        if isinstance(name, Label):
            return name
        given = dict(self._conditions(name)).get(PERTURBATION_OBS)
        return None if given is None else self._measured(given)

    def label(self, text: str) -> Label:
        """The label of a measured perturbation, in whatever spelling.

        A text is taken for a name first (``C18:1``), then for a name with a dose (``dexamethasone:0.10``).

        Raises:
            DataError: it was not measured, or at several doses; the closest labels are named.
        """
        found = self._measured(text)
        if found is not None and not found.is_control:
            return found
        if found is not None:
            raise DataError(f"'{text}' is the control; name a perturbation such as {self._examples()}")
        raise DataError(self._not_measured(text))

    def _measured(self, text: str) -> Label | None:
        known = self._by_text | {str(CONTROL): CONTROL}
        return next((known[label] for label in self._read(text) if label in known), None)

    @cached_property
    def _by_text(self) -> dict[str, Label]:
        return {str(label): label for label in self.perturbations}

    def _read(self, text: str) -> list[Label]:
        return [label_in_file(text, self.control_value), Label.parse(text, control=self.control_value)]

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        groups = self.obs.groupby(PERTURBATION_OBS, observed=True).indices
        return {str(label): rows for label, rows in groups.items()}

    def _conditions(self, text: str) -> tuple[Condition, ...]:
        """A query's conditions, each value as the column has it."""
        return tuple(self._as_in_file(condition) for condition in conditions_in(text))

    def _as_in_file(self, condition: Condition) -> Condition:
        column, value = condition
        if column == PERTURBATION_OBS:
            found = self._measured(value)
            return Condition(column, str(self.label(value) if found is None else found))
        self._require_column(column)
        levels = [str(level) for level in self.obs[column].dropna().unique()]
        same = [level for level in levels if level == value or _equal_numbers(level, value)]
        if not same:
            raise DataError(f"no cell has {column} '{value}'; {nearest_names(value, levels)}")
        return Condition(column, same[0])

    def _require_column(self, column: str) -> None:
        columns = [str(name) for name in self.obs.columns if name not in _OURS]
        if column not in columns:
            raise DataError(f"the cells have no column '{column}'; {nearest_names(column, columns)}")

    def _require_cells(self, conditions: Sequence[Condition]) -> None:
        if self._meet(conditions).any():
            return
        each = [f"{self._meet([condition]).sum()} with {condition}" for condition in conditions]
        raise DataError(
            f"no cell has {listed([str(condition) for condition in conditions])} at once: there are {listed(each)}"
        )

    def _meet(self, conditions: Iterable[Condition]) -> np.ndarray:
        flags = np.ones(len(self.obs), dtype=bool)
        for column, value in conditions:
            flags &= (self.obs[column].astype(str) == value).to_numpy()
        return flags

    def _not_measured(self, text: str) -> str:
        read = self._read(text)
        names = {label.names for label in read}
        at_other_doses = [measured for measured in self.perturbations if measured.names in names]
        at_other_doses.sort(key=lambda label: label.parts)
        if len(at_other_doses) > 1:
            return f"'{text}' is none of the doses measured; choose one of {listed(at_other_doses, 12)}"
        close: Sequence[str] = self._queries_of(text) or self._closest(read[-1]) or self._types_like(text)
        hint = f"did you mean {' or '.join(close)}?" if close else f"choose one such as {self._examples()}"
        if not self.perturbations and CELL_TYPE_OBS in self.obs.columns:
            return f"'{text}' is no cell type, and no cell was perturbed; {hint}"
        return f"no cell has the perturbation '{text}' ({len(self.perturbations)} are measured); {hint}"

    def _queries_of(self, text: str) -> list[str]:
        """Queries whose value is ``text``, in whatever case; the cell type's first. None where it is like a label."""
        found: list[str] = []
        if text.casefold() in {label.casefold() for label in self.perturbations}:
            return found
        for column in (*(name for name in (CELL_TYPE_OBS,) if name in self.obs.columns), *self.obs.columns):
            levels = self.obs[column].unique() if column not in _OURS and _is_text(self.obs[column]) else ()
            found += [f"{column}={level}" for level in levels if str(level).casefold() == text.casefold()]
        return list(dict.fromkeys(found))[:_SHOWN]

    def _types_like(self, text: str) -> list[str]:
        types = self.obs[CELL_TYPE_OBS].astype(str).unique() if CELL_TYPE_OBS in self.obs.columns else ()
        return [f"{CELL_TYPE_OBS}={name}" for name in closest(text, types)]

    def _closest(self, label: Label) -> list[Label]:
        near = closest(label, self.perturbations, cutoff=0.5)
        names = set(label.names)
        related = [measured for measured in self.perturbations if names & set(measured.names)]
        return list(dict.fromkeys([*near, *related]))[:_SHOWN]

    def _examples(self) -> str:
        if self.perturbations or CELL_TYPE_OBS not in self.obs.columns:
            return listed(self.perturbations, _SHOWN) or "none: there are only control cells"
        return listed([f"{CELL_TYPE_OBS}={name}" for name in self.obs[CELL_TYPE_OBS].unique()], _SHOWN)


def _is_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column)


def _equal_numbers(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def nearest_names(text: str, known: Sequence[str]) -> str:
    """What was probably meant, in whatever case, or what there is."""
    near = closest(text, known)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"choose one of {listed(known, 8)}" if known else "it has no value in any cell"
