"""The landscape learned from cells that nobody perturbed."""

from typing import Any, Final, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from perturbrl.data.cell_order import CellOrder
from perturbrl.data.regulators import Regulators, read_regulators
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.errors import ConfigurationError
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import CONTROL_LABEL, CellState, Dose, Members, Points
from perturbrl.twins.couplings import couple
from perturbrl.twins.disagreeing import DisagreeingTwin
from perturbrl.twins.drift_effects import dosable, drift_effects
from perturbrl.twins.drift_fit import as_unseen, caught_up, fit_member
from perturbrl.twins.lineages import Lineages, find_lineages, lineage_steps
from perturbrl.twins.mixture_drift import MixtureDrift
from perturbrl.twins.perturbations import PerturbationSpace
from perturbrl.twins.settling import find_attractors

MOST_KEPT: Final = 1000


class LandscapeTwin(DisagreeingTwin):
    """dz = (b(z) + sum_k u_k B_k) dt + noise, in the encoder's space.

    b is learned from the order of cells: it carries progenitors along their lineage, holds cells where real cells are,
    and lets them rest in mature types, each of which keeps its basin (see ``MixtureDrift``, ``LineageSteps``). B_k is
    the push of a perturbation, by the best evidence there is (see ``DriftEffects``): one action at dose 1 moves a cell
    by its row, over ``steps_per_action`` steps, and then stops.

    Args:
        regulators: table of which factor regulates which gene, by the names that ``data.aliases`` says are meant; null
            leaves the push of factors to other evidence.
        progenitors: cell types that cells pass through; null tells them by name and order, the others are kept as
            basins.
        n_members: landscapes of an ensemble, each of cells drawn with replacement and from a seed of its own.
        judging_members: how many of these no cell lives in before designs are judged.
        n_steps: steps in which a cell passes from the first to the last of the order.
        steps_per_action: steps for which a dose is held.
        pull: share of the way to where cells are that a step takes.
        ridge: height of the ridges between mature types, in standard deviations of real cells per step.
        sharpness: power of the probability of a lineage, by which a cell between two belongs to one.
        cells_per_component: how finely the landscape is resolved.
        effect_scale: factor on every push.
        seed: of the ensemble.

    Attributes:
        evidence: of each perturbation, what its push rests on.
        cell_types: types of the training cells, and of the columns of ``probabilities``.

    Raises:
        ConfigurationError: an option is out of range.
    """

    needs_data = heeds_priors = True
    pushes: Float[Tensor, "perturbations latent"]
    resting_places: Float[Tensor, "attractors latent"]
    kept_cells: Float[Tensor, "kept latent"]

    def __init__(
        self,
        regulators: str | None = None,
        progenitors: list[str] | None = None,
        n_members: int = 4,
        judging_members: int = 0,
        n_steps: int = 60,
        steps_per_action: int = 10,
        pull: float = 0.1,
        ridge: float = 1.5,
        sharpness: float = 8.0,
        cells_per_component: int = 25,
        effect_scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (
            ("n_members", n_members),
            ("n_steps", n_steps),
            ("steps_per_action", steps_per_action),
            ("cells_per_component", cells_per_component),
            ("sharpness", sharpness),
        ):
            _require(value >= 1, name, value, "at least 1")
        _require(0 < pull < 1, "pull", pull, "a share in (0, 1)")
        _require(ridge >= 0, "ridge", ridge, "0 or more")
        _require(0 <= judging_members < n_members, "judging_members", judging_members, "fewer than n_members")
        self.regulators, self.progenitors = regulators, progenitors
        self.n_members, self.judging_members = n_members, judging_members
        self.n_steps, self.steps_per_action = n_steps, steps_per_action
        self.cells_per_component, self.effect_scale, self.seed = cells_per_component, effect_scale, seed
        self.relaxation_steps = max(1, round(n_steps / steps_per_action))
        self.drift = MixtureDrift(pull, sharpness, ridge)
        self.register_buffer("pushes", torch.empty(0, 0))
        self.register_buffer("resting_places", torch.empty(0, 0))
        self.register_buffer("kept_cells", torch.empty(0, 0))
        self._kept_types: tuple[str, ...] | None = None
        self.evidence: tuple[str, ...] = ()
        self.senses: tuple[int, ...] = ()
        self.cell_types: tuple[str, ...] = ()
        self._attractors: tuple[str, ...] = ()

    # -- fitting -----------------------------------------------------------------------------------------

    def fit(self, cells: EncodedCells, encoder: Encoder) -> Self:
        """Learn the drift from all training cells, the pushes from what is known of perturbations.

        Raises:
            DataError: nothing orders the cells, or they do not move in any way that could be learned.
            ConfigurationError: a progenitor is no cell type, or nothing is known of a perturbation.
        """
        return self.learn(cells, encoder, self.table(cells))

    def table(self, cells: EncodedCells) -> Regulators | None:
        """The table of regulators under the names of the data; ``None`` where there is none.

        Raises:
            DataError: it cannot be read.
        """
        return None if self.regulators is None else read_regulators(self.regulators).renamed(cells.aliases)

    def learn(self, cells: EncodedCells, encoder: Encoder, regulators: Regulators | None) -> Self:
        """``fit`` with a table that was read already."""
        self.encoder = encoder
        self._take_places(encoder.latent_dim)
        self._fit_pushes(cells, encoder, regulators)
        self._fit_drift(cells, encoder.unseen_spread(cells.expression))
        self._keep_some(cells)
        found = find_attractors(self.drift, cells.latent, cells.contexts, self.n_steps, self.seed)
        self._attractors = tuple(attractor.name for attractor in found)
        states = [attractor.state for attractor in found]
        self.set_buffers(resting_places=torch.stack(states) if states else torch.empty(0, self.place_dim))
        return self

    def _keep_some(self, cells: EncodedCells) -> None:
        rows = torch.randperm(len(cells.latent), generator=Generator().manual_seed(self.seed))[:MOST_KEPT]
        some = cells.of_rows(rows)
        self.set_buffers(kept_cells=some.latent)
        self._kept_types = some.contexts

    def _fit_pushes(self, cells: EncodedCells, encoder: Encoder, regulators: Regulators | None) -> None:
        names = dosable(cells, regulators)
        response = _response(cells)
        effects = drift_effects(cells, encoder, names, regulators=regulators, response=response)
        self.set_buffers(pushes=effects.rows)
        self.evidence, self.senses = effects.evidence, effects.senses
        space = PerturbationSpace(effects.names, effects.low.tolist(), 1.0)
        self.perturbations = space.to(self.pushes.device)

    def _fit_drift(self, cells: EncodedCells, unseen: Float[Tensor, " latent"]) -> None:
        order = cells.require_order()
        couplings = couple(cells.latent, order, cells.contexts)
        values, states = order.values.double().numpy(), cells.latent.double().numpy()
        lineages = find_lineages(cells.contexts, values, couplings, self.progenitors)
        steps = lineage_steps(couplings, lineages, values)
        latent = _as_learned_from(states, lineages, order, unseen.double().numpy())
        members = [
            fit_member(
                latent,
                lineages,
                steps,
                couplings,
                pace=float(np.ptp(values)) / self.n_steps,
                cells_per_component=self.cells_per_component,
                bootstrap=self.n_members > 1,
                seed=self.seed + member,
            )
            for member in range(self.n_members)
        ]
        self.drift.assemble(members, lineages.mature)
        self.cell_types = lineages.names

    # -- moving ------------------------------------------------------------------------------------------

    def moved(
        self, place: CellState, dose: Dose, noise: Float[Tensor, "cells steps latent"], member: Members
    ) -> CellState:
        """See ``DisagreeingTwin``; an action is held for ``steps_per_action`` steps."""
        push = dose @ self.pushes * (self.effect_scale / self.steps_per_action)
        return self.drift.advance(place, push, noise, member)

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """Standard normal ``[cells, steps, latent]`` for one transition."""
        shape = (n_cells, self.steps_per_action, self.place_dim)
        return torch.randn(shape, generator=generator, device=self.start_cells.device)

    def attractors(self) -> dict[str, CellState]:
        """Where cells settle, named by the cell type around, largest basin first; each ``[1, latent]``."""
        return {name: state[None] for name, state in zip(self._attractors, self.resting_places, strict=True)}

    def typical_cells(self) -> EncodedCells:
        """See ``DigitalTwin``."""
        states = self.kept_cells
        labels = (CONTROL_LABEL,) * len(states)
        return EncodedCells(states.cpu(), states.new_empty(len(states), 0), labels, (), self._kept_types)

    def probabilities(self, state: CellState, member: int = 0) -> Float[Tensor, "cells types"]:
        """How probable each of ``cell_types`` is at a state, by where training cells are."""
        return self.drift.responsibilities(self.place(state), member) @ self.drift.kinds

    # -- checkpoints -------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """See ``DigitalTwin``."""
        return super().describe() | {
            "cell_types": list(self.cell_types),
            "attractors": list(self._attractors),
            "kept_types": None if self._kept_types is None else list(self._kept_types),
            "steps_per_action": self.steps_per_action,
            "effect_scale": self.effect_scale,
            "drift": [self.drift.pull, self.drift.sharpness, self.drift.ridge],
        }

    def restore(self, description: dict[str, Any]) -> None:
        """See ``DigitalTwin``."""
        super().restore(description)
        self.cell_types = tuple(description["cell_types"])
        self._attractors = tuple(description["attractors"])
        kept = description["kept_types"]
        self._kept_types = None if kept is None else tuple(kept)
        self.steps_per_action, self.effect_scale = (
            description["steps_per_action"],
            description["effect_scale"],
        )
        self.drift.pull, self.drift.sharpness, self.drift.ridge = description["drift"]


def _response(cells: EncodedCells) -> Kriging | None:
    """What perturbed cells, and prior knowledge, tell of perturbations that were not measured."""
    if not cells.perturbations or not len(cells.rows_of(CONTROL_LABEL)):
        return None
    training = TrainingCells(cells.expression, cells.labels, cells.genes, cells.contexts)
    return Kriging(cells.priors).fit(training)


def _as_learned_from(
    states: Points, lineages: Lineages, order: CellOrder, unseen: Float[np.ndarray, " latent"]
) -> Points:
    """Training cells as the drift sees them; by time alone where no types say what belongs together, or rests."""
    if len(lineages.names) > 1 or order.kind != "time":
        return as_unseen(states, lineages.kinds, unseen)
    time_points = np.unique(order.values.numpy(), return_inverse=True)[1]
    return caught_up(as_unseen(states, time_points, unseen), time_points)


def _require(good: bool, name: str, value: float, what: str) -> None:
    if not good:
        raise ConfigurationError(f"the landscape's {name} is {value:g}; give {what}")
