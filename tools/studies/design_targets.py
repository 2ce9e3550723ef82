"""Targets of the design study: which file, which population is the target, and what may be proposed for it.

A target is made anonymous before anything sees the file: its cells are labelled ``target``, as cells of a patient
would be, and cells that would tell of it leave the file. So nothing can be learned from a name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.gene_sets import read_gene_sets
from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.responses.askable import most_alike_first
from perturbrl.schema import CONTROL_LABEL, PERTURBATION_OBS

TARGET: Final = "target"
N_DECOYS: Final = 100
NORMAN, PAPALEXI = "norman2019_k562_crispra.h5ad", "papalexi2021_thp1_eccite.h5ad"


@dataclass(frozen=True)
class Part:
    """Targets of one kind.

    Attributes:
        file: in the data folder.
        doubles: whether targets are doubles; else they are singles.
        alone: of doubles, whether both parts were measured alone; else they are told by other combinations, at least
            one of them by these only. Only such perturbations may be proposed, one or two together.
        in_combinations: of singles, whether combinations that hold them stay, and tell of them; else these leave the
            file, and nothing but prior knowledge tells of a target.
        gene_sets: prior knowledge, in the data folder.
    """

    file: str
    doubles: bool = False
    alone: bool = False
    in_combinations: bool = False
    gene_sets: str | None = None


_REACTOME: Final = "prior/reactome_pathways.gmt"
PARTS: Final[Mapping[str, Mapping[str, Part]]] = {
    "norman": {
        "norman_both": Part(NORMAN, doubles=True, alone=True),
        "norman_inferred": Part(NORMAN, doubles=True),
        "norman_in_combinations": Part(NORMAN, in_combinations=True),
        "norman_singles": Part(NORMAN, gene_sets=_REACTOME),
    },
    "papalexi": {"papalexi": Part(PAPALEXI, gene_sets=_REACTOME)},
}
PART: Final = {name: part for parts in PARTS.values() for name, part in parts.items()}


@lru_cache(maxsize=2)
def dataset_of(path: Path) -> PerturbationDataset:
    """The file of a part.

    Raises:
        DataError: it is not there, or cannot be used.
    """
    if not path.is_file():
        raise DataError(f"'{path.name}' is not in '{path.parent}'; give its folder with --data")
    return load_dataset(path)


def targets_of(folder: Path, part: Part) -> list[str]:
    """Each in turn is the target; those of which nothing at all would tell are left out."""
    dataset = dataset_of(folder / part.file)
    found = dataset.combinations if part.doubles else dataset.singles
    return [str(label) for label in found if _is_target(folder, part, dataset, label)]


def _is_target(folder: Path, part: Part, dataset: PerturbationDataset, label: Label) -> bool:
    if part.doubles:
        alone = set(label.singles) <= set(dataset.singles)
        return alone if part.alone else not alone and set(label.names) <= _told(part, dataset, label)
    if part.in_combinations:
        return set(label.names) <= _told(part, dataset, label)
    return set(label.names) <= set(proposable(folder, part, label))


def _told(part: Part, dataset: PerturbationDataset, label: Label) -> set[str]:
    """Perturbations of which cells tell that stay in the file."""
    return {name for kept in _kept(part, dataset, label) if kept != label for name in kept.names}


def _kept(part: Part, dataset: PerturbationDataset, label: Label) -> list[Label]:
    return [
        own
        for own in dataset.perturbations
        if own == label or part.in_combinations or not own.contains(label)
    ]


def proposable(folder: Path, part: Part, label: Label) -> tuple[str, ...]:
    """Names that may be proposed, sorted; the target's own are among them, or it is no target.

    Where prior knowledge tells of what was not measured, the ``N_DECOYS`` unmeasured ones that it likens most to
    measured ones may be proposed, too, or the target would be known by being the only one that was not measured.
    """
    dataset = dataset_of(folder / part.file)
    if part.doubles and part.alone:
        return tuple(sorted(name for one in dataset.singles if one != label for name in one.names))
    told = _told(part, dataset, label)
    if part.gene_sets is None:
        return tuple(sorted(told))
    alike = _alike(folder / part.gene_sets, tuple(sorted(told)))
    own = [name for name in label.names if name in alike]
    return tuple(sorted({*told, *own, *alike[:N_DECOYS]}))


@lru_cache(maxsize=64)
def _alike(path: Path, told: tuple[str, ...]) -> list[str]:
    return most_alike_first((_gene_sets(path),), told, told)


_gene_sets = lru_cache(maxsize=2)(read_gene_sets)


def write_anonymous(folder: Path, part: Part, target: str, path: Path) -> None:
    """The file in which the cells of a target have no name, and none is left that tells of it."""
    dataset, label = dataset_of(folder / part.file), Label.parse(target)
    kept = np.isin(dataset.labels.astype(str), [CONTROL_LABEL, *map(str, _kept(part, dataset, label))])
    cells = dataset.adata[kept].copy()
    labels = cells.obs[PERTURBATION_OBS].astype(str)
    cells.obs[PERTURBATION_OBS] = labels.where(labels != target, TARGET)
    cells.write_h5ad(path)
