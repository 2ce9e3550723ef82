"""What makes two conditions alike: covariances between rows, each with a name and without a weight.

How strong perturbations are is read off the measured shifts (`_strengths`); nothing else of them is looked at.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log1p
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
ALONG: Final = "along"
HERE: Final = "here"
# Of covariances over treatments that are there without a prior.
BUILT_IN: Final = (COMMON, OWN, INTERACTION)
# Perturbations that are compared with all measured ones at a time.
_AT_ONCE: Final = 512

Between = Float[np.ndarray, "a b"]


@dataclass(frozen=True, eq=False)
class BetweenTreatments:
    """Covariances over treatments between conditions a and b, of which every point of a net takes a sum.

    Attributes:
        sums: ``[named a b]`` sums over parts, all perturbations equally strong.
        by_strength: the same, each as strong as what was measured of it.
        interaction: ``[a b]`` what a combination has beside its parts; ``None`` where none was measured.
        n_parts: number of parts of a, and of b.
    """

    sums: Float[np.ndarray, "named a b"]
    by_strength: Float[np.ndarray, "named a b"]
    interaction: Between | None
    n_parts: tuple[Float[np.ndarray, " a"], Float[np.ndarray, " b"]]

    def at(self, weights: Float[np.ndarray, " named"], *, strong: bool, saturation: float) -> Between:
        """The weighted sum.

        Args:
            weights: of the names of ``Covariances.treatments``.
            strong: whether perturbations are as strong as measured.
            saturation: n parts of a combination count n^(1 - saturation) fold: 0 adds them up, 1 takes their mean.
        """
        left, right = (parts**-saturation for parts in self.n_parts)
        sums = self.by_strength if strong else self.sums
        found = np.tensordot(weights[: len(sums)], sums, axes=1) * left[:, None] * right
        return found if self.interaction is None else found + weights[-1] * self.interaction


@dataclass(frozen=True)
class Covariances:
    """The covariances of shifts between conditions, as sums over the parts of a combination.

    - ``common``: every part shifts cells the same way;
    - ``own``: a part has an effect of its own;
    - one for each prior: parts are as alike as their features (what a prior does not know is own), and vary the more,
      the more features they have;
    - ``interaction``: a combination differs from the sum of its parts in a way of its own.

    An effect grows with its dose from none at dose 0, like Brownian motion in the logarithm of the dose: between doses
    it is interpolated, and beyond the largest it stays what it was and becomes uncertain.

    Most perturbations do little and few do much, so all but ``common`` are known in two forms: perturbations equally
    strong, and each as strong as what was measured of it (see `_strengths`).

    Where there are several contexts, each is taken times one over contexts: ``everywhere`` the same, changing ``along``
    the control profiles (linearly, from their mean), or only ``here``.

    Attributes:
        priors: sources of similarity.
        profiles: mean control expression of each context.
        doses: lowest and largest measured dose of each perturbation that has doses.
        combinations: whether any combination was measured.
        strengths: mean squared effect of perturbations, in units of the mean over all. One that was not measured
            is as strong as what a prior likens it to; 1 where nothing tells.
    """

    priors: tuple[PriorKnowledge, ...]
    profiles: dict[str, Float[np.ndarray, " genes"]]
    doses: dict[str, tuple[float, float]]
    combinations: bool
    strengths: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, moments: Moments, priors: Sequence[PriorKnowledge]) -> "Covariances":
        """Those of measured populations."""
        labels = [label for label, _ in moments.conditions]
        given: dict[str, list[float]] = defaultdict(list)
        for part in (part for label in labels for part in label.parts):
            given[part.name] += [] if part.dose is None else [part.dose]
        doses = {name: (min(found), max(found)) for name, found in given.items() if found}
        combinations = any(label.is_combination for label in labels)
        return cls(tuple(priors), moments.controls, doses, combinations, _strengths(moments))

    @property
    def treatments(self) -> tuple[str, ...]:
        """Names of the covariances over treatments."""
        named = (COMMON, OWN, *(prior.source for prior in self.priors))
        return (*named, INTERACTION) if self.combinations else named

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of the covariances over contexts."""
        return (EVERYWHERE, ALONG, HERE) if len(self.profiles) > 1 else (EVERYWHERE,)

    def over(
        self, a: Sequence[Condition], b: Sequence[Condition]
    ) -> tuple[BetweenTreatments, Float[np.ndarray, "named a b"]]:
        """Over treatments and over contexts."""
        return self.over_treatments(a, b), self.over_contexts(a, b)

    def over_treatments(self, a: Sequence[Condition], b: Sequence[Condition]) -> BetweenTreatments:
        """Those of the names of `treatments`."""
        left, right = _Incidence.of(a), _Incidence.of(b)
        common, *others = self._over_parts(left.parts, right.parts)
        rows, columns = (np.sqrt(self._strengths_of(side.parts)) for side in (left, right))
        scaled = [
            common,
            *(one * up[:, None] * to for one, up, to in zip(others, rows, columns, strict=True)),
        ]
        sums, by_strength = (
            np.stack([(right.rows @ (left.rows @ middle).T).T for middle in middles])
            for middles in ([common, *others], scaled)
        )
        return BetweenTreatments(sums, by_strength, self._interaction(a, b), (left.n_parts, right.n_parts))

    def _over_parts(self, a: Sequence[Part], b: Sequence[Part]) -> list[Between]:
        left, right = ([part.name for part in parts] for parts in (a, b))
        alike, same = self._by_dose(a, b), _equal(left, right)
        found = [alike, same * alike]
        for prior in self.priors:
            unknown = np.array([not prior.knows(name) for name in left])
            rows, columns = (np.sqrt(prior.prominence(names)) for names in (left, right))
            similar = prior.similarity(left, right) * rows[:, None] * columns
            found.append((similar + same * unknown[:, None]) * alike)
        return found

    def _interaction(self, a: Sequence[Condition], b: Sequence[Condition]) -> Between | None:
        if not self.combinations:
            return None
        combined = np.array([label.is_combination for label, _ in b])
        return _equal([label for label, _ in a], [label for label, _ in b]) * combined

    def _strengths_of(self, parts: Sequence[Part]) -> Float[np.ndarray, "named parts"]:
        """As all of the names but ``common`` see them: a prior tells the strength of what was not measured, too."""
        names = [part.name for part in parts]
        sources = self._strengths_by_source
        unmeasured = sorted(set(names) - set(self.strengths) - set(sources[0])) if sources else []
        for start in range(0, len(unmeasured), _AT_ONCE):
            piece = unmeasured[start : start + _AT_ONCE]
            for known, prior in zip(sources, self.priors, strict=True):
                known.update(zip(piece, self._likened(prior, piece).tolist(), strict=True))
        own = [self.strengths.get(name, 1.0) for name in names]
        likened = ([self.strengths.get(n, known.get(n, 1.0)) for n in names] for known in sources)
        return np.array([own, *likened])

    @cached_property
    def _strengths_by_source(self) -> list[dict[str, float]]:
        """Of perturbations that were not measured and were asked about before, as each prior tells them."""
        return [{} for _ in self.priors]

    def _likened(self, prior: PriorKnowledge, names: Sequence[str]) -> Float[np.ndarray, " parts"]:
        """Mean strength of what is alike; what is missing to a similarity of 1 counts as 1."""
        measured = list(self.strengths)
        similar = prior.similarity(names, measured).clip(min=0.0)
        told = similar.sum(axis=1)
        strengths = similar @ np.array([self.strengths[name] for name in measured])
        return (strengths + (1.0 - told).clip(min=0.0)) / np.maximum(told, 1.0)

    def over_contexts(self, a: Sequence[Condition], b: Sequence[Condition]) -> Float[np.ndarray, "named a b"]:
        """One covariance per name of `contexts`."""
        left, right = ([context for _, context in rows] for rows in (a, b))
        everywhere = np.ones((len(left), len(right)))
        if len(self.profiles) < 2:
            return everywhere[None]
        names = sorted(self.profiles)
        place = {name: i for i, name in enumerate(names)}
        rows, columns = ([place[name] for name in side] for side in (left, right))
        along = _inner_products(np.stack([self.profiles[name] for name in names]))[np.ix_(rows, columns)]
        return np.stack([everywhere, along, _equal(left, right)])

    def _by_dose(self, a: Sequence[Part], b: Sequence[Part]) -> Between:
        left, right = (np.array([self._grown(part) for part in parts]) for parts in (a, b))
        return np.minimum(left[:, None], right)

    def _grown(self, part: Part) -> float:
        """How far the dose has come from 0 to the largest, by logarithm beyond the lowest; no dose is the largest."""
        if part.dose is None or part.name not in self.doses:
            return 1.0
        lowest, largest = self.doses[part.name]
        return log1p(part.dose / lowest) / log1p(largest / lowest)


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

    @property
    def n_parts(self) -> Float[np.ndarray, " rows"]:
        """Parts of each row."""
        return np.diff(self.rows.indptr).astype(float)


def _equal(a: Sequence[str], b: Sequence[str]) -> Between:
    codes, _ = pd.factorize(np.array([*map(str, a), *map(str, b)], dtype=object))
    return (codes[: len(a), None] == codes[None, len(a) :]).astype(float)


def _inner_products(profiles: Float[np.ndarray, "contexts genes"]) -> Float[np.ndarray, "contexts contexts"]:
    """Of profiles without their mean, in units of the mean square of their lengths."""
    centred = profiles - profiles.mean(axis=0)
    products = centred @ centred.T
    return products / max(float(np.diag(products).mean()), np.finfo(float).tiny)


def _strengths(moments: Moments) -> dict[str, float]:
    """Squared effect of each perturbation in units of their mean, drawn to 1 by as much as noise blurs it.

    A combination's squared effect is shared out evenly among its parts.
    """
    noise = (1.0 / moments.noise.n_cells + 1.0 / moments.noise.n_controls) * moments.gene_variance.sum()
    effect = (np.square(moments.shifts).sum(axis=1) - noise).clip(min=0.0)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (label, _), size, blur in zip(moments.conditions, effect.tolist(), noise.tolist(), strict=True):
        for name in label.names:
            found[name].append((size / len(label.names), blur))
    by_name = {name: np.mean(values, axis=0) for name, values in found.items()}
    mean = float(np.mean([size for size, _ in by_name.values()]))
    tiny = np.finfo(float).tiny
    return {name: float((size + blur) / max(mean + blur, tiny)) for name, (size, blur) in by_name.items()}
