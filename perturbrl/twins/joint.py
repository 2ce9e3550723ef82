"""Both halves of a digital twin in one: a landscape of cells nobody perturbed, and what perturbed cells did."""

from dataclasses import replace
from typing import Any, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.errors import ConfigurationError, listed
from perturbrl.schema import CONTROL_LABEL, CellState, Dose, Members
from perturbrl.twins.disagreeing import DisagreeingTwin
from perturbrl.twins.drift_effects import known_unperturbed
from perturbrl.twins.landscape import LandscapeTwin
from perturbrl.twins.perturbations import PerturbationSpace
from perturbrl.twins.response import ResponseTwin
from perturbrl.twins.target_senses import target_senses


class JointTwin(DisagreeingTwin):
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
        dose_means: what a dose of 1 does to the gene that a perturbation is named after, ``up`` (over-expression) or
            ``down`` (knock-out), so that both halves mean the same by it; null takes it from the file (``obs`` column
            ``perturbation_type``), else from the gene's own expression under the perturbation.

    Attributes:
        evidence: of each perturbation, what its effect rests on in the experimental half where that knows it.

    Raises:
        ConfigurationError: the share is none, or the landscape's members cannot be shared out so.
    """

    needs_data = heeds_priors = True
    in_silico: Float[Tensor, "perturbations latent"]
    told_in_silico: Bool[Tensor, " perturbations"]
    column: Int[Tensor, " perturbations"]
    by_experiment: Bool[Tensor, " members"]

    def __init__(
        self,
        landscape: LandscapeTwin | None = None,
        response: ResponseTwin | None = None,
        response_share: float = 0.5,
        dose_means: Literal["up", "down"] | None = None,
    ) -> None:
        super().__init__()
        self.landscape = LandscapeTwin() if landscape is None else landscape
        self.response = ResponseTwin() if response is None else response
        self.dose_means = dose_means
        if not 0 <= response_share <= 1:
            raise ConfigurationError(f"response_share is {response_share:g}; give a share in [0, 1]")
        self.relaxation_steps, self.n_members = self.landscape.relaxation_steps, self.landscape.n_members
        self.judging_members = self.landscape.judging_members
        self.evidence: tuple[str, ...] = ()
        self.senses: tuple[int, ...] = ()
        self.register_buffer("in_silico", torch.empty(0, 0))
        self.register_buffer("told_in_silico", torch.empty(0, dtype=torch.bool))
        self.register_buffer("column", torch.empty(0, dtype=torch.long))
        self.register_buffer("by_experiment", _shared_out(self, response_share))

    # -- fitting -----------------------------------------------------------------------------------------

    def fit(self, cells: EncodedCells, encoder: Encoder) -> Self:
        """Fit both halves.

        Raises:
            DataError: see ``LandscapeTwin`` and ``ResponseTwin``.
            ConfigurationError: nothing tells whether doses raise or lower genes.
        """
        self.encoder = encoder
        self._take_places(encoder.latent_dim)
        self.response.fit(cells, encoder)
        self.response.remember(0)
        resting, regulators = cells.of_rows(cells.rows_of(CONTROL_LABEL)), self.landscape.table(cells)
        measured, allowed = self.response.perturbations.names, cells.allowed or ()
        known = known_unperturbed(resting, tuple(dict.fromkeys((*measured, *allowed))), regulators)
        silent = tuple(name for name in allowed if name in cells.genes and name not in {*known, *measured})
        self.landscape.learn(
            replace(resting, allowed=(*known, *silent) if known else None), encoder, regulators
        )
        self._join(tuple(dict.fromkeys((*measured, *known, *silent))), cells)
        return self

    def _join(self, names: tuple[str, ...], cells: EncodedCells) -> None:
        silent, measured = self.landscape.perturbations.names, self.response.perturbations.names
        place = {name: i for i, name in enumerate(silent)}
        evidence = dict(zip(silent, self.landscape.evidence, strict=True))
        rows = [place.get(name, -1) for name in names]
        told = torch.tensor([evidence.get(name, "none") != "none" for name in names])
        senses = self._senses(names, cells, told)
        signs = torch.tensor(senses)[:, None] * told[:, None]
        pushes = self.landscape.effect_scale * self.landscape.pushes
        self.set_buffers(
            in_silico=pushes[rows] * signs.to(pushes),
            told_in_silico=told,
            column=torch.tensor([names.index(name) for name in measured]),
        )
        evidence |= dict(zip(measured, self.response.evidence, strict=True))
        doses = dict(zip(measured, self.response.perturbations.measured_doses, strict=True))
        self.evidence, self.senses = tuple(evidence[name] for name in names), senses
        space = PerturbationSpace(names, 0.0, 1.0, measured_doses=[doses.get(name, ()) for name in names])
        self.perturbations = space.to(self.in_silico.device)

    def _senses(
        self, names: tuple[str, ...], cells: EncodedCells, told: Bool[Tensor, " _"]
    ) -> tuple[int, ...]:
        if self.dose_means is not None:
            return (1 if self.dose_means == "up" else -1,) * len(names)
        senses = target_senses(cells, names)
        open_ = [
            name for name, sense, one in zip(names, senses, told.tolist(), strict=True) if one and not sense
        ]
        if open_:
            raise ConfigurationError(
                f"nothing tells whether a dose of {listed(open_, 5)} raises or lowers the gene, which the in-silico "
                "half must know: there is no obs column 'perturbation_type' (CRISPRa, knock-out, ...) and the genes' "
                "own expression does not say; give the twin's dose_means, up or down"
            )
        return senses

    # -- moving ------------------------------------------------------------------------------------------

    def moved(
        self, place: CellState, dose: Dose, noise: Float[Tensor, "cells steps latent"], member: Members
    ) -> CellState:
        """See ``DisagreeingTwin``; an action is held as long as the landscape's."""
        measured = self.by_experiment[member][:, None]
        push = torch.where(measured, self._measured_push(place, dose), self._in_silico_push(place, dose))
        return self.landscape.drift.advance(place, push / self.landscape.steps_per_action, noise, member)

    def _measured_push(self, place: CellState, dose: Dose) -> Float[Tensor, "cells latent"]:
        unmeasured = dose.index_fill(1, self.column, 0.0)
        return self.response.shift(place, dose[:, self.column]) + unmeasured @ self.in_silico

    def _in_silico_push(self, place: CellState, dose: Dose) -> Float[Tensor, "cells latent"]:
        others = dose * ~self.told_in_silico
        return dose @ self.in_silico + self.response.shift(place, others[:, self.column])

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """The landscape's."""
        return self.landscape.draw_noise(n_cells, generator)

    def attractors(self) -> dict[str, CellState]:
        """The landscape's."""
        return self.landscape.attractors()

    def typical_cells(self) -> EncodedCells:
        """The landscape's."""
        return self.landscape.typical_cells()

    # -- checkpoints -------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """See ``DigitalTwin``."""
        return super().describe() | {
            "landscape": self.landscape.describe(),
            "response": self.response.describe(),
        }

    def restore(self, description: dict[str, Any]) -> None:
        """See ``DigitalTwin``."""
        super().restore(description)
        self.landscape.restore(description["landscape"])
        self.response.restore(description["response"])


def _shared_out(twin: JointTwin, share: float) -> Bool[Tensor, " members"]:
    """Which members have effects of the experimental half: spread evenly, so that those that judge have both, too."""
    number = torch.arange(twin.n_members + 1, dtype=torch.float64) * share
    found = (number + 0.5 + 1e-9).floor().diff() > 0
    trained = twin.n_members - twin.judging_members
    for what, part in (("n_members", found[:trained]), ("judging_members", found[trained:])):
        if 0 < share < 1 and len(part) and bool((part == part[0]).all()):
            raise ConfigurationError(
                f"response_share is {share:g} of {twin.n_members} members, of which {twin.judging_members} judge, so "
                f"one half has none of the {len(part)} that {'train' if what == 'n_members' else 'judge'}; give the "
                f"landscape more ({what}), or a share of 0 or 1"
            )
    return found
