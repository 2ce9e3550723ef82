"""Both halves of a digital twin in one: a landscape of cells nobody perturbed, and what perturbed cells did."""

from dataclasses import replace
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from perturbrl.data.regulators import read_regulators
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.errors import ConfigurationError
from perturbrl.schema import CONTROL_LABEL, CellState, Dose, Members
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.drift_effects import known_unperturbed
from perturbrl.twins.landscape import LandscapeTwin
from perturbrl.twins.perturbations import PerturbationSpace
from perturbrl.twins.response import ResponseTwin


class JointTwin(DigitalTwin):
    """dz = (b(z) + g(u)) dt + noise: the drift of the in-silico half under effects of either half.

    The landscape is learned from control cells alone, and so are its effects of perturbations; the experimental half
    learns from all cells. Every cell lives in one member of the ensemble for an episode. In some members the shift that
    the experimental half expects of an action's doses together acts on the drift (``response_share``), in the others
    the in-silico half's own effects do. So a policy is trained on both, and must hold in both. What one half knows
    nothing of it takes from the other.

    Args:
        landscape: the in-silico half; null is one with its defaults.
        response: the experimental half; null is one with its defaults.
        response_share: share of members, and so of episodes, with effects of the experimental half: 1 joins measured
            effects to the drift, 0 is the in-silico half alone.

    Attributes:
        evidence: of each perturbation, what its effect rests on in the experimental half where that knows it.

    Raises:
        ConfigurationError: the share is none, or the landscape's members cannot be shared out so.
    """

    needs_data = heeds_priors = True
    in_silico: Float[Tensor, "perturbations latent"]
    told_in_silico: Bool[Tensor, " perturbations"]
    column: Int[Tensor, " perturbations"]

    def __init__(
        self,
        landscape: LandscapeTwin | None = None,
        response: ResponseTwin | None = None,
        response_share: float = 0.5,
    ) -> None:
        super().__init__()
        self.landscape = LandscapeTwin() if landscape is None else landscape
        self.response = ResponseTwin() if response is None else response
        self.response_share = response_share
        if not 0 <= response_share <= 1:
            raise ConfigurationError(f"response_share is {response_share:g}; give a share in [0, 1]")
        self.relaxation_steps, self.n_members = self.landscape.relaxation_steps, self.landscape.n_members
        self._n_measured = round(response_share * self.n_members)
        if 0 < response_share < 1 and not 0 < self._n_measured < self.n_members:
            raise ConfigurationError(
                f"response_share is {response_share:g} of {self.n_members} members, so one half has none; give the "
                "landscape more (n_members), or a share of 0 or 1"
            )
        self.evidence: tuple[str, ...] = ()
        self.register_buffer("in_silico", torch.empty(0, 0))
        self.register_buffer("told_in_silico", torch.empty(0, dtype=torch.bool))
        self.register_buffer("column", torch.empty(0, dtype=torch.long))

    # -- fitting -----------------------------------------------------------------------------------------

    def fit(self, cells: EncodedCells, encoder: Encoder) -> Self:
        """Fit both halves.

        Raises:
            DataError: see ``LandscapeTwin`` and ``ResponseTwin``.
        """
        self.encoder, self.latent_dim = encoder, encoder.latent_dim
        self.response.fit(cells, encoder)
        self.response.remember(0)
        resting, file = cells.of_rows(cells.rows_of(CONTROL_LABEL)), self.landscape.regulators
        measured = self.response.perturbations.names
        wanted = tuple(dict.fromkeys((*measured, *(cells.allowed or ()))))
        known = known_unperturbed(resting, wanted, None if file is None else read_regulators(file))
        self.landscape.fit(replace(resting, allowed=known or None), encoder)
        self._join(tuple(dict.fromkeys((*measured, *known))))
        return self

    def _join(self, names: tuple[str, ...]) -> None:
        silent, measured = self.landscape.perturbations.names, self.response.perturbations.names
        place = {name: i for i, name in enumerate(silent)}
        rows = [place.get(name, -1) for name in names]
        told = torch.tensor([row >= 0 for row in rows])
        pushes = self.landscape.effect_scale * self.landscape.pushes
        self.set_buffers(
            in_silico=pushes[rows] * told[:, None].to(pushes),
            told_in_silico=told,
            column=torch.tensor([names.index(name) for name in measured]),
        )
        by_name = dict(zip(silent, self.landscape.evidence, strict=True))
        by_name |= dict(zip(measured, self.response.evidence, strict=True))
        doses = dict(zip(measured, self.response.perturbations.measured_doses, strict=True))
        self.evidence = tuple(by_name[name] for name in names)
        space = PerturbationSpace(names, 0.0, 1.0, measured_doses=[doses.get(name, ()) for name in names])
        self.perturbations = space.to(self.in_silico.device)

    # -- moving ------------------------------------------------------------------------------------------

    def transition(
        self,
        state: CellState,
        dose: Dose,
        noise: Float[Tensor, "cells steps latent"],
        member: Members | None = None,
    ) -> CellState:
        """The state after a dose was held for an action of the landscape (see ``DigitalTwin``)."""
        own = torch.zeros(len(state), dtype=torch.long, device=state.device) if member is None else member
        measured = (own < self._n_measured)[:, None]
        push = torch.where(measured, self._measured_push(state, dose), self._in_silico_push(state, dose))
        return self.landscape.drift.advance(state, push / self.landscape.steps_per_action, noise, own)

    def _measured_push(self, state: CellState, dose: Dose) -> Float[Tensor, "cells latent"]:
        unmeasured = dose.index_fill(1, self.column, 0.0)
        return self.response.shift(state, dose[:, self.column]) + unmeasured @ self.in_silico

    def _in_silico_push(self, state: CellState, dose: Dose) -> Float[Tensor, "cells latent"]:
        others = dose * ~self.told_in_silico
        return dose @ self.in_silico + self.response.shift(state, others[:, self.column])

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """The landscape's."""
        return self.landscape.draw_noise(n_cells, generator)

    def attractors(self) -> dict[str, CellState]:
        """The landscape's."""
        return self.landscape.attractors()

    # -- checkpoints -------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """See ``DigitalTwin``."""
        return super().describe() | {
            "landscape": self.landscape.describe(),
            "response": self.response.describe(),
            "evidence": list(self.evidence),
        }

    def restore(self, description: dict[str, Any]) -> None:
        """See ``DigitalTwin``."""
        super().restore(description)
        self.landscape.restore(description["landscape"])
        self.response.restore(description["response"])
        self.evidence = tuple(description["evidence"])
