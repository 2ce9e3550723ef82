"""The best sets of one, two and more perturbations among thousands, by products of matrices in parts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perturbrl.planning.set_scores import AT_ONCE, Columns, Doses, SetScores

_ALIKE: Final = 1e-5  # share of a determinant below which two effects point the same way
_NOTHING: Final = 1e-12


@dataclass(frozen=True, eq=False)
class DosedSets:
    """Sets of equally many perturbations, each with its total dose, best first.

    Attributes:
        columns: which, rising in each set.
        doses: total of each.
        returns: expected.
    """

    columns: Columns
    doses: Doses
    returns: Float[Tensor, " sets"]

    @classmethod
    def sorted(cls, columns: Columns, doses: Doses, returns: Tensor) -> "DosedSets":
        """The same sets, best first, of equal ones the better."""
        order = returns.argsort(descending=True, stable=True)
        columns, places = columns[order].sort(1)
        doses = doses[order].gather(1, places)
        number = columns.unique(dim=0, return_inverse=True)[1]
        first = torch.full((len(number),), len(number), device=columns.device)
        first.scatter_reduce_(0, number, torch.arange(len(number), device=columns.device), "amin")
        kept = first[first < len(number)].sort().values
        return cls(columns[kept], doses[kept], returns[order][kept])

    def best(self, n: int) -> "DosedSets":
        """The best ``n``."""
        return DosedSets(self.columns[:n], self.doses[:n], self.returns[:n])

    def with_fitted_doses(self, scores: SetScores) -> "DosedSets":
        """The same sets at their best doses, where these are better than their own."""
        doses = scores.fitted(self.columns, self.doses)
        returns = scores.of_sets(self.columns, doses)
        better = returns > self.returns
        doses = torch.where(better[:, None], doses, self.doses)
        return DosedSets.sorted(self.columns, doses, torch.where(better, returns, self.returns))


def joined(first: DosedSets, second: DosedSets) -> DosedSets:
    """Sets of both, of equal ones the better."""
    both = zip(
        (first.columns, first.doses, first.returns),
        (second.columns, second.doses, second.returns),
        strict=True,
    )
    return DosedSets.sorted(*(torch.cat(parts) for parts in both))


class _Best:
    """The best of what comes in parts.

    Attributes:
        least: what is no better need not be offered.
    """

    def __init__(self, n: int) -> None:
        self.n, self.least = n, -float("inf")
        self._parts: list[tuple[Tensor, ...]] = []

    def offer(
        self, returns: Float[Tensor, " offered"], *beside: Float[Tensor, " offered"] | Int[Tensor, " offered"]
    ) -> None:
        """Take what is better than the ``n`` best up to now, and what is to be remembered of each."""
        better = returns > self.least
        self._parts.append((returns[better], *(other[better] for other in beside)))
        if sum(len(part[0]) for part in self._parts) > 4 * self.n:
            self._parts = [self.found()]
            self.least = float(self._parts[0][0][-1])

    def found(self) -> tuple[Tensor, ...]:
        """The best, best first, and what was beside them."""
        every = [torch.cat(parts) for parts in zip(*self._parts, strict=True)]
        order = every[0].argsort(descending=True, stable=True)[: self.n]
        return tuple(values[order] for values in every)


def best_singles(scores: SetScores, n: int) -> DosedSets:
    """The best perturbations alone, at their best doses."""
    columns = torch.arange(len(scores.low), device=scores.low.device)[:, None]
    doses = scores.fitted(columns, scores.high[columns])
    return DosedSets.sorted(columns, doses, scores.of_sets(columns, doses)).best(n)


def full_singles(scores: SetScores, low: Tensor, high: Tensor, n: int) -> DosedSets:
    """The best perturbations alone whose dose is at one of these ends (see ``full_pairs``)."""
    columns, dose = _ends(low, high)
    columns, dose = columns[:, None], dose[:, None]
    return DosedSets.sorted(columns, dose, scores.of_sets(columns, dose)).best(n)


def measured_sets(scores: SetScores, size: int, n: int) -> DosedSets:
    """The best of the combinations of so many that were measured together, as they were measured."""
    parts = scores.parts(size)
    own = ((parts.combinations >= 0).sum(1) == size).nonzero()[:, 0]
    columns = parts.combinations[own].sort(1, descending=True).values[:, :size]
    doses = scores.high[columns].clamp_max(1.0)
    returns = scores.of_sets(columns, doses, parts.corrections[own])
    return DosedSets.sorted(columns, doses, returns).best(n)


def full_pairs(scores: SetScores, low: Tensor, high: Tensor, n: int) -> DosedSets:
    """The best pairs of all whose doses are at these ends.

    Args:
        scores: what is expected.
        low: lower ends; 0 is none.
        high: upper ends.
        n: how many.
    """
    effects, length, product = scores.form(2)
    columns, dose = _ends(low, high)
    own = dose[:, None] * effects[columns]
    length, product = dose.square() * length[columns], dose * product[columns]
    apart = (length - own.square().sum(1)).clamp_min(0)
    price = scores.fixed[columns] + scores.per_dose[columns] * dose.abs()
    best, whole, alone = _Best(n), scores.way.square().sum(), length - 2 * product
    for first, last in _blocks(len(own)):
        rows, others = slice(first, last), slice(first, None)
        squared = whole + alone[rows, None] + alone[others] + 2 * own[rows] @ own[others].T
        variance = apart[rows, None] + apart[others] if scores.per_sd else None
        returns = scores.returns(squared, price[rows, None] + price[others], variance)
        wanted = (returns > best.least).triu_(1) & (columns[rows, None] != columns[others])
        i, j = wanted.nonzero(as_tuple=True)
        best.offer(returns[wanted], i + first, j + first)
    returns, i, j = best.found()
    pair = torch.stack((i, j), 1)
    return DosedSets.sorted(columns[pair], dose[pair], returns)


def fitted_pairs(scores: SetScores, n: int) -> DosedSets:
    """The best pairs of all at their best doses, which prices are not minded in (see ``with_fitted_doses``).

    Most pairs are passed over for what they would leave if any dose could be given.
    """
    effects, length, product = scores.form(2)
    best, whole = _Best(n), scores.way.square().sum()
    for first, last in _blocks(len(effects)):
        rows, others = slice(first, last), slice(first, None)
        gram, both = effects[rows] @ effects[others].T, length[rows, None] * length[others]
        determinant = both - gram.square()
        taken = product[rows, None].square() * length[others] + product[others].square() * length[rows, None]
        taken = (taken - 2 * product[rows, None] * product[others] * gram) / determinant
        returns = scores.returns(whole - taken, scores.fixed[rows, None] + scores.fixed[others])
        wanted = ((returns > best.least) | (determinant <= _ALIKE * both)).triu_(1)
        i, j = wanted.nonzero(as_tuple=True)
        i, j = i + first, j + first
        ends = (scores.low[i], scores.high[i], scores.low[j], scores.high[j])
        form = _PairForm(gram[wanted], length[i], product[i], length[j], product[j], *ends)
        squared, own, other = form.best()
        price = (
            scores.fixed[i]
            + scores.fixed[j]
            + scores.per_dose[i] * own.abs()
            + scores.per_dose[j] * other.abs()
        )
        best.offer(scores.returns(squared + whole, price), i, j, own, other)
    _, i, j, own, other = best.found()
    columns, doses = torch.stack((i, j), 1), torch.stack((own, other), 1)
    return DosedSets.sorted(columns, doses, scores.of_sets(columns, doses))


@dataclass(frozen=True, eq=False)
class _PairForm:
    """What pairs leave, squared, less what doing nothing does, as a quadratic form of their two doses.

    Attributes:
        gram: product of their effects.
        length: squared length of the first's effect.
        product: its product with the way.
        other_length: of the second.
        other_product: likewise.
        low: bounds of the first dose, and of the second.
        high: likewise.
        other_low: likewise.
        other_high: likewise.
    """

    gram: Float[Tensor, " pairs"]
    length: Float[Tensor, " pairs"]
    product: Float[Tensor, " pairs"]
    other_length: Float[Tensor, " pairs"]
    other_product: Float[Tensor, " pairs"]
    low: Float[Tensor, " pairs"]
    high: Float[Tensor, " pairs"]
    other_low: Float[Tensor, " pairs"]
    other_high: Float[Tensor, " pairs"]

    def best(self) -> tuple[Tensor, Tensor, Tensor]:
        """The least of it within the bounds and both doses: where its slope is 0, or else on an edge."""
        own, other, inside = self._stationary()
        least = torch.where(inside, self._at(own, other), torch.inf)
        for own_edge, other_edge in self._edges():
            value = self._at(own_edge, other_edge)
            better = value < least
            least = torch.where(better, value, least)
            own, other = torch.where(better, own_edge, own), torch.where(better, other_edge, other)
        return least, own, other

    def _at(self, own: Tensor, other: Tensor) -> Tensor:
        mixed = other * (other * self.other_length - 2 * self.other_product + 2 * own * self.gram)
        return own * (own * self.length - 2 * self.product) + mixed

    def _stationary(self) -> tuple[Tensor, Tensor, Tensor]:
        whole = self.length * self.other_length
        determinant = whole - self.gram.square()
        own = (self.product * self.other_length - self.other_product * self.gram) / determinant
        other = (self.other_product * self.length - self.product * self.gram) / determinant
        inside = (determinant > _ALIKE * whole) & (own >= self.low) & (own <= self.high)
        return own, other, inside & (other >= self.other_low) & (other <= self.other_high)

    def _edges(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Doses with one of the two at a bound and the other the best beside it."""
        for own in (self.high, self.low):
            wanted = (self.other_product - own * self.gram) / self.other_length.clamp_min(_NOTHING)
            yield own, wanted.clamp(self.other_low, self.other_high)
        for other in (self.other_high, self.other_low):
            wanted = (self.product - other * self.gram) / self.length.clamp_min(_NOTHING)
            yield wanted.clamp(self.low, self.high), other


def extended(scores: SetScores, sets: DosedSets, n: int) -> DosedSets:
    """The best sets that have one perturbation more than those given, at its best dose beside theirs."""
    effects, length, product = scores.form(sets.columns.shape[1] + 1)
    best = _Best(4 * n)
    for rows in torch.arange(len(sets.columns), device=effects.device).split(max(1, AT_ONCE // len(effects))):
        columns, doses = sets.columns[rows], sets.doses[rows]
        moved = (doses[:, :, None] * effects[columns]).sum(1)
        apart = (length[columns] - effects[columns].square().sum(2)) * doses.square()
        before = (scores.way - moved).square().sum(1) + apart.sum(1)
        paid = (scores.fixed[columns] * (doses != 0) + scores.per_dose[columns] * doses.abs()).sum(1)
        pull = product - moved @ effects.T
        dose = torch.minimum(torch.maximum(pull / length.clamp_min(1e-12), scores.low), scores.high)
        squared = before[:, None] + dose * (dose * length - 2 * pull)
        price = paid[:, None] + scores.fixed + scores.per_dose * dose.abs()
        returns = scores.returns(squared, price).scatter_(1, columns, -torch.inf)
        wanted = returns > best.least
        i, j = wanted.nonzero(as_tuple=True)
        best.offer(returns[wanted], i + rows[0], j, dose[wanted])
    returns, row, column, dose = best.found()
    columns = torch.cat((sets.columns[row], column[:, None]), 1)
    doses = torch.cat((sets.doses[row], dose[:, None]), 1)
    some = returns > -torch.inf
    return DosedSets.sorted(columns[some], doses[some], returns[some]).best(n)


def with_one_exchanged(scores: SetScores, sets: DosedSets, n: int) -> DosedSets:
    """The best sets that differ in one perturbation from one of those given, or in none."""
    size = sets.columns.shape[1]
    others = [[j for j in range(size) if j != i] for i in range(size)]
    columns = torch.cat([sets.columns[:, kept] for kept in others])
    doses = torch.cat([sets.doses[:, kept] for kept in others])
    smaller = DosedSets.sorted(columns, doses, scores.of_sets(columns, doses))
    return joined(sets, extended(scores, smaller, n).with_fitted_doses(scores)).best(n)


def _ends(low: Tensor, high: Tensor) -> tuple[Int[Tensor, " ends"], Float[Tensor, " ends"]]:
    """Of every perturbation the ends of its doses that are not 0."""
    every, dose = torch.arange(len(high), device=high.device).repeat(2), torch.cat((high, low))
    return every[dose != 0], dose[dose != 0]


def _blocks(n: int) -> Iterator[tuple[int, int]]:
    rows = max(1, AT_ONCE // n)
    for first in range(0, n, rows):
        yield first, min(first + rows, n)
