"""Which column of ``adata.obs`` says what: the presets, and how one is recognised."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pandas as pd
from anndata import AnnData

from perturbrl.data.labels import DOSE_NUMBER, label_in_file
from perturbrl.errors import ConfigurationError, DataError, listed, option_meant
from perturbrl.schema import CONTROL_LABEL

CELL_TYPE_KEYS: Final = ("cell_type", "celltype")
BATCH_KEYS: Final = ("batch", "gem_group", "replicate", "lane", "library")
SIZE_FACTOR_KEYS: Final = ("n_umis_full",)
DOSE_KEYS: Final = ("dosage", "dose_val", "dose_value", "dose")
COVARIATE_KEYS: Final = (
    *(*CELL_TYPE_KEYS, "cell_line", "tissue", "organism", "sex", "donor", "donor_id", "patient"),
    *(*BATCH_KEYS, "time", "time_h", "timepoint"),
)
KNOWN_CONTROLS: Final = ("control", "ctrl", "non-targeting", "NT", "DMSO", "vehicle", "unstimulated")

UNPERTURBED: Final = "unperturbed"

_DOSAGE: Final = re.compile(rf"{DOSE_NUMBER}(\+{DOSE_NUMBER})*")


@dataclass(frozen=True)
class FieldMap:
    """Which ``obs`` columns hold the perturbation, its control label, and what else is known of a cell.

    Args:
        perturbation_key: column with the perturbation of each cell; ``None`` where no cell was perturbed.
        control_value: the label of untreated cells in that column.
        cell_type_key: column with the cell type, or with whatever else responses may differ between, joined.
        batch_key: column with the technical batch.
        size_factor_key: column with the library size over the whole transcriptome.
        covariate_keys: columns with at least two levels that describe a cell besides its perturbation.
        dose_key: column with the dose of each perturbation, ``1.0+0.5`` for a combination.
        preset: name of the convention, ``explicit``, or ``unperturbed``.
    """

    perturbation_key: str | None
    control_value: str
    cell_type_key: str | None = None
    batch_key: str | None = None
    size_factor_key: str | None = None
    covariate_keys: tuple[str, ...] = ()
    dose_key: str | None = None
    preset: str = "explicit"


@dataclass(frozen=True)
class ColumnOptions:
    """Which columns of ``obs`` say what, where the usual names and values do not.

    Args:
        preset: convention of the file's columns (scperturb, gears, arc, cpa); null recognises it by its values.
        perturbation_key: obs column with the perturbations, instead of a preset.
        control_value: label of control cells in that column.
        cell_type_key: obs column with cell types.
        batch_key: obs column with the technical batch.
        size_factor_key: obs column with library sizes of the whole transcriptome.
        dose_key: obs column with the dose of each perturbation, 1.0+0.5 for a combination.
    """

    preset: str | None = None
    perturbation_key: str | None = None
    control_value: str | None = None
    cell_type_key: str | None = None
    batch_key: str | None = None
    size_factor_key: str | None = None
    dose_key: str | None = None

    @classmethod
    def of(cls, given: "ColumnOptions | Mapping[str, str | None]") -> "ColumnOptions":
        """The same of a plain mapping from these names to columns.

        Raises:
            ConfigurationError: a name is none of these; the closest is said.
        """
        if isinstance(given, ColumnOptions):
            return given
        names = [field.name for field in fields(cls)]
        for name in (name for name in given if name not in names):
            raise ConfigurationError(f"columns has no key '{name}'; {option_meant(str(name), names)}")
        return cls(**given)

    @property
    def names_labels(self) -> bool:
        """Whether it says where the labels are."""
        return any(option is not None for option in (self.preset, self.perturbation_key, self.control_value))

    @property
    def named(self) -> tuple[str | None, ...]:
        """The columns that it names."""
        return (
            self.perturbation_key,
            self.cell_type_key,
            self.batch_key,
            self.size_factor_key,
            self.dose_key,
        )


@dataclass(frozen=True)
class _Preset:
    name: str
    column: str
    controls: tuple[str, ...]
    needs_dosage: bool = False


# scPerturb (Peidli 2024), GEARS (Roohani 2023), the Arc Virtual Cell Challenge, CPA (Lotfollahi 2023).
PRESETS: Final = (
    _Preset("scperturb", "perturbation", ("control",)),
    _Preset("gears", "condition", ("ctrl",)),
    _Preset("arc", "target_gene", ("non-targeting",)),
    _Preset("cpa", "condition", KNOWN_CONTROLS, needs_dosage=True),
)


def detect_fields(
    adata: AnnData,
    columns: ColumnOptions = ColumnOptions(),
    *,
    labels_needed: bool = True,
) -> FieldMap:
    """Find out which columns of ``adata.obs`` say what.

    A preset is recognised by its values: the control label has to be in its column. Two presets that put the
    same cells into the same groups agree, and the first of ``PRESETS`` is taken.

    Args:
        adata: cells with their ``obs``.
        columns: what the user says of them; the rest is recognised.
        labels_needed: whether cells must say how they were perturbed; where not, those of a file without any
            such column are all untreated.

    Raises:
        DataError: no preset fits, two fit and disagree, a named column or label is not there, or the named dose
            column has no doses.
        ConfigurationError: there is no preset of that name, or both a preset and a column are given.
    """
    obs = adata.obs
    column: str | None
    for key in columns.named:
        _require_column(obs, key)
    dose_key = _dosage_column(obs, columns.dose_key)
    if columns.perturbation_key is not None or columns.control_value is not None:
        if columns.preset is not None:
            raise ConfigurationError(
                f"columns.preset '{columns.preset}' is given beside columns.perturbation_key or "
                "columns.control_value; give one or the other"
            )
        column, control = _explicit(obs, columns.perturbation_key, columns.control_value)
        name = "explicit"
    elif columns.preset is None and not labels_needed and not _tells_perturbations(obs):
        name, column, control = UNPERTURBED, None, CONTROL_LABEL
    else:
        name, column, control = _recognise(obs, columns.preset, dose_key)
    return FieldMap(
        perturbation_key=column,
        control_value=control,
        cell_type_key=columns.cell_type_key or _first_present(obs, CELL_TYPE_KEYS),
        batch_key=columns.batch_key or _first_present(obs, BATCH_KEYS),
        size_factor_key=columns.size_factor_key or _first_present(obs, SIZE_FACTOR_KEYS),
        covariate_keys=_covariates(obs, column, (columns.cell_type_key, columns.batch_key)),
        dose_key=dose_key,
        preset=name,
    )


def _tells_perturbations(obs: pd.DataFrame) -> bool:
    """Whether there is a preset's column that could be of a screen: one ``condition`` for all cells is none."""
    present = {preset.column for preset in PRESETS} & set(obs.columns)
    return any(column != "condition" or obs[column].nunique() > 1 for column in present)


def _require_column(obs: pd.DataFrame, key: str | None) -> None:
    if key is None or key in obs.columns:
        return
    close = difflib.get_close_matches(key, [str(column) for column in obs.columns], n=1)
    hint = f"; did you mean '{close[0]}'?" if close else f"; choose one of {_columns_seen(obs)}"
    raise DataError(f"the file has no obs column '{key}'{hint}")


def _recognise(obs: pd.DataFrame, preset: str | None, dose_key: str | None) -> tuple[str, str, str]:
    found = [
        (candidate.name, candidate.column, control)
        for candidate in _presets_named(preset)
        for control in _controls_in(obs, candidate, dose_key)
    ]
    if not found:
        raise DataError(_no_preset_fits(obs, preset))
    first = found[0]
    for other in found[1:]:
        if not _same_labelling(obs, first[1:], other[1:]):
            raise DataError(
                f"the presets '{first[0]}' (control '{first[2]}' in obs['{first[1]}']) and '{other[0]}' "
                f"(control '{other[2]}' in obs['{other[1]}']) both fit and disagree; choose one with columns.preset"
            )
    return first


def _presets_named(preset: str | None) -> tuple[_Preset, ...]:
    if preset is None:
        return PRESETS
    named = tuple(candidate for candidate in PRESETS if candidate.name == preset)
    if not named:
        raise ConfigurationError(
            f"there is no preset '{preset}'; choose one of {', '.join(p.name for p in PRESETS)}, or give "
            "columns.perturbation_key and columns.control_value"
        )
    return named


def _controls_in(obs: pd.DataFrame, preset: _Preset, dose_key: str | None) -> Iterator[str]:
    if preset.column not in obs.columns or (preset.needs_dosage and dose_key is None):
        return
    levels = set(obs[preset.column].unique())
    yield from (control for control in preset.controls if control in levels)


def _explicit(obs: pd.DataFrame, key: str | None, control: str | None) -> tuple[str, str]:
    keys = [key] if key is not None else _text_columns(obs)
    if key is not None and pd.api.types.is_numeric_dtype(obs[key]):
        raise DataError(
            f"labels in obs['{key}'] must be text and {_levels_seen(obs[key])} are not; make them str"
        )
    controls = [control] if control is not None else KNOWN_CONTROLS
    found = [(column, value) for column in keys for value in controls if value in set(obs[column].unique())]
    if not found:
        what = f"the label '{control}'" if control is not None else f"any of {', '.join(KNOWN_CONTROLS)}"
        where = f"obs['{key}']" if key is not None else "any obs column"
        seen = f" with {_levels_seen(obs[key])}" if key is not None else f" ({_columns_seen(obs)})"
        raise DataError(
            f"there are no control cells: {what} is not in {where}{seen}; give columns.control_value"
        )
    for other in found[1:]:
        if not _same_labelling(obs, found[0], other):
            raise DataError(
                f"control cells could be '{found[0][1]}' of obs['{found[0][0]}'] or '{other[1]}' of "
                f"obs['{other[0]}']; give both columns.perturbation_key and "
                "columns.control_value"
            )
    return found[0]


def _same_labelling(obs: pd.DataFrame, one: tuple[str, str], other: tuple[str, str]) -> bool:
    if one == other:
        return True
    (first, first_control), (second, second_control) = (_grouped(obs, *pair) for pair in (one, other))
    return bool(np.array_equal(first, second) and np.array_equal(first_control, second_control))


def _grouped(obs: pd.DataFrame, column: str, control: str) -> tuple[np.ndarray, np.ndarray]:
    labels = np.array([label_in_file(str(label), control) for label in obs[column]], dtype=object)
    return pd.factorize(labels)[0], labels == CONTROL_LABEL


def _first_present(obs: pd.DataFrame, keys: Iterable[str]) -> str | None:
    return next((key for key in keys if key in obs.columns), None)


def _dosage_column(obs: pd.DataFrame, named: str | None) -> str | None:
    for key in DOSE_KEYS if named is None else (named,):
        levels = obs[key].dropna().unique() if key in obs.columns else ()
        if len(levels) and all(_DOSAGE.fullmatch(str(level)) for level in levels):
            return key
    if named is not None:
        raise DataError(
            f"obs['{named}'] holds {_levels_seen(obs[named])}, which are no doses; give a columns.dose_key with "
            "numbers, joined by + for a combination"
        )
    return None


def _covariates(
    obs: pd.DataFrame, perturbation_key: str | None, named: Iterable[str | None]
) -> tuple[str, ...]:
    keys = dict.fromkeys([key for key in named if key is not None] + list(COVARIATE_KEYS))
    return tuple(
        key for key in keys if key in obs.columns and key != perturbation_key and obs[key].nunique() > 1
    )


def _no_preset_fits(obs: pd.DataFrame, preset: str | None) -> str:
    expected = " or ".join(
        f"{p.name} ('{p.controls[0]}' in obs['{p.column}']{', with dosages' if p.needs_dosage else ''})"
        for p in _presets_named(preset)
    )
    return (
        f"no perturbation labels recognised: expected {expected}, saw {_columns_seen(obs)}; "
        "give columns.perturbation_key and columns.control_value"
    )


def _text_columns(obs: pd.DataFrame) -> list[str]:
    return [str(column) for column in obs.columns if not pd.api.types.is_numeric_dtype(obs[column])]


def _columns_seen(obs: pd.DataFrame) -> str:
    columns = _text_columns(obs)
    if not columns:
        return "no obs column with labels"
    return listed([f"obs['{column}'] ({_levels_seen(obs[column])})" for column in columns], 8)


def _levels_seen(column: pd.Series) -> str:
    return listed([str(level) for level in column.unique()], 3)
