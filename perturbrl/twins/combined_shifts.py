"""Where doses of several perturbations move cells, by a table that holds what a response model expects of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perturbrl.data.fitted import FittedModule
from perturbrl.schema import Dose, Members
from perturbrl.twins.dose_response import DoseResponse
from perturbrl.twins.part_effects import MOST_PARTS

NUMBERS_OF_PARTS: Final = (1, 2, 3, 4, MOST_PARTS)
_NEARLY_FULL: Final = 1.0 - 1e-6

Context = Int[Tensor, " cells"]


@dataclass(frozen=True, eq=False)
class ForetoldParts:
    """What a response model expects of perturbations, alone and as parts of combinations, in cell states.

    Attributes:
        doses: of each perturbation, rising, in units of the largest.
        shares: of each, ``[doses, contexts, numbers, latent]``: its share in the shift of a combination of so many
            parts (``NUMBERS_OF_PARTS``); the share of one alone is its shift.
        errors: ``[members, contexts, perturbations, latent]`` draws of how far off each may be, alone.
        combinations: numbers of the parts of those measured at the largest doses.
        corrections: ``[contexts, combinations, latent]`` what is expected of them beside their parts' shares.
        correction_errors: ``[members, contexts, combinations, latent]`` draws of how far off each of them may be.
        interaction_sd: ``[contexts, latent]`` how far off an unmeasured pair may be beside its parts.
    """

    doses: Sequence[Sequence[float]]
    shares: Sequence[Float[Tensor, "doses contexts numbers latent"]]
    errors: Float[Tensor, "members contexts perturbations latent"]
    combinations: Sequence[Sequence[int]]
    corrections: Float[Tensor, "contexts combinations latent"]
    correction_errors: Float[Tensor, "members contexts combinations latent"]
    interaction_sd: Float[Tensor, "contexts latent"]


class CombinedShifts(FittedModule):
    """The shift under any doses, in any context, of any member of an ensemble.

    At full doses it is the response model's own: parts' shares by the number of parts, and of a measured combination
    what it does beside them. In between, what the model does not say is filled in:

    - a dose between those measured counts as ``DoseResponse`` says;
    - the number of parts is the sum of the doses, at least 1, so that a small dose of another perturbation does not
      halve the effect of the first; between ``NUMBERS_OF_PARTS`` shares go with the logarithm of the number;
    - a measured combination counts by the product of its parts' doses and of what is left of all others'.

    Members are draws from the posterior: of each perturbation and measured combination for itself, as if no
    uncertainty were common to them, and of every other pair by the product of two draws.
    """

    shares: Float[Tensor, "steps wide"]
    damping: Float[Tensor, " numbers"]
    errors: Float[Tensor, "members contexts perturbations latent"]
    factors: Float[Tensor, "members perturbations latent"]
    parts: Int[Tensor, "combinations parts"]
    corrections: Float[Tensor, "contexts combinations latent"]
    correction_errors: Float[Tensor, "members contexts combinations latent"]
    interaction_sd: Float[Tensor, "contexts latent"]

    def __init__(self) -> None:
        super().__init__()
        self.dose_response = DoseResponse()
        for name, dimensions in _SHAPES.items():
            self.register_buffer(name, torch.empty((0,) * dimensions))
        self.register_buffer("parts", torch.empty(0, 0, dtype=torch.long))

    def learn(self, told: ForetoldParts, seed: int) -> None:
        """Take over what a response model expects."""
        n, wide = len(told.doses), [own.flatten(1) for own in told.shares]
        largest = torch.stack([own[-1] for own in wide])
        self.dose_response.learn(told.doses, wide)
        alone, every = (
            torch.stack([own[-1] for own in told.shares])[:, :, k] for k in (slice(1), slice(None))
        )
        generator = torch.Generator().manual_seed(seed)
        most = max(map(len, told.combinations), default=1)
        # The number after the last perturbation's stands for a part that is not there.
        padded = [[*parts, *[n] * (most - len(parts))] for parts in told.combinations]
        self.set_buffers(
            shares=largest if self.dose_response.is_linear else largest[:0],
            damping=(alone * every).sum((0, 1, 3)) / alone.square().sum().clamp_min(1e-12),
            errors=told.errors,
            factors=torch.randn(len(told.errors), n, told.errors.shape[-1], generator=generator),
            parts=torch.tensor(padded, dtype=torch.long).view(-1, most),
            corrections=told.corrections,
            correction_errors=told.correction_errors,
            interaction_sd=told.interaction_sd,
        )

    def forward(self, dose: Dose, context: Context, member: Members | None) -> Float[Tensor, "cells latent"]:
        """The shift that doses amount to; of the mean where no member is given."""
        number, measured = self._number(dose), self._measured(dose)
        expected = self._expected(dose, number, measured, context)
        if member is None:
            return expected
        of_member = [
            (member == m)[:, None] * self._error(dose, number, measured, context, m)
            for m in range(len(self.errors))
        ]
        return expected + torch.stack(of_member).sum(0)

    def spread(self, dose: Dose, context: Context) -> Float[Tensor, " cells"]:
        """Standard deviation of the shift over members, as a length."""
        number, measured = self._number(dose), self._measured(dose)
        of_member = [self._error(dose, number, measured, context, m) for m in range(len(self.errors))]
        return torch.stack(of_member).square().mean(0).sum(-1).sqrt()

    def narrowed(self, columns: Int[Tensor, " some"]) -> "CombinedShifts":
        """The same for these perturbations alone, in this order."""
        other, n = CombinedShifts().to(self.errors.device), self.factors.shape[1]
        number = torch.full((n + 1,), -1, device=columns.device)
        number[columns] = torch.arange(len(columns), device=columns.device)
        number[n] = len(columns)  # of a part that is not there
        parts = number[self.parts]
        kept = (parts >= 0).all(1)
        other.dose_response = self.dose_response.narrowed(columns)
        other.set_buffers(
            shares=self.shares[columns] if self.dose_response.is_linear else self.shares,
            damping=self.damping,
            errors=self.errors[:, :, columns],
            factors=self.factors[:, columns],
            parts=parts[kept],
            corrections=self.corrections[:, kept],
            correction_errors=self.correction_errors[:, :, kept],
            interaction_sd=self.interaction_sd,
        )
        return other

    def of_parts(self, n_parts: int) -> Float[Tensor, "contexts perturbations latent"]:
        """The share of each perturbation at dose 1 in the shift of a combination of so many."""
        linear = self.dose_response.is_linear
        n_contexts, _, n_latent = self.corrections.shape
        at_one = self.shares if linear else self.dose_response.at_one
        by_number = at_one.view(len(at_one), n_contexts, -1, n_latent)
        return torch.einsum("pcnl,n->cpl", by_number, self._number(at_one.new_ones(1, n_parts))[0])

    def errors_of_parts(
        self, n_parts: int, members: range
    ) -> Float[Tensor, "m contexts perturbations latent"]:
        """How far off each of these members is in such shares."""
        damped = self._number(self.errors.new_ones(1, n_parts))[0] @ self.damping
        return damped * self.errors[members.start : members.stop]

    def _expected(
        self, dose: Dose, number: Tensor, measured: Tensor, context: Context
    ) -> Float[Tensor, "cells latent"]:
        linear = self.dose_response.is_linear
        taken, steps = (
            (dose, self.shares) if linear else (self.dose_response.taken(dose), self.dose_response.steps)
        )
        n_contexts, _, n_latent = self.corrections.shape
        by_number = steps.view(len(steps), n_contexts, -1, n_latent)
        found = dose.new_zeros(len(dose), n_latent)
        for c in range(n_contexts):
            shares = (taken @ by_number[:, c].flatten(1)).view(len(dose), -1, n_latent)
            here = (number[:, :, None] * shares).sum(1) + measured @ self.corrections[c]
            found = found + (context == c)[:, None] * here
        return found

    def _error(
        self, dose: Dose, number: Tensor, measured: Tensor, context: Context, member: int
    ) -> Float[Tensor, "cells latent"]:
        """How far off a member is: a measured combination has an error of its own in place of its parts'."""
        unmeasured = 1.0 - measured.sum(1, keepdim=True)
        damped = (number @ self.damping)[:, None]
        factors = self.factors[member]
        pairs = ((dose @ factors).square() - dose.square() @ factors.square()) / 2  # sum over i < j
        found = torch.zeros_like(pairs)
        for c in range(len(self.corrections)):
            apart = damped * (dose @ self.errors[member, c]) + pairs * self.interaction_sd[c]
            here = unmeasured * apart + measured @ self.correction_errors[member, c]
            found = found + (context == c)[:, None] * here
        return found

    def _number(self, dose: Dose) -> Float[Tensor, "cells numbers"]:
        """How much of each of ``NUMBERS_OF_PARTS`` a cell's number of parts is."""
        parts = dose.clamp(0, 1).sum(1, keepdim=True).clamp(1, NUMBERS_OF_PARTS[-1]).log()
        at = torch.tensor(NUMBERS_OF_PARTS, dtype=dose.dtype, device=dose.device).log()
        rising = ((parts - at[:-1]) / at.diff()).clamp(0, 1)
        ends = rising.new_ones(len(rising), 1), rising.new_zeros(len(rising), 1)
        return torch.cat((ends[0], rising), dim=1) - torch.cat((rising, ends[1]), dim=1)

    def _measured(self, dose: Dose) -> Float[Tensor, "cells combinations"]:
        """How much of each measured combination, and of nothing else, a cell received."""
        given = dose.clamp(0, 1)
        left = torch.log1p(-given.clamp_max(_NEARLY_FULL))
        padded = torch.cat((given, given.new_ones(len(given), 1)), dim=1)
        own = torch.cat((left, left.new_zeros(len(left), 1)), dim=1)[:, self.parts].sum(2)
        return padded[:, self.parts].prod(2) * (left.sum(1, keepdim=True) - own).clamp_max(0).exp()


_SHAPES: Final = {
    "shares": 2,
    "damping": 1,
    "errors": 4,
    "factors": 3,
    "corrections": 3,
    "correction_errors": 4,
    "interaction_sd": 2,
}
