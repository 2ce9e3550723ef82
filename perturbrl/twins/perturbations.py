"""Which perturbations may be dosed, how strongly, and how an action becomes a dose."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchrl.data import Bounded, Categorical, TensorSpec

from perturbrl.data.labels import Label, Part
from perturbrl.errors import ConfigurationError, listed
from perturbrl.schema import Dose, UsedMask

DEFAULT_MIN_DOSE: Final = 0.05


class PerturbationSpace(nn.Module):
    """The perturbations of a twin that an agent may dose, and the action spec that follows from them.

    A dose of 1 is the perturbation as it was measured, at its largest dose (or full expression in a network),
    0 is nothing, a negative dose points the other way (knock-down where 1 is over-expression).

    Args:
        names: perturbations, in the order of the dose's columns.
        low: smallest dose, one number or one per perturbation.
        high: largest dose, one number or one per perturbation.
        min_dose: share of the range ``high - low`` up to which a dose counts as unused and becomes 0. Where
            doses this small were measured, half the lowest measured one takes its place, so that every measured
            dose can be given.
        max_perturbations: at most so many different perturbations per cell and episode; ``None`` is no limit.
        discrete: the action is an integer: 0 does nothing, ``1 + i`` gives perturbation i its highest dose,
            ``1 + n + i`` its lowest. Otherwise the action is the dose itself, projected onto the box.
        levels: of discrete actions the shares of the highest and of the lowest dose that can be given: ``1 + l n + i``
            gives the l-th share of the highest, and where lowest doses are below 0 they follow in the same order.
        measured_doses: for each perturbation the doses it was measured at, in the file's units, of which the
            largest is 1 here; none where the file has no or one dose of it.

    Attributes:
        least: ``[perturbations]`` size up to which a dose counts as unused.

    Raises:
        ConfigurationError: no or repeated names, an empty dose range, bounds that are not one per perturbation,
            a limit below one.
    """

    low: Float[Tensor, " perturbations"]
    high: Float[Tensor, " perturbations"]
    columns: Int[Tensor, " perturbations"]
    least: Float[Tensor, " perturbations"]

    def __init__(
        self,
        names: Sequence[str],
        low: float | Sequence[float] = 0.0,
        high: float | Sequence[float] = 1.0,
        *,
        min_dose: float = DEFAULT_MIN_DOSE,
        max_perturbations: int | None = None,
        discrete: bool = False,
        levels: Sequence[float] = (1.0,),
        measured_doses: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        self.min_dose = min_dose
        self.max_perturbations = max_perturbations
        self.discrete, self.levels = discrete, tuple(levels)
        n = len(self.names)
        self.register_buffer("low", _one_each("low", low, n))
        self.register_buffer("high", _one_each("high", high, n))
        self.register_buffer("columns", torch.arange(n), persistent=False)
        self.twin_columns = n
        self._is_whole = True
        self.measured_doses = tuple(tuple(doses) for doses in measured_doses or ((),) * n)
        self._check()
        self.register_buffer("least", self._least(), persistent=False)

    def _check(self) -> None:
        if not self.names:
            raise ConfigurationError("there is no perturbation to choose from; allow at least one")
        repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if repeated:
            raise ConfigurationError(f"perturbations {repeated} are listed twice; list each once")
        if not bool((self.low < self.high).all()) or bool(((self.low > 0) | (self.high < 0)).any()):
            raise ConfigurationError(
                f"the dose range {self.low.min():g} to {self.high.max():g} is empty or leaves out 0 (doing "
                "nothing); choose low <= 0 <= high with low < high"
            )
        if self.max_perturbations is not None and self.max_perturbations < 1:
            raise ConfigurationError(
                f"max_perturbations is {self.max_perturbations}; give at least 1, or null for no limit"
            )
        if len(self.measured_doses) != self.n_perturbations or not all(
            dose > 0 for doses in self.measured_doses for dose in doses
        ):
            raise ConfigurationError(
                f"measured doses {self.measured_doses} do not fit {self.n_perturbations} perturbations; give "
                "positive ones for each, or none"
            )
        if not 0 <= self.min_dose < 1:
            raise ConfigurationError(f"min_dose is {self.min_dose:g}; it is a share of the range, in [0, 1)")

    def _least(self) -> Float[Tensor, " perturbations"]:
        lowest = [min(doses) / max(doses) if doses else math.inf for doses in self.measured_doses]
        return torch.minimum(self.min_dose * (self.high - self.low), torch.tensor(lowest) / 2)

    @property
    def n_perturbations(self) -> int:
        """How many perturbations may be dosed."""
        return len(self.names)

    @property
    def n_actions(self) -> int:
        """Width of a continuous action, or number of choices of a discrete one."""
        if not self.discrete:
            return self.n_perturbations
        return 1 + self.n_perturbations * len(self.levels) * (1 if bool((self.low == 0).all()) else 2)

    @property
    def most_used(self) -> int:
        """How many different perturbations a cell may receive in an episode."""
        return min(self.max_perturbations or self.n_perturbations, self.n_perturbations)

    @property
    def is_limited(self) -> bool:
        """Whether a cell may receive fewer perturbations than there are."""
        return self.most_used < self.n_perturbations

    def restrict(
        self,
        allowed: Sequence[str] | None = None,
        *,
        min_dose: float | None = None,
        max_perturbations: int | None = None,
    ) -> "PerturbationSpace":
        """The same space with fewer perturbations and tighter limits; ``None`` keeps what is there.

        Raises:
            ConfigurationError: an allowed perturbation is not in this space.
        """
        names = self.names if allowed is None else tuple(allowed)
        place = {name: i for i, name in enumerate(self.names)}
        unknown = [name for name in names if name not in place]
        if unknown:
            raise ConfigurationError(
                f"allowed perturbations {unknown} are not among the {len(self.names)} available ones "
                f"({listed(self.names, 12)}); correct the list"
            )
        index = torch.tensor([place[name] for name in names], dtype=torch.long, device=self.low.device)
        space = PerturbationSpace(
            names,
            self.low[index].tolist(),
            self.high[index].tolist(),
            min_dose=self.min_dose if min_dose is None else min_dose,
            max_perturbations=self.max_perturbations if max_perturbations is None else max_perturbations,
            discrete=self.discrete,
            levels=self.levels,
            measured_doses=[self.measured_doses[place[name]] for name in names],
        )
        space.columns = self.columns[index]
        space.twin_columns = self.twin_columns
        space._is_whole = space.columns.tolist() == list(range(space.twin_columns))
        return space.to(self.low.device)

    def menu(self, n_levels: int) -> "PerturbationSpace":
        """The same doses as a choice of one perturbation at one of ``n_levels`` equal steps up to its bounds.

        Steps that would count as unused are left out.

        Raises:
            ConfigurationError: actions are a choice already.
        """
        if self.discrete:
            raise ConfigurationError(
                "the twin's actions are choices already; give the policy the kind 'doses' (model.policy.kind), which "
                "takes them as they are"
            )
        furthest = torch.maximum(self.high, -self.low)
        shares = [level / n_levels for level in range(1, n_levels + 1)]
        space = PerturbationSpace(
            self.names,
            self.low.tolist(),
            self.high.tolist(),
            min_dose=self.min_dose,
            max_perturbations=self.max_perturbations,
            discrete=True,
            levels=[share for share in shares if bool((share * furthest > self.least).any())],
            measured_doses=self.measured_doses,
        )
        space.columns, space.twin_columns, space._is_whole = self.columns, self.twin_columns, self._is_whole
        return space.to(self.low.device)

    def alone(self) -> "PerturbationSpace":
        """The same space as that of a twin which knows no other perturbations."""
        space = self.restrict()
        space.columns = torch.arange(self.n_perturbations, device=self.low.device)
        space.twin_columns, space._is_whole = self.n_perturbations, True
        return space

    def dose_of(self, label: str) -> Float[Tensor, " perturbations"] | None:
        """The dose that is a measured label, 0 for what is not part of it; ``None`` where it cannot be given."""
        parts = (Part(label),) if label in self.names else Label.parse(label).parts
        if not {part.name for part in parts} <= set(self.names):
            return None
        dose = torch.zeros_like(self.low)
        for part in parts:
            column = self.names.index(part.name)
            doses = self.measured_doses[column]
            if part.dose is not None and not doses:
                return None
            dose[column] = 1.0 if part.dose is None else part.dose / max(doses)
        return dose if bool((dose <= self.high).all()) else None

    def action_spec(self, n_cells: int) -> TensorSpec:
        """TorchRL spec of one action per cell; continuous actions outside the box are projected onto it."""
        if self.discrete:
            return Categorical(self.n_actions, shape=(n_cells,), dtype=torch.int64)
        shape = (n_cells, self.n_perturbations)
        return Bounded(self.low.expand(shape), self.high.expand(shape), shape=shape, dtype=torch.float32)

    def no_action(self) -> Tensor:
        """The action of one cell that gives no dose."""
        return (
            torch.zeros((), dtype=torch.int64, device=self.low.device)
            if self.discrete
            else torch.zeros_like(self.low)
        )

    def project(self, action: Tensor, used: UsedMask) -> tuple[Dose, UsedMask]:
        """The dose an action amounts to, and the perturbations used up to now in this episode.

        Args:
            action: ``[cells, perturbations]`` doses, or ``[cells]`` integers when ``discrete``.
            used: which perturbations each cell has received before.
        """
        dose = self._one_dose(action) if self.discrete else action.clamp(self.low, self.high)
        wanted = dose.abs() > self.least
        if self.is_limited:
            wanted = wanted & self._within_limit(dose, wanted, used)
        return dose * wanted, used | wanted

    def _one_dose(self, action: Int[Tensor, " cells"]) -> Dose:
        n, n_levels = self.n_perturbations, len(self.levels)
        chosen = (action - 1).clamp_min(0)
        column, block = chosen % n, chosen // n
        share = self.low.new_tensor(self.levels)[block % n_levels]
        end = torch.where(block >= n_levels, self.low[column], self.high[column])
        given = end * share * (action > 0)
        return given.new_zeros(len(action), n).scatter(-1, column[:, None], given[:, None])

    def _within_limit(self, dose: Dose, wanted: UsedMask, used: UsedMask) -> Bool[Tensor, "cells n"]:
        # Perturbations already used outrank every new one: what is left of the limit goes to the strongest new.
        size = dose.abs() / (self.high - self.low)
        score = torch.where(used, size + 2.0, size * wanted)
        best = score.topk(self.most_used, dim=-1).indices
        return torch.zeros_like(used).scatter(-1, best, True)

    def expand(self, dose: Dose) -> Float[Tensor, "cells twin_perturbations"]:
        """The dose in the columns of the twin, 0 for the perturbations that are not in this space."""
        if self._is_whole:
            return dose
        full = dose.new_zeros(dose.shape[0], self.twin_columns)
        return full.index_copy(-1, self.columns, dose)


def _one_each(name: str, bound: float | Sequence[float], n: int) -> Float[Tensor, " perturbations"]:
    values = torch.as_tensor(bound, dtype=torch.float32)
    if values.ndim and len(values) != n:
        raise ConfigurationError(
            f"{name} has {len(values)} doses for {n} perturbations; give one, or one per perturbation"
        )
    return values.expand(n).clone()
