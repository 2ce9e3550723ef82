"""What kriging expects of perturbations as parts of combinations, asked once and kept in cell states."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.data.labels import Label, Part
from perturbrl.embeddings.base import Encoder
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import Condition
from perturbrl.twins.combined_shifts import NUMBERS_OF_PARTS, ForetoldParts

_AT_ONCE: Final = 256  # conditions whose draws are held at a time
_PAIRS: Final = 64  # of perturbations, from which the uncertainty of an interaction is told
_DRAWS: Final = 32
_TELLING: Final = 512  # perturbations that tell what others do to a share
# Nothing is known of these, so that what a combination with them does beside them is the share of its other part.
_STRANGERS: Final = tuple(Part(f"(stranger {i})") for i in range(max(NUMBERS_OF_PARTS)))

Shifts = Float[np.ndarray, "_ genes"]


def measured_doses(response: Kriging, names: Sequence[str]) -> list[list[Part]]:
    """Of each perturbation its measured doses, rising; one without a dose where it has none."""
    parts = {part for label, _ in response.moments.conditions for part in label.parts}
    found: dict[str, list[Part]] = {name: [] for name in names}
    for part in sorted(parts, key=lambda part: part.dose or 0.0):
        if part.name in found and part.dose is not None:
            found[part.name].append(part)
    return [own or [Part(name)] for name, own in found.items()]


@dataclass(frozen=True, eq=False)
class PartTeller:
    """Asks kriging.

    Attributes:
        response: fitted.
        encoder: of cell states.
        names: perturbations.
        n_members: draws of what may be.
        seed: of these.
    """

    response: Kriging
    encoder: Encoder
    names: tuple[str, ...]
    n_members: int
    seed: int

    @property
    def contexts(self) -> tuple[str, ...]:
        """Contexts that can be asked about."""
        return self.response.contexts

    @property
    def levels(self) -> list[list[Part]]:
        """See ``measured_doses``."""
        return measured_doses(self.response, self.names)

    def measured_combinations(self) -> list[Label]:
        """Those of these perturbations at their largest doses, in any context."""
        largest = {own[-1] for own in self.levels} | {Part(name) for name in self.names}
        labels = {label for label, _ in self.response.moments.conditions if label.is_combination}
        return sorted(label for label in labels if set(label.parts) <= largest)

    def tell(self) -> ForetoldParts:
        """Everything that is to be known."""
        levels, labels = self.levels, self.measured_combinations()
        flat = [part for own in levels for part in own]
        shares = torch.stack([self._by_number(flat, context) for context in self.contexts], dim=1)
        place = {own[-1]: i for i, own in enumerate(levels)} | {
            Part(name): i for i, name in enumerate(self.names)
        }
        parts = [[place[part] for part in label.parts] for label in labels]
        by_name = shares.split([len(own) for own in levels])
        alone = torch.stack([own[-1] for own in by_name])
        singles = [Label((own[-1],)) for own in levels]
        return ForetoldParts(
            [[(part.dose or 1.0) / (own[-1].dose or 1.0) for part in own] for own in levels],
            by_name,
            self._draws(singles),
            parts,
            torch.stack(
                [self._beside(labels, parts, alone[:, c], context) for c, context in enumerate(self.contexts)]
            ),
            self._draws(labels),
            torch.stack([self._interaction_sd(context) for context in self.contexts]),
        )

    def _predict(self, labels: Sequence[Label], context: str) -> Shifts:
        return self.response.predict([(label, context) for label in labels]).mean

    def _by_number(self, parts: Sequence[Part], context: str) -> Float[Tensor, "parts numbers latent"]:
        """Shares in the shift of one part alone, of two and so on.

        Of thousands, some tell by how much another part lessens a share, by least squares along each dimension.
        """
        rng = np.random.default_rng(self.seed)
        some = np.sort(rng.permutation(len(parts))[:_TELLING])
        told = [
            self._states(context, self._shares([parts[i] for i in some], n, context))
            for n in NUMBERS_OF_PARTS
        ]
        if len(some) == len(parts):
            return torch.stack(told, 1)
        alone = self._states(context, self._shares(parts, 1, context))
        size = told[0].square().sum(0).clamp_min(torch.finfo(alone.dtype).tiny)
        return torch.stack([alone * ((told[0] * own).sum(0) / size) for own in told], 1)

    def _shares(self, parts: Sequence[Part], number: int, context: str) -> Shifts:
        """Each part's share in the shift of a combination of so many parts, all unmeasured together."""
        others = _STRANGERS[: number - 1]
        found = self._predict([Label((part, *others)) for part in parts], context)
        if not others:
            return found
        stranger = self._predict([Label(_STRANGERS[:number])], context)[0] / number
        return found - len(others) * stranger

    def _states(self, context: str, shifts: Shifts) -> Float[Tensor, "_ latent"]:
        """What shifts of mean expression amount to in cell states."""
        base = torch.as_tensor(self.response.moments.controls[context])
        states = self.encoder.encode(torch.cat((base[None], base + torch.as_tensor(shifts))).float())
        return states[1:] - states[0]

    def _beside(
        self,
        labels: Sequence[Label],
        parts: Sequence[Sequence[int]],
        shares: Float[Tensor, "perturbations numbers latent"],
        context: str,
    ) -> Float[Tensor, "combinations latent"]:
        if not labels:
            return shares.new_zeros(0, shares.shape[-1])
        whole = self._states(context, self._predict(labels, context))
        at = [_number(len(own)) for own in parts]
        return whole - torch.stack([shares[own, k].sum(0) for own, k in zip(parts, at, strict=True)])

    def _draws(self, labels: Sequence[Label]) -> Float[Tensor, "members contexts _ latent"]:
        """How far off the shift of each may be: of mean 0 over members, so that their mean is what is expected."""
        wide = self.encoder.latent_dim
        found = torch.zeros(self.n_members, len(self.contexts), len(labels), wide)
        if self.n_members == 1:
            return found
        rng = np.random.default_rng(self.seed)
        for c, context in enumerate(self.contexts):
            for start in range(0, len(labels), _AT_ONCE):
                some = labels[start : start + _AT_ONCE]
                found[:, c, start : start + len(some)] = self._drawn(some, context, self.n_members, rng)
        centred = found - found.mean(0)
        return centred * (self.n_members / (self.n_members - 1)) ** 0.5

    def _drawn(
        self, labels: Sequence[Label], context: str, n_draws: int, rng: np.random.Generator
    ) -> Float[Tensor, "draws _ latent"]:
        asked: list[Condition] = [(label, context) for label in labels]
        expected = self.response.predict(asked).mean
        drawn = expected + self.response.deviations(asked, n_draws, rng)
        return torch.stack([self._states(context, one) for one in drawn]) - self._states(context, expected)

    def _interaction_sd(self, context: str) -> Float[Tensor, " latent"]:
        """What an unmeasured pair varies by beyond its parts, whose errors count as independent."""
        pairs = _some_pairs(self.names, set(self.measured_combinations()), self.seed)
        if self.n_members == 1 or not pairs:
            return torch.zeros(self.encoder.latent_dim)
        rng = np.random.default_rng(self.seed)

        def variance(labels: Sequence[Label]) -> Float[Tensor, "_ latent"]:
            return self._drawn(labels, context, _DRAWS, rng).square().mean(0)

        shares = [self._predict([Label((part,)) for part in pair.parts], context).sum(0) for pair in pairs]
        ways, wholes = np.stack(shares), self._predict(pairs, context)
        damping = float((ways * wholes).sum() / max(np.square(ways).sum(), np.finfo(float).tiny))
        parts = [variance([Label((pair.parts[k],)) for pair in pairs]) for k in (0, 1)]
        left = variance(pairs) - damping**2 * (parts[0] + parts[1])
        return left.mean(0).clamp_min(0).sqrt()


def _number(n_parts: int) -> int:
    """Place of the number of parts; the largest stands for all beyond."""
    return NUMBERS_OF_PARTS.index(n_parts) if n_parts in NUMBERS_OF_PARTS else len(NUMBERS_OF_PARTS) - 1


def _some_pairs(names: Sequence[str], measured: set[Label], seed: int) -> list[Label]:
    """Unmeasured pairs, drawn at random."""
    rng = np.random.default_rng(seed)
    few = sorted(rng.permutation(len(names))[: 2 * _PAIRS].tolist())
    pairs = [Label((Part(names[i]), Part(names[j]))) for i, j in combinations(few, 2)]
    kept = [pair for pair in pairs if pair not in measured]
    return [kept[i] for i in sorted(rng.permutation(len(kept))[:_PAIRS].tolist())]
