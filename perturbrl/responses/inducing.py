"""Many rows seen through few conditions: which conditions, and which rows belong together.

A covariance between thousands of rows is a part that few inducing conditions tell (what all perturbations do, what
prior knowledge likens) and a rest that only rows of the same perturbations, or of very similar ones, share. Such rows
lie in one block; perturbations of several different rows (parts of combinations) are inducing conditions themselves.

Source: Snelson and Ghahramani 2007 (partially independent conditional); Harbrecht 2012 (10.1016/j.apnum.2011.10.001),
the pivoted Cholesky factor by which conditions are chosen.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Int

from perturbrl.responses.covariances import Covariances
from perturbrl.responses.named_covariances import NamedCovariances, Variances
from perturbrl.responses.training_cells import Condition
from perturbrl.responses.weight_averaging import WeightNet

BLOCK: Final = 32
MOST_INDUCING: Final = 512
MOST_SHARED: Final = 512
MOST_LINKS: Final = 4
_AT_ONCE: Final = 64
_LEAST_VARIANCE: Final = 1e-6


@dataclass(frozen=True, eq=False)
class Inducing:
    """Inducing conditions and blocks of rows.

    Attributes:
        conditions: by which the smooth part of the covariance is told.
        shared: perturbations that different rows share.
        order: row at each place, block after block.
        cells: inducing condition to which the rows of each block are most alike, of its first and its last row.
        names: perturbations of the rows of each block.
    """

    conditions: tuple[Condition, ...]
    shared: tuple[Condition, ...]
    order: Int[np.ndarray, " rows"]
    cells: tuple[tuple[int, int], ...]
    names: tuple[frozenset[tuple[str, ...]], ...]

    @classmethod
    def of(cls, covariances: Covariances, net: WeightNet, rows: Sequence[Condition]) -> "Inducing":
        """Those of measured rows, at the mean of the net's weights."""
        mean = net.mean()
        conditions = tuple(rows[i] for i in _chosen(covariances, mean, rows))
        cell = _nearest(covariances, mean, rows, conditions)
        first: dict[tuple[str, ...], int] = {}
        for (label, _), at in zip(rows, cell.tolist(), strict=True):
            first.setdefault(label.names, at)
        keys = [(first[label.names], label.names, label, context) for label, context in rows]
        order = sorted(range(len(rows)), key=keys.__getitem__)
        blocks = [order[i : i + BLOCK] for i in range(0, len(order), BLOCK)]
        return cls(
            conditions,
            _shared(rows),
            np.array(order),
            tuple((keys[block[0]][0], keys[block[-1]][0]) for block in blocks),
            tuple(frozenset(rows[i][0].names for i in block) for block in blocks),
        )

    def links(
        self, covariances: Covariances, net: WeightNet, asked: Sequence[Condition]
    ) -> tuple[Int[np.ndarray, " links"], Int[np.ndarray, " links"]]:
        """Conditions and the blocks whose rows tell more of them than the inducing conditions do, sorted by block."""
        same, holding = self._blocks_of_names
        cells = _nearest(covariances, net.mean(), asked, self.conditions)
        found = set()
        for i, (label, _) in enumerate(asked):
            near = [
                *same.get(label.names, ()),
                *(block for name in label.names for block in holding.get(name, ())),
            ]
            near += self._blocks_of_cell(int(cells[i]))
            found |= {(block, i) for block in list(dict.fromkeys(near))[:MOST_LINKS]}
        blocks, queries = np.array(sorted(found), dtype=int).reshape(-1, 2).T
        return queries, blocks

    @cached_property
    def _blocks_of_names(self) -> tuple[dict[tuple[str, ...], list[int]], dict[str, list[int]]]:
        """Blocks by all names of a row, and by a name that is not shared."""
        shared = {name for label, _ in self.shared for name in label.names}
        same, holding = defaultdict(list), defaultdict(list)
        for block, found in enumerate(self.names):
            for names in sorted(found):
                same[names].append(block)
                for name in set(names) - shared:
                    holding[name].append(block)
        return dict(same), dict(holding)

    def _blocks_of_cell(self, cell: int) -> list[int]:
        return [block for block, (low, high) in enumerate(self.cells) if low <= cell <= high][:1]


def _chosen(covariances: Covariances, net: WeightNet, rows: Sequence[Condition]) -> list[int]:
    """Rows that tell most of the smooth part of all others: a pivoted Cholesky factor, some columns at a time."""
    left = Variances(covariances, rows).smooth(net, 0)
    least, factor = _LEAST_VARIANCE * float(left.max()), np.zeros((len(rows), 0))
    chosen: list[int] = []
    open_ = np.ones(len(rows), dtype=bool)
    # Of rows with equal variance, those far from each other in the order come first.
    tie = np.arange(len(rows)) * 0.6180339887498949 % 1.0
    while len(chosen) < MOST_INDUCING and (left[open_] > least).any():
        ranked = np.lexsort((tie, -np.where(open_, left, -1.0).round(12)))
        tried = [int(i) for i in ranked[:_AT_ONCE] if open_[i] and left[i] > least]
        open_[tried] = False
        between = NamedCovariances.of(covariances, rows, [rows[i] for i in tried])
        columns = between.smooth(net, 0) - factor @ factor[tried].T
        for place, row in enumerate(tried[: MOST_INDUCING - len(chosen)]):
            column, height = columns[:, place], columns[row, place]
            # What a row has for itself alone tells nothing of others.
            if height <= least or np.square(column).sum() < (1.0 + _LEAST_VARIANCE) * height**2:
                continue
            column = column / height**0.5
            chosen.append(row)
            factor = np.column_stack((factor, column))
            left -= np.square(column)
            columns[:, place + 1 :] -= np.outer(column, column[tried[place + 1 :]])
    return chosen or [int(np.argmax(left))]


def _nearest(
    covariances: Covariances, net: WeightNet, asked: Sequence[Condition], conditions: Sequence[Condition]
) -> Int[np.ndarray, " asked"]:
    """The inducing condition to which each is most alike."""
    height = np.sqrt(np.maximum(Variances(covariances, conditions).smooth(net, 0), np.finfo(float).tiny))
    parts = [asked[i : i + 1024] for i in range(0, len(asked), 1024)]
    found = [NamedCovariances.of(covariances, part, conditions).smooth(net, 0) / height for part in parts]
    return np.concatenate([np.argmax(one.round(12), axis=1) for one in found])


def _shared(rows: Sequence[Condition]) -> tuple[Condition, ...]:
    """Single perturbations, as they were given, of names that rows of different perturbations have, most rows first."""
    kinds: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    count: Counter[Condition] = Counter()
    for label, context in rows:
        for single in label.singles:
            kinds[single.names[0]].add(label.names)
            count[single, context] += 1
    found = [one for one in count if len(kinds[one[0].names[0]]) > 1]
    return tuple(sorted(found, key=lambda one: (-count[one], one))[:MOST_SHARED])
