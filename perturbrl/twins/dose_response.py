"""How much of which effect a dose has, between the doses that were measured."""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from perturbrl.data.fitted import FittedModule
from perturbrl.schema import Dose

_CLOSEST: Final = 1e-6  # log ratio of doses that single precision tells apart


class DoseResponse(FittedModule):
    """Effects of perturbations of which some were measured at several doses.

    A dose is in units of the largest measured one. Between two measured doses the effect goes linearly with
    the logarithm of the dose, as responses to drugs do; from the lowest measured dose to none linearly with
    the dose, to 0; above the largest it stays, since nothing was measured there. A negative dose is the effect
    run backwards. A perturbation with one measured dose is linear in the dose, at any dose.

    An effect is the sum of its steps from one measured dose to the next, of which a dose has taken some whole
    and one in part. Without a perturbation of several doses nothing is kept and ``is_linear`` holds.
    """

    column: Int[Tensor, " steps"]
    low: Float[Tensor, " steps"]
    high: Float[Tensor, " steps"]
    only: Bool[Tensor, " steps"]
    steps: Float[Tensor, "steps latent"]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("column", torch.empty(0, dtype=torch.long))
        self.register_buffer("low", torch.empty(0))
        self.register_buffer("high", torch.empty(0))
        self.register_buffer("only", torch.empty(0, dtype=torch.bool))
        self.register_buffer("steps", torch.empty(0, 0))

    @property
    def is_linear(self) -> bool:
        """Whether every effect is its perturbation's row times the dose."""
        return len(self.column) == 0

    def learn(self, doses: Sequence[Sequence[float]], effects: Sequence[Float[Tensor, "_ latent"]]) -> None:
        """Take over measured doses, rising to 1, and the effect at each of them, perturbation by perturbation."""
        if all(len(levels) == 1 for levels in doses):
            self.set_buffers(**{name: value[:0] for name, value in self.named_buffers()})
            return
        lower = [below for levels in doses for below in (0.0, *levels[:-1])]
        self.set_buffers(
            column=torch.tensor([i for i, levels in enumerate(doses) for _ in levels]),
            low=torch.tensor(lower),
            high=torch.tensor([level for levels in doses for level in levels]),
            only=torch.tensor([len(levels) == 1 for levels in doses for _ in levels]),
            steps=torch.cat([effect.diff(dim=0, prepend=torch.zeros_like(effect[:1])) for effect in effects]),
        )

    def narrowed(self, columns: Int[Tensor, " some"]) -> "DoseResponse":
        """The same for these perturbations alone, in this order."""
        other = DoseResponse().to(self.steps.device)
        kept, number = (columns[:, None] == self.column).nonzero(as_tuple=True)[::-1]
        own = {name: value[kept] for name, value in self.named_buffers()}
        other.set_buffers(**own | {"column": number})
        return other

    @property
    def at_one(self) -> Float[Tensor, "perturbations latent"]:
        """The effect of dose 1 of each perturbation, where some were measured at several doses."""
        n = int(self.column.max()) + 1
        return self.steps.new_zeros(n, self.steps.shape[1]).index_add(0, self.column, self.steps)

    def forward(self, dose: Dose) -> Float[Tensor, "cells latent"]:
        """The effects of ``dose``, summed over perturbations."""
        return self.taken(dose) @ self.steps

    def taken(self, dose: Dose) -> Float[Tensor, "cells steps"]:
        """How much of each step from one measured dose to the next ``dose`` has taken."""
        given = dose[:, self.column]
        size = given.abs()
        # From no dose on there is no logarithm; a floor keeps the branch that is not taken finite.
        floor = torch.where(self.low > 0, self.low, self.high / 2)
        in_log = (size.maximum(floor) / floor).log() / (self.high / floor).log().clamp_min(_CLOSEST)
        taken = torch.where(self.low > 0, in_log, size / self.high).clamp(0, 1)
        return torch.where(self.only, given, given.sign() * taken)
