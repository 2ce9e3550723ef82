"""Whether the dose of a screen raises or lowers the genes that its perturbations are named after."""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.embeddings.base import EncodedCells
from perturbrl.schema import CONTROL_LABEL

_SURE: Final = 3.0  # standard errors by which the gene itself must have moved
_MOSTLY: Final = 0.9  # share of the screen's perturbations that must agree where one does not tell
_FEWEST: Final = 3


def target_senses(cells: EncodedCells, names: Sequence[str]) -> tuple[int, ...]:
    """Of each perturbation 1 where dose 1 raises the gene of its name, -1 where it lowers it, 0 where nothing tells.

    The file says it of all (``EncodedCells.sense``), or the gene's own expression under the perturbation does. A
    perturbation of which neither does is taken for one of the same kind as nearly all others of the screen.
    """
    if cells.sense:
        return (cells.sense,) * len(names)
    measured = [str(label) for label in cells.perturbations if not label.is_combination]
    own = {name: _own_sense(cells, name) for name in dict.fromkeys((*measured, *names))}
    told = [sense for sense in own.values() if sense]
    up = sum(sense > 0 for sense in told)
    mostly = 1 if up >= _MOSTLY * len(told) else -1 if len(told) - up >= _MOSTLY * len(told) else 0
    return tuple(own[name] or (mostly if told else 0) for name in names)


def _own_sense(cells: EncodedCells, name: str) -> int:
    """Direction in which cells' own gene of that name has moved; 0 where it is none, or has not surely."""
    rows, controls = cells.rows_of(name), cells.rows_of(CONTROL_LABEL)
    if name not in cells.genes or min(len(rows), len(controls)) < _FEWEST:
        return 0
    own = cells.expression[:, cells.genes.index(name)]
    change = own[rows].mean() - own[controls].mean()
    error = (_squared_error(own[rows]) + _squared_error(own[controls])).sqrt()
    return int(change.sign()) if change.abs() > _SURE * error else 0


def _squared_error(values: Float[Tensor, " cells"]) -> Tensor:
    return torch.var(values) / len(values)
