"""A split of cells into parts, as a value: what may be learned from, and a refusal of everything else."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import Label
from perturbrl.errors import DataError, LeakageError, listed
from perturbrl.schema import CellIndex

PartName = Literal["train", "validation", "test", "goal", "unused"]
PARTS: Final = ("train", "validation", "test", "goal")
SAVED: Final = (*PARTS, "reference")


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint parts of a data set, as increasing row numbers, and the reference cells among those of training.

    Args:
        name: how the parts were drawn.
        seed: the seed they were drawn with.
        train: cells that anything may be learned from; genes and encoder, from all but the reference cells.
        validation: cells to choose between things learned.
        test: cells that only judge.
        goal: cells of the design target that define the goal and never judge. They are no training cells, or all
            of them are, where a landscape must learn that there is a basin.
        reference: the training cells of the source that neither genes are chosen on nor an encoder is fitted on,
            to tell the target from: in the space of genes and encoder they are as unseen as the goal's.
        barcodes: name of every cell of the data set, by row.
        held_out_perturbations: labels held out as a whole; no cell in train has one, or one that contains it.
    """

    name: str
    seed: int
    train: CellIndex
    validation: CellIndex
    test: CellIndex
    goal: CellIndex
    reference: CellIndex
    barcodes: tuple[str, ...] = field(repr=False)
    held_out_perturbations: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        learned = np.isin(self.goal, self.train)
        goal = self.goal[:0] if len(self.goal) and learned.all() else self.goal
        rows = np.concatenate((self.train, self.validation, self.test, goal))
        if len(np.unique(rows)) != len(rows):
            raise LeakageError(f"split '{self.name}' puts cells into two parts; make a new split")
        if not np.isin(self.reference, self.train).all():
            raise LeakageError(f"split '{self.name}' has reference cells outside training; make a new split")

    def part_of(self, index: int) -> PartName:
        """Return the part that a row is in; ``unused`` is in none."""
        for part in PARTS:
            if index in getattr(self, part):
                return part
        return "unused"

    def require_train(self, indices: CellIndex, labels: Sequence[str] | np.ndarray) -> CellIndex:
        """Return ``indices`` if all may be learned from; asked wherever cells are read to learn from them.

        Args:
            indices: rows of the cells.
            labels: what was done to each of them.

        Raises:
            LeakageError: how many are not training cells, and of which part the first is; or a label tells of
                a held-out one.
        """
        outside = np.asarray(indices)[~np.isin(indices, self.train)]
        if len(outside):
            first = int(outside[0])
            raise LeakageError(
                f"{len(outside)} of {len(indices)} cells to learn from are held out by {self.name} (first: "
                f"{self.barcodes[first]}, part {self.part_of(first)}); learn from its training cells only"
            )
        self.require_untold(labels)
        return indices

    def require_untold(self, labels: Sequence[str] | np.ndarray) -> None:
        """Refuse labels that are held out or contain a held-out one.

        Raises:
            LeakageError: which labels.
        """
        told = sorted(containing(map(Label.parse, set(labels)), self.held_out_perturbations))
        if told:
            raise LeakageError(
                f"cells under {listed(told, 5)} would be learned from, and {self.name} holds out "
                f"{listed(self.held_out_perturbations, 5)}; leave them out of training"
            )

    def to_dict(self) -> dict[str, Any]:
        """The parts as lists of barcodes: plain values for a checkpoint or a JSON file."""
        return {
            "name": self.name,
            "seed": self.seed,
            "held_out_perturbations": [str(label) for label in self.held_out_perturbations],
            "parts": {part: [self.barcodes[row] for row in getattr(self, part)] for part in SAVED},
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any], dataset: PerturbationDataset) -> "Split":
        """Find the cells of ``to_dict``'s content in ``dataset``, whatever the order of its rows.

        Raises:
            DataError: it names cells that the data set does not have.
        """
        name, parts = content["name"], content["parts"]
        row_of = {barcode: row for row, barcode in enumerate(dataset.barcodes)}
        absent = [barcode for barcodes in parts.values() for barcode in barcodes if barcode not in row_of]
        if absent:
            raise DataError(
                f"split '{name}' names {len(absent)} cells that the data do not have (first: {absent[0]}); "
                "give the data it was made from"
            )
        rows = {part: np.array(sorted(row_of[b] for b in parts[part]), dtype=np.int64) for part in SAVED}
        label_of = {str(label): label for label in dataset.measured}
        held_out = tuple(label_of.get(text, Label.parse(text)) for text in content["held_out_perturbations"])
        return cls(name, content["seed"], barcodes=dataset.barcodes, held_out_perturbations=held_out, **rows)

    def save(self, path: Path | str) -> None:
        """Write the parts as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str, dataset: PerturbationDataset) -> "Split":
        """Read a saved split and find its cells in ``dataset``.

        Raises:
            DataError: the file is not a split, or names cells that the data set does not have.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")), dataset)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"'{path}' is not a split that perturbrl saved ({error!r}); give one") from error


def containing(labels: Iterable[Label], held_out: Collection[Label]) -> set[Label]:
    """The labels that leave training: those that contain a held-out one (the rule of ``perturbrl.data.splits``)."""
    return {label for label in labels if any(label.contains(held) for held in held_out)}
