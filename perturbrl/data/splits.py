"""Which cells may be learned from, which define the goal, and which only judge: named, seeded, saved.

One rule says what leaves training, for targets and splits alike: a label does when it contains a held-out one
(its parts are a superset of that one's, doses included), because it would tell that one's effect. Cells that
leave for a target's sake and are not the target's own are used for nothing. A landscape has a basin only where
it learned from cells: there the half of the target's cells that defines the goal is learned from, and only there.

Cells are drawn by their names (see ``perturbrl.data.drawing``): rows in another order give the same parts.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.drawing import CellFlags, cells_under, check_fractions, draw, in_hash_order, share_of
from perturbrl.data.labels import Label
from perturbrl.data.split import Split, containing
from perturbrl.errors import DataError
from perturbrl.schema import CONTROL_LABEL, CellIndex


class HeldOut(NamedTuple):
    """What a strategy holds out: one flag per cell for those that judge, and labels held out as a whole."""

    test: CellFlags
    labels: Collection[Label] = ()


class SplitStrategy(ABC):
    """How cells are divided; subclasses say which ones judge."""

    validation_fraction: float
    seed: int

    def split(
        self,
        dataset: PerturbationDataset,
        hold_out: Sequence[str] = (),
        goal_fraction: float = 0.5,
        source: str | None = None,
        reference_fraction: float = 0.2,
        *,
        learn_target: bool = False,
    ) -> Split:
        """Divide the cells.

        Args:
            dataset: the cells.
            hold_out: populations, such as the design target, that leave training with all that tells of them.
            goal_fraction: share of the cells of each of these that define the goal; the others judge.
            source: population of the cells to tell these from; ``None`` chooses no reference cells.
            reference_fraction: share of the source's cells, after those that judge, to be reference cells.
            learn_target: whether the cells that define the goal are training cells, too; then cells that tell of
                the target, but are not its own, stay where they are, and some of the source must judge.

        Raises:
            DataError: there is no such population, or the split cannot be made from these data.
            ConfigurationError: a fraction is out of range.
        """
        check_fractions(goal_fraction, reference_fraction)
        targets = [dataset.populations.named(name) for name in hold_out]
        is_target = _target_cells(dataset, targets)
        gone = is_target if learn_target else _flags(dataset, map(dataset.populations.telling, targets))
        labels = () if learn_target else [target for target in targets if isinstance(target, Label)]
        held = self.held_out(dataset, gone)
        whole = containing(dataset.perturbations, {*labels, *held.labels})
        test = is_target | (held.test & (~gone | cells_under(dataset, held.labels)))
        goal = draw(dataset, is_target, goal_fraction, self.seed, "goal")
        rest = ~(test | gone | cells_under(dataset, whole))
        # At least two, because one cell has no spread to tell populations apart by.
        of_source = rest & _flags(dataset, [] if source is None else [dataset.population_rows(source)])
        reference = draw(dataset, of_source, reference_fraction, self.seed, "reference", at_least=2)
        validation = draw(dataset, rest & ~reference, self.validation_fraction, self.seed, "validation")
        if learn_target and source is not None:
            _require_both_halves(
                dataset, source, {"that is learned from": rest & ~validation, "that judges": test}
            )
        return Split(
            name=type(self).__name__,
            seed=self.seed,
            train=np.flatnonzero(rest & ~validation | (goal if learn_target else False)),
            validation=np.flatnonzero(validation),
            test=np.flatnonzero(test & ~goal),
            goal=np.flatnonzero(goal),
            reference=np.flatnonzero(reference),
            barcodes=dataset.barcodes,
            held_out_perturbations=tuple(sorted(whole)),
        )

    @abstractmethod
    def held_out(self, dataset: PerturbationDataset, gone: CellFlags) -> HeldOut:
        """Choose the cells that judge; those of ``gone`` have left training already, for a target's sake."""


@dataclass(frozen=True)
class HeldOutCells(SplitStrategy):
    """The same share of the cells of every perturbation, and of control, judges.

    Args:
        test_fraction: share of the cells that judge.
        validation_fraction: share of the other cells for validation.
        seed: seed of the draw.
    """

    test_fraction: float = 0.2
    validation_fraction: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fractions(self.test_fraction, self.validation_fraction)

    def held_out(self, dataset: PerturbationDataset, gone: CellFlags) -> HeldOut:
        """Draw within each label."""
        return HeldOut(draw(dataset, ~gone, self.test_fraction, self.seed, "test"))


@dataclass(frozen=True)
class HeldOutPerturbations(SplitStrategy):
    """All cells of some perturbations judge, and a share of the control cells beside them.

    A combination that contains one of them is held out too, and judges.

    Args:
        fraction: share of the perturbations to hold out (at least one), where none are named.
        perturbations: the perturbations to hold out.
        control_fraction: share of the control cells that judge.
        validation_fraction: share of the other cells for validation.
        seed: seed of the draw.
    """

    fraction: float = 0.2
    perturbations: list[str] | None = None
    control_fraction: float = 0.2
    validation_fraction: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fractions(self.fraction, self.control_fraction, self.validation_fraction)

    def held_out(self, dataset: PerturbationDataset, gone: CellFlags) -> HeldOut:
        """Draw whole labels, with the combinations they are part of."""
        free = sorted(set(dataset.labels[~gone]) - {CONTROL_LABEL})
        if self.perturbations is not None:
            drawn = {dataset.require_label(label) for label in self.perturbations}
        else:
            drawn = set(in_hash_order(free, self.seed)[: max(1, share_of(self.fraction, len(free)))])
        outside = containing(dataset.perturbations, drawn)
        if not set(free) - outside:
            raise DataError(
                f"holding out all {len(dataset.perturbations)} measured perturbations leaves none to learn; "
                "hold out fewer, or choose HeldOutCells, or HeldOutCellTypes where several types were measured"
            )
        controls = _judging_controls(dataset, self.control_fraction, self.seed)
        return HeldOut(cells_under(dataset, outside) | controls, drawn)


@dataclass(frozen=True)
class HeldOutCombinations(SplitStrategy):
    """All cells of some combinations judge; exactly ``seen`` of their components are known from training.

    A component counts as seen where its single perturbation is in training. One that must not be seen leaves
    training with its single and with every combination it is part of; of these, the ones that do not have
    exactly ``seen`` components seen are used for nothing.

    Args:
        seen: how many components of a held-out combination are in training as singles.
        fraction: share of the eligible combinations to hold out (at least one), where none are named.
        combinations: the combinations to hold out.
        control_fraction: share of the control cells that judge.
        validation_fraction: share of the other cells for validation.
        seed: seed of the draw.
    """

    seen: Literal[0, 1, 2] = 2
    fraction: float = 0.2
    combinations: list[str] | None = None
    control_fraction: float = 0.2
    validation_fraction: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fractions(self.fraction, self.control_fraction, self.validation_fraction)

    def held_out(self, dataset: PerturbationDataset, gone: CellFlags) -> HeldOut:
        """Draw combinations, choose which of their components stay seen, and remove the others."""
        singles = set(dataset.labels[~gone]) & set(dataset.singles)
        chosen, unseen = self._choose(self._candidates(dataset, singles), singles)
        outside = containing(dataset.perturbations, chosen | unseen)
        test = {label for label in outside if self._judges(set(label.singles), singles - unseen, unseen)}
        controls = _judging_controls(dataset, self.control_fraction, self.seed)
        return HeldOut(cells_under(dataset, test) | controls, chosen | unseen)

    def _judges(self, parts: set[Label], seen: set[Label], unseen: set[Label]) -> bool:
        return len(parts) > 1 and len(parts & seen) == self.seen and parts - seen <= unseen

    def _candidates(self, dataset: PerturbationDataset, singles: set[Label]) -> list[Label]:
        able = [c for c in dataset.combinations if len(singles & set(c.singles)) >= self.seen]
        if self.combinations is None and able:
            return in_hash_order(able, self.seed)
        named = [dataset.require_label(label) for label in self.combinations or ()]
        unable = sorted(set(named) - set(able))
        if unable or not able:
            raise DataError(
                f"{', '.join(unable) or 'no combination'} of the {len(dataset.combinations)} measured has "
                f"{self.seen} components that are measured alone; choose a smaller seen or another split"
            )
        return named

    def _choose(self, candidates: list[Label], singles: set[Label]) -> tuple[set[Label], set[Label]]:
        """Take combinations in order while what one needs seen is not what another needs unseen."""
        named = self.combinations is not None
        wanted = len(candidates) if named else max(1, share_of(self.fraction, len(candidates)))
        chosen: set[Label] = set()
        seen: set[Label] = set()
        unseen: set[Label] = set()
        for label in candidates:
            parts = set(label.singles)
            ways = combinations(in_hash_order(parts & singles, self.seed), self.seen)
            kept = next((set(w) for w in ways if not (set(w) & unseen or (parts - set(w)) & seen)), None)
            if len(chosen) < wanted and kept is not None:
                chosen.add(label)
                seen |= kept
                unseen |= parts - kept
        if named and len(chosen) < wanted:
            raise DataError(
                f"{candidates} cannot all have {self.seen} components seen at once; hold out fewer"
            )
        return chosen, unseen


@dataclass(frozen=True)
class HeldOutCellTypes(SplitStrategy):
    """All perturbed cells of some cell types judge; their control cells stay, but for a share that judges.

    Args:
        cell_types: the cell types whose response is to be foretold.
        control_fraction: share of the control cells that judge.
        validation_fraction: share of the other cells for validation.
        seed: seed of the draw.
    """

    cell_types: list[str]
    control_fraction: float = 0.2
    validation_fraction: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fractions(self.control_fraction, self.validation_fraction)

    def held_out(self, dataset: PerturbationDataset, gone: CellFlags) -> HeldOut:
        """Flag the perturbed cells of the types."""
        known = sorted(set(dataset.cell_types))
        absent = sorted(set(self.cell_types) - set(known))
        if absent or not self.cell_types:
            raise DataError(f"the data have no cell type {absent or '(none is named)'}; choose among {known}")
        test = np.isin(dataset.cell_types, self.cell_types) & (dataset.labels != CONTROL_LABEL)
        controls = _judging_controls(dataset, self.control_fraction, self.seed)
        return HeldOut(test | controls)


def _target_cells(dataset: PerturbationDataset, targets: Sequence[str]) -> CellFlags:
    for name in targets:
        n = len(dataset.population_rows(name))
        if n < 2:
            raise DataError(f"'{name}' has {n} cell; a target needs one to define the goal and one to judge")
    return _flags(dataset, map(dataset.population_rows, targets))


def _require_both_halves(dataset: PerturbationDataset, name: str, halves: Mapping[str, CellFlags]) -> None:
    rows = dataset.population_rows(name)
    for half, flags in halves.items():
        if not flags[rows].any():
            raise DataError(
                f"none of the {len(rows)} cells of '{name}' is in the half {half}; change data.split.test_fraction, "
                "or choose a population of more cells"
            )


def _flags(dataset: PerturbationDataset, rows: Iterable[CellIndex]) -> CellFlags:
    flags = np.zeros(dataset.n_cells, dtype=bool)
    for some in rows:
        flags[some] = True
    return flags


def _judging_controls(dataset: PerturbationDataset, fraction: float, seed: int) -> CellFlags:
    return draw(dataset, dataset.labels == CONTROL_LABEL, fraction, seed, "test")
