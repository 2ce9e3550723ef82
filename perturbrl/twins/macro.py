"""A Boolean network's macro actions read from a table of exact outcome probabilities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from perturbrl.errors import ConfigurationError
from perturbrl.networks.attractors import named_attractors
from perturbrl.networks.boolean_network import BooleanNetwork, States
from perturbrl.networks.macro_mdp import FloatArray, StateDistribution, clamp_and_release, one_gene_clamps
from perturbrl.schema import CellState, Dose
from perturbrl.twins.network_twin import NetworkTwin


class MacroTwin(NetworkTwin):
    """``BooleanNetworkTwin`` without its simulation: one draw per transition from the exact outcome.

    Equal in distribution to ``BooleanNetworkTwin`` where a clamp and its release have the time to settle, and
    several times faster, since nothing is simulated; made for studies with many runs. Cells live in the states
    of attractors, so an episode can start nowhere else. The table is made once, by the absorbing Markov chains
    of ``clamp_and_release``: seconds for ten genes, minutes for twenty.

    Args:
        network: name of a shipped network, a trap ladder, or the path of a ``.bnet`` file.
        controllable: genes that may be clamped; all by default.
        start: attractor from which episodes start; every steady state by default.

    Attributes:
        states: ``[states, genes]`` all states of all attractors.
        outcome: ``[states, actions, states]`` exact probabilities of every action's outcome.
        node: ``[states]`` the attractor of each state, in the order of ``named_attractors``.

    Raises:
        NetworkError: malformed network, unknown gene, or no steady state.
        ConfigurationError: ``start`` is no attractor.
    """

    relaxation_steps = 0

    powers: Int[Tensor, " genes"]
    codes: Int[Tensor, " states"]
    states: Float[Tensor, "states genes"]
    node: Int[Tensor, " states"]
    outcome: Float[Tensor, "states actions states"]
    cumulative: Float[Tensor, "states actions states"]

    def __init__(
        self,
        network: str | Path | BooleanNetwork = "krumsiek11",
        controllable: Sequence[str] | None = None,
        start: str | None = None,
    ) -> None:
        super().__init__(network, controllable, start, discrete=True)
        found = list(named_attractors(self.network).values())
        states = np.concatenate(found)
        node = torch.from_numpy(np.repeat(np.arange(len(found)), [len(part) for part in found]))
        powers = 2 ** torch.arange(self.latent_dim)
        codes, order = (torch.from_numpy(states).long() @ powers).sort()
        states = states[order.numpy()]
        outcome = torch.from_numpy(_outcomes(self.network, self.perturbations.names, states))
        edges = outcome.cumsum(-1)
        self.register_buffer("powers", powers, persistent=False)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("node", node[order], persistent=False)
        self.register_buffer("states", torch.from_numpy(states).float(), persistent=False)
        self.register_buffer("outcome", outcome.float(), persistent=False)
        self.register_buffer("cumulative", (edges / edges[..., -1:]).float(), persistent=False)

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """``[cells, 1]`` uniform numbers that pick the outcome."""
        return torch.rand(n_cells, 1, generator=generator, device=self.start_cells.device)

    def transition(self, state: CellState, dose: Dose, noise: Float[Tensor, "cells 1"]) -> CellState:
        """The state after the clamp has settled and its release has settled.

        Raises:
            ConfigurationError: a state is in no attractor, or more than one gene is dosed.
        """
        edges = self.cumulative[self.rows(state), self._action(dose)]
        return self.states[(noise >= edges).sum(-1).clamp_max(len(self.codes) - 1)]

    def rows(self, state: CellState) -> Int[Tensor, " cells"]:
        """The number of each cell's state in ``states``.

        Raises:
            ConfigurationError: a state is in no attractor.
        """
        code = (state > 0.5).long() @ self.powers
        row = torch.searchsorted(self.codes, code).clamp_max(len(self.codes) - 1)
        lost = int((self.codes[row] != code).sum())
        if lost:
            raise ConfigurationError(
                f"{lost} of {len(state)} cells are in no attractor of '{self.network.name}', where this twin knows "
                "nothing; start from attractors, or use BooleanNetworkTwin"
            )
        return row

    def _action(self, dose: Dose) -> Int[Tensor, " cells"]:
        given = dose != 0
        most = int(given.sum(-1).max()) if len(dose) else 0
        if most > 1:
            raise ConfigurationError(
                f"{most} genes are dosed at once, this twin knows one at a time; use BooleanNetworkTwin"
            )
        number = given.int().argmax(-1) + 1
        down = (dose < 0).any(-1) * dose.shape[1]
        return (number + down) * given.any(-1)


def _outcomes(network: BooleanNetwork, genes: Sequence[str], states: States) -> FloatArray:
    clamps = one_gene_clamps(genes)
    place = {state.tobytes(): i for i, state in enumerate(states)}
    table = np.zeros((len(states), len(clamps), len(states)))
    for i, state in enumerate(states):
        for j, clamp in enumerate(clamps):
            end = clamp_and_release(network, StateDistribution(state[None], np.ones(1)), clamp)
            table[i, j, [place[s.tobytes()] for s in end.states]] = end.probabilities
    return table
