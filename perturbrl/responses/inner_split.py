"""Which training perturbations decide about what was learned of the others, and what is foretold of each unseen.

A model that is corrected by what it got wrong must be corrected where it had not seen the answer: what it says of a
condition that it was fitted on leaves nothing over that would be left over for an unmeasured one. Hence every condition
is foretold by a model of others (cross-fitting: Stone 1974; Chernozhukov 2018, 10.1111/ectj.12097), and the rule that
holds between training and test holds here, too: a label leaves with all labels that contain it.

Units are labels, in all contexts at once; where one label was measured, they are contexts. Doses of one perturbation
leave one by one, as they do between training and test, and count as one observation where several perturbations were
measured.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from perturbrl.data.drawing import in_hash_order, share_of
from perturbrl.data.labels import CONTROL, Label, Part
from perturbrl.errors import DataError
from perturbrl.responses.base import Evidence, ResponseModel
from perturbrl.responses.training_cells import Condition, TrainingCells

FEWEST_UNITS: Final = 4


@dataclass(frozen=True, eq=False)
class Foretold:
    """What a model said of conditions that it had not seen.

    Attributes:
        conditions: label and context of each row.
        mean: expected shift of mean log expression.
        sd: its standard deviation.
        evidence: what each rests on.
    """

    conditions: tuple[Condition, ...]
    mean: Float[np.ndarray, "conditions genes"]
    sd: Float[np.ndarray, "conditions genes"]
    evidence: tuple[Evidence, ...]

    @classmethod
    def by(cls, model: ResponseModel, conditions: Sequence[Condition]) -> "Foretold":
        """What a fitted model says."""
        found = model.predict(conditions)
        return cls(tuple(conditions), found.mean, found.sd, found.evidence)


@dataclass(frozen=True)
class InnerSplit:
    """Training conditions in two parts.

    Attributes:
        learned: conditions that may be learned from.
        deciding: conditions that decide; no learned one contains one of them.
        units: of each deciding condition, the number of the perturbation (where there is one, of the dose or else the
            context) that took it along. Conditions with one number share what is wrong with their predictions, so they
            are one observation.
    """

    learned: tuple[Condition, ...]
    deciding: tuple[Condition, ...]
    units: tuple[int, ...]

    @classmethod
    def of(cls, conditions: Sequence[Condition], fraction: float, seed: int) -> "InnerSplit":
        """Draw units that decide; none of fewer than ``FEWEST_UNITS``.

        Args:
            conditions: measured ones.
            fraction: share of the units that decide.
            seed: of the draw.
        """
        units = in_hash_order(_units(conditions), seed)
        drawn = units[: share_of(fraction, len(units))] if len(units) >= FEWEST_UNITS else []
        number_of = dict(zip(drawn, _observations(conditions, drawn), strict=True))
        unit_of = {condition: number_of[unit] for condition, unit in _taken_along(conditions, drawn)}
        kept = tuple(condition for condition in conditions if condition not in unit_of)
        if len(set(_units(kept))) < 2:
            return cls(tuple(conditions), (), ())
        gone = tuple(condition for condition in conditions if condition in unit_of)
        return cls(kept, gone, tuple(unit_of[condition] for condition in gone))


def foretold(
    cells: TrainingCells,
    conditions: Sequence[Condition],
    model: Callable[[], ResponseModel],
    *,
    n_folds: int,
    seed: int,
) -> Foretold:
    """What models of the other conditions say of each; one that nothing else is left for is not among them.

    Args:
        cells: training cells; those of other perturbations than ``conditions`` are not looked at.
        conditions: measured ones.
        model: makes a model that is not fitted yet.
        n_folds: models fitted, at most; each is asked about the conditions of its share of the units.
        seed: decides which units share a model.

    Raises:
        DataError: there is one unit, of which others tell nothing.
    """
    require_others(conditions)
    units = in_hash_order(_units(conditions), seed)
    among = only(cells, conditions)
    parts = [
        _of_fold(among, conditions, units[k :: min(n_folds, len(units))], model)
        for k in range(min(n_folds, len(units)))
    ]
    found = [part for part in parts if part is not None]
    return Foretold(
        tuple(condition for part in found for condition in part.conditions),
        np.concatenate([part.mean for part in found]),
        np.concatenate([part.sd for part in found]),
        tuple(evidence for part in found for evidence in part.evidence),
    )


def require_others(conditions: Sequence[Condition]) -> None:
    """Refuse a single perturbation in a single context, which says nothing of what others do.

    Raises:
        DataError: there is no more.
    """
    if len(_units(conditions)) < 2:
        raise DataError(
            f"{conditions[0][0]} is all that was measured beside control, in one context, and what it does of its own "
            "cannot be told from what any perturbation does; give data with at least 2"
        )


def _of_fold(
    cells: TrainingCells,
    conditions: Sequence[Condition],
    units: Sequence[str],
    model: Callable[[], ResponseModel],
) -> Foretold | None:
    gone, place, own = leaving(conditions, units), _place_of_unit(conditions), frozenset(units)
    left = set(gone)
    rest = [condition for condition in conditions if condition not in left]
    if not rest:
        return None
    asked = [condition for condition in gone if condition[place] in own]
    return Foretold.by(model().fit(only(cells, rest)), asked)


def leaving(conditions: Sequence[Condition], units: Sequence[str]) -> list[Condition]:
    """The conditions that units take with them: those whose label contains one, or those in a context."""
    return [condition for condition, _ in _taken_along(conditions, units)]


def _taken_along(conditions: Sequence[Condition], units: Sequence[str]) -> Iterator[tuple[Condition, str]]:
    """Conditions that leave, with the first unit that takes each along."""
    if _place_of_unit(conditions):
        own = frozenset(units)
        yield from ((condition, condition[1]) for condition in conditions if condition[1] in own)
        return
    # What contains a unit has its first part, which few units have.
    by_first: dict[Part, list[tuple[int, Label]]] = defaultdict(list)
    for order, unit in enumerate(units):
        label = Label.parse(unit)
        by_first[label.parts[0]].append((order, label))
    for condition in conditions:
        near = (one for part in condition[0].parts for one in by_first.get(part, ()))
        first = min((order for order, label in near if condition[0].contains(label)), default=None)
        if first is not None:
            yield condition, units[first]


def only(cells: TrainingCells, wanted: Collection[Condition]) -> TrainingCells:
    """The control cells and those of some conditions."""
    (conditions, codes), among = cells.conditions, frozenset(wanted)
    kept = np.array([condition[0].is_control or condition in among for condition in conditions])
    rows: list[int] = np.flatnonzero(kept[codes]).tolist()
    types = cells.cell_types
    return TrainingCells(
        cells.expression[rows],
        [cells.labels[row] for row in rows],
        cells.genes,
        None if types is None else [types[row] for row in rows],
    )


def measured_conditions(cells: TrainingCells) -> list[Condition]:
    """Conditions whose context has control cells."""
    found = set(cells.conditions[0])
    return sorted(c for c in found if not c[0].is_control and (CONTROL, c[1]) in found)


def rows_by_condition(cells: TrainingCells) -> dict[Condition, Int[np.ndarray, " cells"]]:
    """Row numbers of the cells of each condition, controls among them."""
    conditions, codes = cells.conditions
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=len(conditions)))[:-1])
    return dict(zip(conditions, parts, strict=True))


def _place_of_unit(conditions: Sequence[Condition]) -> int:
    """Where in a condition its unit stands: the label, or the context where one label was measured."""
    return 0 if len({label for label, _ in conditions}) > 1 else 1


def _observations(conditions: Sequence[Condition], units: Sequence[str]) -> list[int]:
    """A number of each unit; where several perturbations were measured, one for all doses of the same."""
    several = len({label.names for label, _ in conditions}) > 1
    keys = [Label.parse(unit).names if several else (unit,) for unit in units]
    number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [number_of[key] for key in keys]


def _units(conditions: Sequence[Condition]) -> list[str]:
    place = _place_of_unit(conditions)
    return sorted({condition[place] for condition in conditions})
