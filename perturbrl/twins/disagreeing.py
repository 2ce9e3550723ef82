"""Twins whose members disagree on where cells go, and that keep an account of it along the way."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.schema import CellState, Dose, Members, PerCell
from perturbrl.twins.base import DigitalTwin


class DisagreeingTwin(DigitalTwin):
    """An ensemble whose states may tell how far its members have disagreed on a cell's way.

    A subclass sets ``place_dim`` in ``fit`` (``_take_places``) and implements ``moved``. Once ``account`` was called, a
    state has one more column: the sum, over all transitions, of the standard deviation of where the members that cells
    live in would take the cell, without noise, from where it was. Errors that add up along the way make it the standard
    deviation of where the cell is; others make it less, so it is an upper bound. A step costs as much as all members
    then.
    """

    place_dim: int = 0
    accounts: bool = False

    def account(self) -> None:
        """See ``DigitalTwin``; one member has nobody to disagree with."""
        self.accounts = len(self.lived_in) > 1
        self.latent_dim = self.place_dim + self.accounts

    def _take_places(self, place_dim: int) -> None:
        self.place_dim, self.latent_dim = place_dim, place_dim + self.accounts

    @abstractmethod
    def moved(
        self, place: CellState, dose: Dose, noise: Float[Tensor, "cells steps latent"], member: Members
    ) -> CellState:
        """Where cells are after a dose was held for an action."""

    def transition(
        self,
        state: CellState,
        dose: Dose,
        noise: Float[Tensor, "cells steps place"],
        member: Members | None = None,
    ) -> CellState:
        """The state after a dose was held for an action (see ``DigitalTwin``)."""
        own = torch.zeros(len(state), dtype=torch.long, device=state.device) if member is None else member
        place = self.place(state)
        moved = self.moved(place, dose, noise, own)
        if not self.accounts:
            return moved
        known = state[:, self.place_dim :] + self._disagreement(place, dose, noise)[:, None]
        return torch.cat((moved, known), dim=1)

    def _disagreement(self, place: CellState, dose: Dose, noise: Tensor) -> PerCell:
        """Standard deviation, as a length, of where members take cells without noise."""
        still = torch.zeros_like(noise)
        ends = [self.moved(place, dose, still, self._all_in(member, place)) for member in self.lived_in]
        return torch.stack(ends).var(0).sum(1).sqrt()

    @staticmethod
    def _all_in(member: int, place: CellState) -> Members:
        return torch.full((len(place),), member, dtype=torch.long, device=place.device)

    def place(self, state: Float[Tensor, "cells _"]) -> CellState:
        """See ``DigitalTwin``."""
        return state[:, : self.place_dim]

    def untouched(self, cells: Float[Tensor, "cells _"]) -> CellState:
        """See ``DigitalTwin``; members have not disagreed on cells that have not moved."""
        if not self.accounts or cells.shape[1] != self.place_dim:
            return cells
        return torch.cat((cells, cells.new_zeros(len(cells), 1)), dim=1)

    def uncertainty(self, state: CellState) -> PerCell | None:
        """See ``DigitalTwin``; told once ``account`` was called on several members."""
        return state[:, self.place_dim] if self.accounts else None

    def describe(self) -> dict[str, Any]:
        """See ``DigitalTwin``."""
        return super().describe() | {
            "place_dim": self.place_dim,
            "accounts": self.accounts,
            "n_members": self.n_members,
            "judging_members": self.judging_members,
            "relaxation_steps": self.relaxation_steps,
            "evidence": list(self.evidence),
            "senses": list(self.senses),
        }

    def restore(self, description: dict[str, Any]) -> None:
        """See ``DigitalTwin``."""
        super().restore(description)
        for name in ("place_dim", "accounts", "n_members", "judging_members", "relaxation_steps"):
            setattr(self, name, description[name])
        self.evidence, self.senses = (tuple(description[name]) for name in ("evidence", "senses"))
