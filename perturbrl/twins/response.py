"""The experimental half of a digital twin: cells go where a response model expects them under all they received."""

from typing import Any, Final, Self

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from perturbrl.data.labels import Label
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.errors import ConfigurationError
from perturbrl.responses.askable import most_alike_first
from perturbrl.responses.base import Evidence
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import CONTROL_LABEL, CellState, Dose, Members, PerCell
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.combined_shifts import CombinedShifts
from perturbrl.twins.dose_memory import DoseMemory
from perturbrl.twins.foretold_parts import PartTeller, measured_doses
from perturbrl.twins.part_effects import PartEffects
from perturbrl.twins.perturbations import PerturbationSpace

_EVERYTHING: Final = 1 << 30


class ResponseTwin(DigitalTwin):
    """z = z0 + g(z0, doses), by what kriging expects of all doses that a cell received together.

    The same perturbation twice is one, its order does not matter, and combinations are what kriging says of them (see
    ``CombinedShifts``). A perturbation may be dosed that nobody measured, if prior knowledge likens it to a measured
    one (``evidence`` says which are). Where there are several contexts (cell types), a cell has the one whose control
    cells are nearest to where it started.

    A state's columns are the place in the encoder's dimensions; the number of the context, where there are several; and
    the highest dose received of each perturbation, where more than one step follows (see ``DoseMemory``).

    Args:
        n_members: ensemble of draws from kriging's posterior, in which a policy must hold; 1 is what is expected alone.
        max_unmeasured: perturbations that were never measured and that prior knowledge likens most to measured ones, at
            most, where ``data.allowed_perturbations`` names none.
        seed: of the draws.

    Attributes:
        contexts: those that a cell may have.

    Raises:
        ConfigurationError: an option is out of range.
    """

    needs_data = heeds_priors = is_quick = True
    middles: Float[Tensor, "contexts latent"]

    def __init__(self, n_members: int = 1, max_unmeasured: int = 100, seed: int = 0) -> None:
        super().__init__()
        for name, value, least in (("n_members", n_members, 1), ("max_unmeasured", max_unmeasured, 0)):
            if value < least:
                raise ConfigurationError(f"the twin's {name} is {value}; give at least {least}")
        self.n_members, self.max_unmeasured, self.seed = n_members, max_unmeasured, seed
        self.evidence: tuple[str, ...] = ()
        self.contexts: tuple[str, ...] = ()
        self._most = _EVERYTHING
        self.shifts = CombinedShifts()
        self.register_buffer("middles", torch.empty(0, 0))

    # -- fitting -----------------------------------------------------------------------------------------

    def fit(self, cells: EncodedCells, encoder: Encoder) -> Self:
        """Fit kriging to training cells and ask it for everything that doses can do.

        Raises:
            DataError: see ``Kriging``; or none of the allowed perturbations was measured or is like one that was.
        """
        training = TrainingCells(cells.expression, cells.labels, cells.genes, cells.contexts)
        response = Kriging(cells.priors).fit(training)
        known = self._known(cells, response)
        teller = PartTeller(response, encoder, tuple(known), self.n_members, self.seed)
        self.encoder, self.evidence = encoder, tuple(known.values())
        self.contexts = response.contexts
        self.shifts.learn(teller.tell(), self.seed)
        self.set_buffers(middles=_middles(cells, response.contexts))
        levels = measured_doses(response, tuple(known))
        doses = [[part.dose for part in own if part.dose is not None] for own in levels]
        self._take(tuple(known), doses, encoder.latent_dim)
        return self

    def _known(self, cells: EncodedCells, response: Kriging) -> dict[str, Evidence]:
        """What may be dosed, and what kriging's answer rests on where most control cells are."""
        measured = sorted({name for label, _ in response.moments.conditions for name in label.names})
        alike = most_alike_first(cells.priors, measured, measured)[: self.max_unmeasured]
        names = list(dict.fromkeys((*measured, *(alike if cells.allowed is None else cells.allowed))))
        context = max(response.contexts, key=lambda name: (response.control_counts[name], name))
        asked = [(Label((own[-1],)), context) for own in measured_doses(response, names)]
        told = response.predict(asked).evidence
        return {name: one for name, one in zip(names, told, strict=True) if one != "none"}

    def _take(self, names: tuple[str, ...], doses: list[list[float]], place_dim: int) -> None:
        space = PerturbationSpace(names, 0.0, 1.0, measured_doses=doses)
        self.perturbations, self._place_dim = space.to(self.middles.device), place_dim
        self.remember(self._most)

    def remember(self, n_perturbations: int) -> None:
        """See ``DigitalTwin``."""
        self._most, n = n_perturbations, self.perturbations.n_perturbations
        self._memory = DoseMemory(n, min(n_perturbations, n)) if n_perturbations else None
        self.remembers = self._memory is not None
        self.latent_dim = self._place_dim + self._has_context + (self._memory.width if self._memory else 0)

    @property
    def _has_context(self) -> int:
        return int(len(self.contexts) > 1)

    # -- states ------------------------------------------------------------------------------------------

    def place(self, state: Float[Tensor, "cells _"]) -> CellState:
        """See ``DigitalTwin``."""
        return state[:, : self._place_dim]

    def untouched(self, cells: Float[Tensor, "cells _"]) -> CellState:
        """See ``DigitalTwin``."""
        if cells.shape[1] != self._place_dim or self._place_dim == self.latent_dim:
            return cells
        beside = cells.new_zeros(len(cells), self.latent_dim - self._place_dim)
        if self._has_context:
            beside[:, 0] = torch.cdist(cells, self.middles).argmin(1).to(cells)
        return torch.cat((cells, beside), dim=1)

    def received(self, state: CellState) -> Dose:
        """See ``DigitalTwin``; of a state that knows nothing, nothing."""
        if self._memory is None:
            return super().received(state)
        return self._memory.highest(state[:, self._place_dim + self._has_context :])

    def _context(self, state: CellState) -> Int[Tensor, " cells"]:
        if not self._has_context:
            return torch.zeros(len(state), dtype=torch.long, device=state.device)
        return state[:, self._place_dim].round().long()

    def uncertainty(self, state: CellState) -> PerCell | None:
        """See ``DigitalTwin``; known where there are several members."""
        if self.n_members == 1:
            return None
        return self.shifts.spread(self.received(state), self._context(state))

    # -- moving ------------------------------------------------------------------------------------------

    def transition(
        self, state: CellState, dose: Dose, noise: Tensor, member: Members | None = None
    ) -> CellState:
        """One step (see ``DigitalTwin``)."""
        context, before = self._context(state), self.received(state)
        highest = torch.maximum(before, dose)
        shift = self.shifts(highest, context, member)
        if self._memory is None:
            return torch.cat((self.place(state) + shift, state[:, self._place_dim :]), dim=1)
        moved = self.place(state) + (shift - self.shifts(before, context, member))
        kept = state[:, self._place_dim : self._place_dim + self._has_context]
        return torch.cat((moved, kept, self._memory.columns(highest)), dim=1)

    def shift(self, place: CellState, dose: Dose) -> Float[Tensor, "cells latent"]:
        """What is expected of doses together, in cells at these places that received nothing before."""
        return self.shifts(dose, self._context(self.untouched(place)), None)

    def part_effects(self, n_parts: int) -> PartEffects:
        """See ``DigitalTwin``; of cells of several contexts the mean."""
        contexts = self._context(self.start_cells).bincount(minlength=len(self.middles)).to(self.middles)
        weights, shifts = contexts / contexts.sum(), self.shifts
        mean = torch.einsum("c,cpl->pl", weights, shifts.of_parts(n_parts))
        variances = mean.new_zeros(len(mean))
        if self.n_members > 1:
            errors = shifts.errors_of_parts(n_parts, self.lived_in)
            mean = mean + torch.einsum("c,mcpl->pl", weights, errors) / len(errors)
            variances = torch.einsum("c,cpl->p", weights, errors.var(0, correction=0))
        parts, n = shifts.parts, self.perturbations.n_perturbations
        corrections = torch.einsum("c,col->ol", weights, shifts.corrections)
        exact = self.n_members == len(self.contexts) == 1 and shifts.dose_response.is_linear
        parts = torch.where(parts == n, -1, parts)
        return PartEffects(mean, variances, parts, corrections, adds_up=False, exact=exact)

    def narrowed(self, columns: Int[Tensor, " some"]) -> Self:
        """See ``DigitalTwin``; itself where start cells have received something."""
        beside = self._place_dim + self._has_context
        if bool(self.start_cells[:, beside:].any()):
            return self
        other = self._copied()
        other.shifts = self.shifts.narrowed(columns)
        names = [self.perturbations.names[i] for i in columns.tolist()]
        other.perturbations = self.perturbations.restrict(names).alone()
        other.evidence = tuple(self.evidence[i] for i in columns.tolist()) if self.evidence else ()
        other.remember(self._most)
        start = self.start_cells.new_zeros(len(self.start_cells), other.latent_dim)
        start[:, :beside] = self.start_cells[:, :beside]
        other.start_from(start)
        return other

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """None at all."""
        return self.start_cells.new_empty(n_cells, 0)

    # -- checkpoints -------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """See ``DigitalTwin``."""
        return super().describe() | {
            "place_dim": self._place_dim,
            "remembered": self._memory.most if self._memory else 0,
            "evidence": list(self.evidence),
            "contexts": list(self.contexts),
        }

    def restore(self, description: dict[str, Any]) -> None:
        """See ``DigitalTwin``."""
        super().restore(description)
        self._place_dim = description["place_dim"]
        self.evidence, self.contexts = (tuple(description[name]) for name in ("evidence", "contexts"))
        self.remember(description["remembered"])


def _middles(cells: EncodedCells, contexts: tuple[str, ...]) -> Float[Tensor, "contexts latent"]:
    """Mean state of the control cells of each context."""
    rows = cells.rows_of(CONTROL_LABEL)
    if len(contexts) == 1 or cells.contexts is None:
        return cells.latent[rows].mean(0, keepdim=True)
    own = [rows[[cells.contexts[i] == context for i in rows.tolist()]] for context in contexts]
    return torch.stack([cells.latent[some].mean(0) for some in own])
