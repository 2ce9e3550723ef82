"""The most that any design within the limits can be paid, where cells move by a sum of parts."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float

from perturbrl.envs.tasks import ReachCellState
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.planning.set_scores import SetScores
from perturbrl.twins.part_effects import MOST_PARTS, PartEffects

_ROUNDS: Final = 500
_CLOSE: Final = 1e-4  # of the way
_ALIKE: Final = 1e-6

Latent = Float[np.ndarray, " latent"]


def highest_return(problem: DesignProblem) -> float:
    """No design within the limits is paid more, with doses of any size and for each cell apart; nan if not known.

    Designs may be mixed here as if cells could receive a share of several, which makes the problem convex: it is
    solved by pairwise Frank-Wolfe steps, each of which bounds the optimum by duality. The bound is known where every
    cell has the same way to go and moves by the sum of its doses' parts (``PartEffects.exact``), under
    ``ReachCellState`` that pays progress in Euclidean distance.

    Source: Frank & Wolfe 1956; Lacoste-Julien & Jaggi 2015 (pairwise steps).
    """
    task, scores = problem.task, SetScores.of(problem)
    if scores is None or not isinstance(task, ReachCellState) or (task.pays, task.order) != ("progress", 2):
        return float("nan")
    same_way = scores.spread <= _ALIKE * float(scores.way.square().sum())
    if not same_way or not scores.parts(1).exact:
        return float("nan")
    return scores.idle - max(0.0, _least_loss(scores, problem.space.most_used))


@dataclass(frozen=True, eq=False)
class _Vertex:
    """Where a design brings cells at most in some direction, and its price.

    Attributes:
        shift: of cells.
        price: in units of return.
    """

    shift: Latent
    price: float


@dataclass(frozen=True, eq=False)
class _Designs:
    """Designs of few perturbations at full doses.

    Attributes:
        parts: what each does as one of 1, 2, and more, at the ends of its doses: ``[ends, latent]``.
        prices: of these ends.
        combinations: ``[combinations, latent]`` what measured ones do beside.
        most: perturbations of a design.
        unit: distance that is worth 1.
    """

    parts: tuple[Float[np.ndarray, "ends latent"], ...]
    prices: Float[np.ndarray, " ends"]
    combinations: Float[np.ndarray, "combinations latent"]
    most: int
    unit: float

    @classmethod
    def of(cls, scores: SetScores, most: int) -> "_Designs":
        told = [scores.parts(n) for n in range(1, min(most, MOST_PARTS) + 1)]
        dose = torch.cat((scores.high, scores.low))
        price = scores.fixed.repeat(2) + scores.per_dose.repeat(2) * dose.abs()
        price = torch.where(dose == 0, torch.inf, price)
        ends = (dose[:, None] * own.shifts.repeat(2, 1) for own in told)
        return cls(
            tuple(own.double().cpu().numpy() for own in ends),
            price.double().cpu().numpy(),
            _together(told[0], most).double().cpu().numpy(),
            most,
            scores.unit,
        )

    def furthest(self, towards: Latent) -> _Vertex:
        """The design that is worth most where a step ``towards`` is."""
        best, most_worth = _Vertex(np.zeros_like(towards), 0.0), 0.0
        for own in self.parts:
            worth = own @ towards / self.unit - self.prices
            n = min(self.most, len(worth))
            few = np.argpartition(-worth, n - 1)[:n]
            few = few[worth[few] > 0]
            if worth[few].sum() > most_worth:
                most_worth = float(worth[few].sum())
                best = _Vertex(own[few].sum(0), float(self.prices[few].sum()))
        if not len(self.combinations):
            return best
        beside = self.combinations[(self.combinations @ towards).argmax()]
        return _Vertex(best.shift + beside, best.price) if beside @ towards > 0 else best


def _together(parts: PartEffects, most: int) -> Float[torch.Tensor, "combinations latent"]:
    return parts.corrections[(parts.combinations >= 0).sum(1) <= most]


def _least_loss(scores: SetScores, most: int) -> float:
    """A bound from below on what is left and paid for it."""
    way, designs = scores.way.double().cpu().numpy(), _Designs.of(scores, most)
    mixed, weights, bound = [_Vertex(np.zeros_like(way), 0.0)], [1.0], 0.0
    for _ in range(_ROUNDS):
        shift = sum(w * v.shift for w, v in zip(weights, mixed, strict=True))
        price = sum(w * v.price for w, v in zip(weights, mixed, strict=True))
        left = way - shift
        size = float(np.linalg.norm(left))
        if size <= _ALIKE * float(np.linalg.norm(way)):
            return bound
        towards = left / size
        ahead = designs.furthest(towards)
        bound = max(bound, float(towards @ (way - ahead.shift)) / designs.unit + ahead.price)
        if size / designs.unit + price - bound < _CLOSE:
            return bound
        behind = min(
            range(len(mixed)), key=lambda i: float(towards @ mixed[i].shift) / designs.unit - mixed[i].price
        )
        step = _step(left, ahead.shift - mixed[behind].shift, ahead.price - mixed[behind].price, designs.unit)
        step = min(step, weights[behind])
        weights[behind] -= step
        mixed, weights = [*mixed, ahead], [*weights, step]
        kept = [i for i, weight in enumerate(weights) if weight > 0]
        mixed, weights = [mixed[i] for i in kept], [weights[i] for i in kept]
    return bound


def _step(left: Latent, move: Latent, price: float, unit: float) -> float:
    """How far along ``move`` the distance left and the price together are least: where |left - t move|' = -price."""
    length, along, paid = float(move @ move), float(left @ move), price * unit
    if length <= paid * paid:
        return float("inf") if paid < 0 else 0.0
    rest = max(0.0, float(left @ left) - along * along / length)
    beyond = -np.sign(paid) * np.sqrt(paid * paid * rest / (1 - paid * paid / length))
    return max(0.0, (along + float(beyond)) / length)
