"""What makes two conditions alike: covariances between rows, each with a name and nothing to be fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from jaxtyping import Float

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
        parts = sorted({part for label, _ in (*a, *b) for part in label.parts}, key=str)
        left, right = _incidence(a, parts), _incidence(b, parts)
        alike = self._dose_similarity(parts)
        middles = [np.ones_like(alike), (_same_name(parts) * alike)]
        for prior in self.priors:
            names = [part.name for part in parts]
            similar = prior.similarity(names, names)
            unknown = _same_name(parts) * (1.0 - np.diag(similar))
            middles.append((similar + unknown) * alike)
        found = [left @ middle @ right.T for middle in middles]
        if self.combinations:
            found.append(np.array([[float(x.is_combination and x == y) for y, _ in b] for x, _ in a]))
        return np.stack(found)

    def over_contexts(self, a: Sequence[Condition], b: Sequence[Condition]) -> Float[np.ndarray, "named a b"]:
        """One covariance per name of `contexts`."""
        left, right = ([context for _, context in rows] for rows in (a, b))
        everywhere = np.ones((len(left), len(right)))
        if len(self.profiles) < 2:
            return everywhere[None]
        here = np.array([[float(x == y) for y in right] for x in left])
        names = sorted(self.profiles)
        square = _squared_distances(np.stack([self.profiles[name] for name in names]))
        place = {name: i for i, name in enumerate(names)}
        rows, columns = ([place[name] for name in side] for side in (left, right))
        distant = square[np.ix_(rows, columns)]
        return np.stack([everywhere, np.exp(-distant / 2), np.exp(-4 * distant / 2), here])

    def _dose_similarity(self, parts: Sequence[Part]) -> Float[np.ndarray, "parts parts"]:
        """Alike by the ratio of doses, each as a share of its perturbation's largest; no dose is the largest."""
        largest = [self.largest_doses.get(part.name, part.dose) for part in parts]
        share = [
            part.dose / top if part.dose and top else 1.0 for part, top in zip(parts, largest, strict=True)
        ]
        logarithm = np.log(share)
        return np.exp(-0.5 * np.square((logarithm[:, None] - logarithm) / DOSE_SCALE))


def _incidence(rows: Sequence[Condition], parts: Sequence[Part]) -> Float[np.ndarray, "rows parts"]:
    place = {part: column for column, part in enumerate(parts)}
    found = np.zeros((len(rows), len(parts)))
    for row, (label, _) in enumerate(rows):
        found[row, [place[part] for part in label.parts]] = 1.0
    return found


def _same_name(parts: Sequence[Part]) -> Float[np.ndarray, "parts parts"]:
    names = np.array([part.name for part in parts], dtype=object)
    return (names[:, None] == names).astype(float)


def _squared_distances(
    profiles: Float[np.ndarray, "contexts genes"],
) -> Float[np.ndarray, "contexts contexts"]:
    """In units of the mean over pairs of contexts."""
    square = np.square(profiles[:, None] - profiles).sum(axis=-1)
    typical = square.sum() / (len(profiles) * (len(profiles) - 1))
    return square / max(typical, np.finfo(float).tiny)
