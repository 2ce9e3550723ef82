"""What makes two conditions alike: covariances between rows, each with a name and nothing to be fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Part
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.moments import Moments
from perturbrl.responses.training_cells import Condition

COMMON: Final = "common"
OWN: Final = "own"
INTERACTION: Final = "interaction"
EVERYWHERE: Final = "everywhere"
ALIKE: Final = "alike"
NEAR: Final = "near"
HERE: Final = "here"
# Doses a factor of ten apart are as alike as e^-1/2.
DOSE_SCALE: Final = log(10.0)

Between = Float[np.ndarray, "a b"]


@dataclass(frozen=True)
class Covariances:
    """The covariances of shifts between conditions, as sums over the parts of a combination.

    - ``common``: every part shifts cells the same way;
    - ``own``: a part has an effect of its own, at doses near each other nearly the same;
    - one for each prior: parts are as alike as their features (what a prior does not know is own);
    - ``interaction``: a combination differs from the sum of its parts in a way of its own.

    Where there are several contexts, each is taken times one over contexts: ``everywhere`` the same, as ``alike`` as
    control profiles at a typical distance between contexts, as ``near`` as at half of that, or only ``here``.

    Attributes:
        priors: sources of similarity.
        profiles: mean control expression of each context.
        largest_doses: largest measured dose of each perturbation that has doses.
        combinations: whether any combination was measured.
    """

    priors: tuple[PriorKnowledge, ...]
    profiles: dict[str, Float[np.ndarray, " genes"]]
    largest_doses: dict[str, float]
    combinations: bool

    @classmethod
    def of(cls, moments: Moments, priors: Sequence[PriorKnowledge]) -> "Covariances":
        """Those of measured populations."""
        labels = [label for label, _ in moments.conditions]
        doses: dict[str, float] = {}
        for part in (part for label in labels for part in label.parts if part.dose is not None):
            doses[part.name] = max(doses.get(part.name, 0.0), part.dose or 0.0)
        return cls(tuple(priors), moments.controls, doses, any(label.is_combination for label in labels))

    @property
    def treatments(self) -> tuple[str, ...]:
        """Names of the covariances over treatments."""
        named = (COMMON, OWN, *(prior.source for prior in self.priors))
        return (*named, INTERACTION) if self.combinations else named

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of the covariances over contexts."""
        return (EVERYWHERE, ALIKE, NEAR, HERE) if len(self.profiles) > 1 else (EVERYWHERE,)

    def over_treatments(
        self, a: Sequence[Condition], b: Sequence[Condition]
    ) -> Float[np.ndarray, "named a b"]:
        """One covariance per name of `treatments`."""
        left, right = _Incidence.of(a), _Incidence.of(b)
        alike = self._dose_similarity(left.parts, right.parts)
        same = _equal([part.name for part in left.parts], [part.name for part in right.parts])
        middles = [np.ones_like(alike), same * alike]
        for prior in self.priors:
            names = [part.name for part in left.parts]
            unknown = np.array([not prior.knows(name) for name in names])
            similar = prior.similarity(names, [part.name for part in right.parts])
            middles.append((similar + same * unknown[:, None]) * alike)
        found = [right.rows @ (left.rows @ middle).T for middle in middles]
        if self.combinations:
            combined = np.array([label.is_combination for label, _ in b])
            found.append(_equal([label for label, _ in b], [label for label, _ in a]) * combined[:, None])
        return np.stack([one.T for one in found])

    def over_contexts(self, a: Sequence[Condition], b: Sequence[Condition]) -> Float[np.ndarray, "named a b"]:
        """One covariance per name of `contexts`."""
        left, right = ([context for _, context in rows] for rows in (a, b))
        everywhere = np.ones((len(left), len(right)))
        if len(self.profiles) < 2:
            return everywhere[None]
        here = _equal(left, right)
        names = sorted(self.profiles)
        square = _squared_distances(np.stack([self.profiles[name] for name in names]))
        place = {name: i for i, name in enumerate(names)}
        rows, columns = ([place[name] for name in side] for side in (left, right))
        distant = square[np.ix_(rows, columns)]
        return np.stack([everywhere, np.exp(-distant / 2), np.exp(-4 * distant / 2), here])

    def _dose_similarity(self, a: Sequence[Part], b: Sequence[Part]) -> Between:
        """Alike by the ratio of doses, each as a share of its perturbation's largest; no dose is the largest."""
        left, right = (np.log([self._share_of_largest(part) for part in parts]) for parts in (a, b))
        return np.exp(-0.5 * np.square((left[:, None] - right) / DOSE_SCALE))

    def _share_of_largest(self, part: Part) -> float:
        largest = self.largest_doses.get(part.name, part.dose)
        return part.dose / largest if part.dose and largest else 1.0


@dataclass(frozen=True, eq=False)
class _Incidence:
    """Which parts rows have: most have one or two of thousands."""

    parts: tuple[Part, ...]
    rows: csr_matrix

    @classmethod
    def of(cls, conditions: Sequence[Condition]) -> "_Incidence":
        parts = sorted({part for label, _ in conditions for part in label.parts}, key=str)
        place = {part: column for column, part in enumerate(parts)}
        columns = [place[part] for label, _ in conditions for part in label.parts]
        ends = np.cumsum([0, *(len(label.parts) for label, _ in conditions)])
        found = csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(conditions), len(parts)))
        return cls(tuple(parts), found)


def _equal(a: Sequence[str], b: Sequence[str]) -> Between:
    codes, _ = pd.factorize(np.array([*map(str, a), *map(str, b)], dtype=object))
    return (codes[: len(a), None] == codes[None, len(a) :]).astype(float)


def _squared_distances(
    profiles: Float[np.ndarray, "contexts genes"],
) -> Float[np.ndarray, "contexts contexts"]:
    """In units of the mean over pairs of contexts."""
    square = np.square(profiles[:, None] - profiles).sum(axis=-1)
    typical = square.sum() / (len(profiles) * (len(profiles) - 1))
    return square / max(typical, np.finfo(float).tiny)
