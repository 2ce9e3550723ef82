"""What the twins of a Boolean network have in common: genes, attractors, start cells and doses by gene."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from perturbrl.errors import ConfigurationError, NetworkError
from perturbrl.networks.attractors import name_attractors, named_attractors, steady_states
from perturbrl.networks.boolean_network import BooleanNetwork, load_network
from perturbrl.schema import CellState, Dose, GeneDose
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace


class NetworkTwin(DigitalTwin):
    """A twin whose state is the expression of a network's genes, between 0 (off) and 1 (on).

    Args:
        network: see ``load_network``, or a network made in Python.
        controllable: genes that may be dosed; all by default.
        start: attractor from which episodes start (a cycle contributes all its states); every steady state
            by default.
        discrete: whether actions are one gene up, one gene down or nothing.

    Raises:
        NetworkError: malformed network, unknown gene, or no steady state.
        ConfigurationError: ``start`` is no attractor.
    """

    columns: Int[Tensor, " perturbations"]
    steady_states: CellState

    def __init__(
        self,
        network: str | Path | BooleanNetwork,
        controllable: Sequence[str] | None,
        start: str | None,
        *,
        discrete: bool,
    ) -> None:
        super().__init__()
        self.network = network if isinstance(network, BooleanNetwork) else load_network(network)
        self.latent_dim = len(self.network.genes)
        self.gene_names = tuple(self.network.genes)
        names = tuple(self.network.genes if controllable is None else controllable)
        self.network.clamp(dict.fromkeys(names, 0))
        self.perturbations = PerturbationSpace(names, -1.0, 1.0, discrete=discrete)
        columns = torch.tensor([self.network.genes.index(name) for name in names])
        self.register_buffer("columns", columns, persistent=False)
        self._names, states = self._steady_states()
        self.register_buffer("steady_states", states, persistent=False)
        self.start_from(states if start is None else self._attractor(start))

    def _steady_states(self) -> tuple[tuple[str, ...], CellState]:
        states = steady_states(self.network)
        if not len(states):
            raise NetworkError(self._no_steady_state())
        named = name_attractors(self.network, list(states[:, None]))
        return tuple(named), torch.from_numpy(np.concatenate(list(named.values()))).float()

    def _no_steady_state(self) -> str:
        cycles = named_attractors(self.network)
        listed = ", ".join(f"{name} ({len(states)} states)" for name, states in cycles.items())
        return (
            f"network '{self.network.name}' has no steady state, only cycles: {listed}; clamp an input or "
            "mend a rule in its .bnet file so that cells can come to rest"
        )

    def _attractor(self, name: str) -> CellState:
        found = self.attractors()
        if name in found:
            return found[name]
        cycles = named_attractors(self.network)
        if name not in cycles:
            raise ConfigurationError(
                f"network '{self.network.name}' has no attractor '{name}'; choose one of {', '.join(cycles)}"
            )
        return torch.from_numpy(cycles[name]).float()

    def attractors(self) -> dict[str, CellState]:
        """Named steady states, each ``[1, genes]``."""
        return {name: state[None] for name, state in zip(self._names, self.steady_states, strict=True)}

    def nearest_attractor(self, state: CellState) -> list[str]:
        """The name of each cell's nearest steady state."""
        nearest = torch.cdist(state, self.steady_states).argmin(dim=1)
        return [self._names[i] for i in nearest.tolist()]

    def by_gene(self, dose: Dose) -> GeneDose:
        """The dose in gene columns, 0 where a gene is not controllable.

        Raises:
            ConfigurationError: a dose lies outside [-1, 1].
        """
        if dose.numel() and not bool((dose.abs() <= 1.0).all()):
            raise ConfigurationError(
                f"a dose of {dose.abs().max():g} is outside [-1, 1]; -1 is a knock-out, 1 full expression"
            )
        return dose.new_zeros(dose.shape[0], self.latent_dim).index_copy(1, self.columns, dose)
