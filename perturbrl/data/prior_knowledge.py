"""What is known of perturbations beside their measurements, as features by which similar ones are told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix, diags

_SPARSE: Final = ("data", "indices", "indptr")


@dataclass(frozen=True, eq=False)
class ScreenShifts:
    """What perturbations did in another screen.

    Attributes:
        genes: of the columns.
        values: ``[names, genes]`` shift of mean log expression from control.
    """

    genes: tuple[str, ...]
    values: Float[np.ndarray, "names genes"]

    def of_genes(self, genes: Sequence[str]) -> Float[np.ndarray, "names wanted"]:
        """Shifts of these genes, 0 where one was not measured there."""
        place = {gene: column for column, gene in enumerate(self.genes)}
        kept = [(i, place[gene]) for i, gene in enumerate(genes) if gene in place]
        wanted, columns = np.array(kept, dtype=np.int64).reshape(-1, 2).T
        found = np.zeros((len(self.values), len(genes)))
        found[:, wanted] = self.values[:, columns]
        return found


@dataclass(frozen=True, eq=False)
class PriorKnowledge:
    """Features of perturbations, from which similar ones are told.

    Attributes:
        source: what it is called in reports, such as the file's name.
        names: perturbations that it knows.
        features: one row per name; a row of zeros says nothing.
        screen: what each did in another screen, where the features come from one.
    """

    source: str
    names: tuple[str, ...]
    features: csr_matrix = field(repr=False)
    screen: ScreenShifts | None = field(default=None, repr=False)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def _lengths(self) -> Float[np.ndarray, " names"]:
        return np.sqrt(np.asarray(self.features.multiply(self.features).sum(axis=1)).ravel())

    @cached_property
    def _directions(self) -> csr_matrix:
        length = self._lengths
        found = csr_matrix(diags(1.0 / np.where(length > 0, length, 1.0)) @ self.features)
        found.eliminate_zeros()
        return found

    def knows(self, name: str) -> bool:
        """Whether anything is said of a perturbation."""
        row, ends = self._row_of.get(name), self._directions.indptr
        return row is not None and bool(ends[row + 1] > ends[row])

    def similarity(self, a: Sequence[str], b: Sequence[str]) -> Float[np.ndarray, "a b"]:
        """Cosine of the features, 0 where one of the two is not known; of a known one with itself 1."""
        return np.asarray((self.directions(a) @ self.directions(b).T).toarray(), dtype=np.float64)

    def likens(self, names: Sequence[str]) -> Callable[[str], bool]:
        """Whether a perturbation has a feature that one of these has, told without comparing it with each."""
        used = self.directions(names).getnnz(axis=0) > 0
        rows, row_of = self._directions, self._row_of

        def is_like_one(name: str) -> bool:
            row = row_of.get(name)
            return row is not None and bool(used[rows.indices[rows.indptr[row] : rows.indptr[row + 1]]].any())

        return is_like_one

    def prominence(self, names: Sequence[str]) -> Float[np.ndarray, " names"]:
        """Length of the features in units of their mean: how much is said of each; 1 where nothing is."""
        rows = np.array([self._row_of.get(name, -1) for name in names], dtype=int)
        lengths, known = np.where(rows >= 0, self._lengths[rows], 0.0), self._lengths > 0
        typical = float(self._lengths[known].mean()) if known.any() else 1.0
        return np.where(lengths > 0, lengths / typical, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint."""
        arrays = {name: torch.from_numpy(getattr(self.features, name)) for name in _SPARSE}
        return {
            "source": self.source,
            "names": list(self.names),
            "n_features": self.features.shape[1],
            **arrays,
            **(_plain(self.screen) if self.screen else {}),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "PriorKnowledge":
        """Restore what ``to_dict`` saved."""
        names, arrays = tuple(content["names"]), tuple(content[name].numpy() for name in _SPARSE)
        features = csr_matrix(arrays, shape=(len(names), content["n_features"]))
        return cls(content["source"], names, features, _screen_of(content))

    def renamed(self, names: Mapping[str, str]) -> "PriorKnowledge":
        """The same under other names; what the source has under both stays under the name itself.

        Args:
            names: the name that is meant, by alias.
        """
        place: dict[str, int] = {}
        for row, name in sorted(enumerate(self.names), key=lambda one: one[1] in names):
            place.setdefault(names.get(name, name), row)
        rows = list(place.values())
        screen = self.screen and replace(self.screen, values=self.screen.values[rows])
        return PriorKnowledge(self.source, tuple(place), csr_matrix(self.features[rows]), screen)

    def directions(self, names: Sequence[str]) -> csr_matrix:
        """Features of length 1, a row of zeros where a perturbation is not known."""
        asked = [(i, self._row_of[name]) for i, name in enumerate(names) if name in self._row_of]
        rows, columns = np.array(asked, dtype=np.int64).reshape(-1, 2).T
        chosen = csr_matrix((np.ones(len(asked)), (rows, columns)), shape=(len(names), len(self.names)))
        return csr_matrix(chosen @ self._directions)


def _plain(screen: ScreenShifts) -> dict[str, Any]:
    return {"screen_genes": list(screen.genes), "screen_values": torch.from_numpy(screen.values)}


def _screen_of(content: dict[str, Any]) -> ScreenShifts | None:
    if "screen_genes" not in content:
        return None
    return ScreenShifts(tuple(content["screen_genes"]), content["screen_values"].numpy())
