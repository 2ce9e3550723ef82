"""The contract of a digital twin: how cells move under perturbation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from perturbrl.data.fitted import FittedModule
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.errors import CheckpointError, ConfigurationError
from perturbrl.rl.private_apis import TakesAlong
from perturbrl.schema import CellState, Dose, Expression, Members, PerCell, Population
from perturbrl.twins.part_effects import PartEffects
from perturbrl.twins.perturbations import PerturbationSpace


class EpisodeCells(NamedTuple):
    """Where episodes start and what they aim at; never cells that judge.

    Attributes:
        start: training cells of the source; a network's cells at rest.
        goal: target cells, which nothing was fitted on.
        reference: those of start that the encoder was not fitted on either, to tell the populations apart by.
        deciding_start: where episodes start that decide whether the policy is used; no row where it is anyway.
        deciding_goal: what these are compared with.
        deciding_units: of each condition that decides, a number; those with the same one are one observation.
        others: cells of populations that are neither start nor goal, and that a cell could be taken for.
    """

    start: CellState
    goal: Population
    reference: Population
    deciding_start: Population
    deciding_goal: Population
    deciding_units: Int[Tensor, " deciding"]
    others: Sequence[Population] = ()


class DigitalTwin(TakesAlong, FittedModule, ABC):
    """How cells move: a batched, stateless simulator of cell states under perturbation.

    A subclass sets ``latent_dim`` and ``perturbations`` (in its constructor or in ``fit``) and implements
    ``transition``. All randomness comes in as ``noise``, so equal arguments give equal results. Rows are cells
    and nothing but cells: neither a row's number nor the rows beside it may matter.

    A state may hold more than where a cell is, such as what it received before. Its ``place`` is what measured
    cells have, too: what tasks look at and what is decoded.

    Attributes:
        perturbations: what may be dosed, in the order of the dose's columns.
        latent_dim: dimensions of a cell state.
        needs_data: whether ``fit`` must see measured cells before the twin can be used.
        heeds_priors: whether ``fit`` learns from prior knowledge (``EncodedCells.priors``).
        n_members: size of the ensemble; every cell lives in one member for an episode.
        is_quick: whether searches that try thousands of schedules take seconds.
        judging_members: how many of these, the last ones, no cell of an episode lives in: designs are judged on them.
        relaxation_steps: transitions without dose after which a cell counts as settled.
        gene_names: names of the columns of ``expression``, where the twin itself knows them.
        remembers: whether what follows depends on the highest dose of each perturbation that a cell received, which
            its state then knows (``received``).
        evidence: what the effect of each perturbation rests on, in one word, where the twin tells.
        senses: of each perturbation 1 where dose 1 raises the gene of its name, -1 where it lowers it, 0 where that is
            not known; none where the twin does not tell.
        start_cells: ``[cells, latent]`` states from which episodes start.
        encoder: what turned cells into states, where states come from cells. Whoever fits or restores the twin
            sets it. It moves with the twin and is no part of its state dict, since the data module saves it.
    """

    perturbations: PerturbationSpace
    latent_dim: int
    needs_data: bool = False
    heeds_priors: bool = False
    n_members: int = 1
    is_quick: bool = False
    judging_members: int = 0
    relaxation_steps: int = 0
    gene_names: Sequence[str] = ()
    remembers: bool = False
    evidence: Sequence[str] = ()
    senses: Sequence[int] = ()
    start_cells: CellState
    encoder: Encoder | None = None
    _lived_in: range | None = None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("start_cells", torch.empty(0, 0))

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; an encoder stays an object of its owner's and becomes no submodule."""
        if isinstance(value, Encoder):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def companion(self) -> Encoder | None:
        """The encoder, which moves with the twin."""
        return self.encoder

    @abstractmethod
    def transition(self, state: CellState, dose: Dose, noise: Tensor) -> CellState:
        """The cells' next state under ``dose``. Others call ``next_state``.

        A twin of several members takes a fourth argument, ``member``: ``[cells]``, whole numbers below
        ``n_members``, the member that each cell lives in.

        Args:
            state: ``[cells, latent]``.
            dose: ``[cells, perturbations]``, already inside the dose range; of discrete actions, one perturbation
                per cell at most.
            noise: what ``draw_noise`` returned for these cells.
        """

    def next_state(self, state: CellState, dose: Dose, noise: Tensor, member: Members) -> Tensor:
        """``transition`` as everybody calls it, with the cells' members, so that nobody can forget them."""
        move: Callable[..., Tensor] = self.transition
        return move(state, dose, noise) if self.n_members == 1 else move(state, dose, noise, member)

    @property
    def lived_in(self) -> range:
        """Members that cells may live in."""
        return self._lived_in or range(self.n_members - self.judging_members)

    def draw_members(self, n_cells: int, generator: Generator | None = None) -> Members:
        """The member that each of ``n_cells`` lives in: all that may be about equally often, in random order."""
        device, lived_in = self.start_cells.device, self.lived_in
        if len(lived_in) == 1:
            return torch.full((n_cells,), lived_in.start, dtype=torch.long, device=device)
        first = torch.randint(len(lived_in), (1,), generator=generator, device=device)
        drawn = torch.randperm(n_cells, generator=generator, device=device) + first
        return drawn % len(lived_in) + lived_in.start

    def in_judging_members(self) -> Self:
        """The same twin, whose cells live in the members that episodes were kept out of.

        Raises:
            ConfigurationError: none were.
        """
        if self.judging_members < 1:
            raise ConfigurationError(
                f"{type(self).__name__} keeps no member to judge by; give judging_members"
            )
        other = copy(self)
        other._lived_in = range(self.n_members - self.judging_members, self.n_members)
        return other

    def fit(self, cells: EncodedCells, encoder: Encoder) -> Self:
        """Learn from training cells; a twin that brings its own dynamics has nothing to learn.

        A subclass fills the buffers that its constructor registered (``set_buffers``), and sets ``latent_dim``
        and ``perturbations``: these three are what a checkpoint brings back.
        """
        return self

    def remember(self, n_perturbations: int) -> None:
        """Be told of how many perturbations per cell a state must know what was received, before start cells are given.

        Nothing is to be done where what a cell received does not matter beyond where it is.
        """
        return

    def account(self) -> None:
        """Be told that states must tell their ``uncertainty``, before start cells are given.

        Nothing is to be done where they do anyway, or where the twin cannot tell.
        """
        return

    def place(self, state: Float[Tensor, "cells _"]) -> CellState:
        """Where cells are; of a place the same."""
        return state

    def untouched(self, cells: Float[Tensor, "cells _"]) -> CellState:
        """States of cells at these places that have received nothing; of states the same."""
        return cells

    def received(self, state: CellState) -> Dose:
        """The highest dose of each perturbation that cells received, where ``remembers`` says that states know it."""
        return state.new_zeros(len(state), self.perturbations.n_perturbations)

    def uncertainty(self, state: CellState) -> PerCell | None:
        """Standard deviation of where cells are, as a length; ``None`` where the twin does not tell."""
        return None

    def episodes(self) -> EpisodeCells | None:
        """Start and goal of episodes, where ``fit`` decides them; ``None`` leaves them to a source and a target."""
        return None

    def describe(self) -> dict[str, Any]:
        """What a checkpoint must say, beside the tensors, to rebuild this twin; plain values only."""
        return {
            "latent_dim": self.latent_dim,
            "names": [str(name) for name in self.perturbations.names],
            "low": self.perturbations.low.tolist(),
            "high": self.perturbations.high.tolist(),
            "discrete": self.perturbations.discrete,
            "measured_doses": [list(doses) for doses in self.perturbations.measured_doses],
        }

    def restore(self, description: dict[str, Any]) -> None:
        """Take over what ``describe`` said; the tensors follow with the state dict.

        Raises:
            CheckpointError: a twin that brings its own dynamics is not the one of the checkpoint.
        """
        if not self.needs_data and description["names"] != list(self.perturbations.names):
            raise CheckpointError(
                f"the checkpoint's twin doses {description['names'][:6]}, this one "
                f"{list(self.perturbations.names)[:6]}; use the configuration the checkpoint was made with"
            )
        self.latent_dim = description["latent_dim"]
        if self.needs_data:
            self.perturbations = PerturbationSpace(
                description["names"],
                description["low"],
                description["high"],
                discrete=description["discrete"],
                measured_doses=description["measured_doses"],
            )

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """Randomness for one transition of ``n_cells``: rows belong to cells; standard normal by default."""
        return torch.randn(n_cells, self.latent_dim, generator=generator, device=self.start_cells.device)

    def start_from(self, cells: Float[Tensor, "cells _"]) -> None:
        """Let episodes start from ``cells``, places or states, drawn with replacement.

        Raises:
            ConfigurationError: there is no cell, or the states are not those of this twin, or not finite.
        """
        cells = self.untouched(cells)
        width = getattr(self, "latent_dim", cells.shape[-1])
        if cells.ndim != 2 or cells.shape[0] == 0 or cells.shape[1] != width:
            raise ConfigurationError(
                f"cannot start from cells of shape {tuple(cells.shape)}; give at least one row of {width} latent "
                "dimensions"
            )
        if not bool(cells.isfinite().all()):
            raise ConfigurationError(
                f"{int((~cells.isfinite()).any(1).sum())} of {len(cells)} start cells have values that are not "
                "finite; mend or remove them"
            )
        self.set_buffers(start_cells=cells)

    def initial_state(self, n_cells: int, generator: Generator | None = None) -> CellState:
        """States of ``n_cells`` drawn from ``start_cells``.

        Raises:
            ConfigurationError: nobody has said where cells start.
        """
        if self.start_cells.shape[0] == 0:
            raise ConfigurationError(
                f"{type(self).__name__} has no start cells; call start_from with at least one latent state"
            )
        rows = torch.randint(
            self.start_cells.shape[0], (n_cells,), generator=generator, device=self.start_cells.device
        )
        return self.start_cells[rows]

    def expression(self, state: CellState) -> Expression:
        """Expression of the genes: as the encoder decodes states; the states themselves where there is none."""
        place = self.place(state)
        return place if self.encoder is None else self.encoder.decode(place)

    def linear_effects(self) -> Float[Tensor, "perturbations latent"] | None:
        """Shift of every cell per unit of dose, one row per perturbation; ``None`` where a step is not linear.

        A twin whose step is z' = z + dose @ rows (+ noise of mean 0) returns the rows: the best dose in a box is
        then known in closed form, and designs are measured against it.
        """
        return None

    def typical_cells(self) -> EncodedCells | None:
        """Some of the cells that the twin was learned from, to draw and to tell types by; ``None`` where it keeps none.

        They have places and types (contexts) and no expression.
        """
        return None

    def part_effects(self, n_parts: int) -> PartEffects | None:
        """What each perturbation does as one of ``n_parts`` given together; ``None`` where that is no sum of parts.

        It chooses which of millions of combinations are tried on the twin, so it need not be exact.
        """
        return None

    def narrowed(self, columns: Int[Tensor, " some"]) -> Self:
        """The same twin without all perturbations but these, in this order; itself where it cannot be made smaller.

        Searches try thousands of designs of a few perturbations each, in which thousands of columns would be 0.
        """
        return self

    def _copied(self) -> Self:
        """A copy whose buffers and modules can be set without touching those of this twin."""
        other = copy(self)
        other._buffers, other._modules = dict(self._buffers), dict(self._modules)
        return other

    def attractors(self) -> dict[str, CellState]:
        """Named stable states, each ``[1, latent]``; none unless the twin knows its landscape."""
        return {}


def relax(twin: DigitalTwin, state: CellState, member: Members, generator: Generator) -> CellState:
    """The cells' state after they were left alone until they count as settled."""
    no_dose = state.new_zeros(len(state), twin.perturbations.n_perturbations)
    for _ in range(twin.relaxation_steps):
        state = twin.next_state(state, no_dose, twin.draw_noise(len(state), generator), member)
    return state
