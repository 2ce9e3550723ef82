"""Which perturbations made these cells: sets ranked by how probable the goal's mean is under each.

A distance asks which set ends nearest, and takes for nearest what is uncertain and happens to lie there, or what
needs one perturbation more to fit the noise of few goal cells. A likelihood weighs all three: how far the goal is
from what is expected of a set, in units of how cells vary and of how sure kriging is; and how many sets of that size
there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb, log
from typing import Final

import numpy as np
from jaxtyping import Float

from perturbrl.data.labels import CONTROL, Label
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.planning.on_target import on_target_evidence
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import ONE_CONTEXT
from perturbrl.schema import Expression
from perturbrl.twins.foretold_parts import measured_doses

SHORTLIST: Final = 64
LARGEST: Final = 2
_AT_ONCE: Final = 1024
_RIDGE: Final = 1e-9

PerSet = Float[np.ndarray, " sets"]


@dataclass(frozen=True)
class LikelySet:
    """One set of perturbations, and how probable it is among those compared.

    Attributes:
        names: of its perturbations; none does nothing.
        probability: of all compared sets' together 1.
    """

    names: tuple[str, ...]
    probability: float


@dataclass(frozen=True, eq=False)
class LikelySets:
    """Posterior log probability of sets of perturbations, up to a constant that all share.

    The goal's mean shift from control is normal around what kriging expects of the set, with its covariance and that
    of the mean of so many cells (pooled over training populations). Beforehand every size is as likely as any other,
    and every set of a size: a second perturbation among n has to raise the likelihood by the factor (n - 1) / 2.

    Attributes:
        response: fitted on training cells.
        directions: ``[latent, genes]`` what genes add to cell states, in which shifts are compared.
        shift: ``[latent]`` of the goal's mean from control.
        noise: ``[latent, latent]`` covariance of that mean by the sampling of cells.
        context: that all is about.
        on_target: what a gene's own expression adds to the log probability of its perturbation (see ``on_target``).

    Source: the marginal likelihood of a Gaussian process (Rasmussen and Williams 2006, 5.4); the price of sizes is
    that of Scott and Berger 2010 (10.1214/10-AOS792) for the choice of variables.
    """

    response: Kriging
    directions: Float[np.ndarray, "latent genes"]
    shift: Float[np.ndarray, " latent"]
    noise: Float[np.ndarray, "latent latent"]
    context: str = ONE_CONTEXT
    on_target: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, response: Kriging, encoder: PCAEncoder, cells: EncodedCells, goal: Expression
    ) -> "LikelySets":
        """From training cells and the expression of cells that define the goal.

        Args:
            response: fitted on the training cells.
            encoder: of the states; its directions are those in which shifts are compared.
            cells: training cells.
            goal: log-normalised expression of the goal's cells.
        """
        states, labels = cells.latent.double().cpu().numpy(), np.array(cells.labels, dtype=object)
        wanted = encoder.encode(goal.to(encoder.mean)).double().cpu().numpy()
        control = states[labels == CONTROL].mean(axis=0)
        context = max(response.contexts, key=lambda name: (response.control_counts[name], name))
        moved = goal.double().cpu().numpy().mean(axis=0) - response.moments.controls[context]
        return cls(
            response,
            encoder.directions.double().cpu().numpy(),
            wanted.mean(axis=0) - control,
            _within(states, labels) / len(wanted),
            context,
            on_target_evidence(response.moments, cells.genes, moved, len(wanted)),
        )

    def scores(self, names: Sequence[str], sets: Sequence[tuple[int, ...]]) -> PerSet:
        """Posterior log probability of sets, each of indices into ``names``; the empty set does nothing."""
        parts = [own[-1] for own in measured_doses(self.response, names)]
        sizes = np.array([len(own) for own in sets])
        found = np.empty(len(sets))
        for start in range(0, len(sets), _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, len(sets)))
            labels = [Label(parts[i] for i in sets[k]) for k in some]
            found[some.start : some.stop] = self._likelihood(labels)
        kinds = len(np.unique(sizes))
        told = np.array([self.on_target.get(name, 0.0) for name in names])
        found += np.array([told[list(own)].sum() for own in sets])
        return found - np.array([log(kinds * comb(len(names), int(size))) for size in sizes])

    def ranked(self, names: Sequence[str], size: int = LARGEST) -> list[LikelySet]:
        """Doing nothing, every perturbation alone, and pairs of the ``SHORTLIST`` most probable ones; the best first.

        Args:
            names: perturbations that may be used.
            size: of a set, at most; beyond two is not looked at.
        """
        alone = [(), *((i,) for i in range(len(names)))]
        by_alone = self.scores(names, alone)
        few = np.sort(np.argsort(-by_alone[1:], kind="stable")[:SHORTLIST])
        sets = [*alone, *combinations(few.tolist(), 2)] if size >= LARGEST else alone
        scores = self.scores(names, sets)
        share = np.exp(scores - scores.max())
        share /= share.sum()
        order = np.argsort(-share, kind="stable")
        return [LikelySet(tuple(names[i] for i in sets[k]), float(share[k])) for k in order]

    def _likelihood(self, labels: Sequence[Label]) -> PerSet:
        mean, covariance = self._expected(labels)
        ridge = _RIDGE * np.trace(self.noise) * np.eye(len(self.shift))
        root = np.linalg.cholesky(covariance + self.noise + ridge)
        off = np.linalg.solve(root, (self.shift - mean)[..., None])[..., 0]
        return -0.5 * np.square(off).sum(axis=1) - np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)

    def _expected(self, labels: Sequence[Label]) -> tuple[np.ndarray, np.ndarray]:
        latent = len(self.shift)
        mean, covariance = np.zeros((len(labels), latent)), np.zeros((len(labels), latent, latent))
        rows = [i for i, label in enumerate(labels) if label.parts]
        asked = [(labels[i], self.context) for i in rows]
        if asked:
            mean[rows] = self.response.predict(asked).mean @ self.directions.T
            covariance[rows] = self.response.covariance_along(asked, self.directions)
        return mean, covariance


def sets_up_to(n: int, size: int) -> list[tuple[int, ...]]:
    """Every set of one to ``size`` of ``n`` things, the small ones first."""
    return [own for k in range(1, size + 1) for own in combinations(range(n), k)]


def _within(
    states: Float[np.ndarray, "cells latent"], labels: np.ndarray
) -> Float[np.ndarray, "latent latent"]:
    """Covariance of cells around the means of their populations."""
    names, codes = np.unique(labels.astype(str), return_inverse=True)
    means = np.stack([states[codes == i].mean(axis=0) for i in range(len(names))])
    off = states - means[codes]
    return off.T @ off / max(len(states) - len(names), 1)
