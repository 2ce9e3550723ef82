"""The asynchronous Boolean dynamics as a twin: exact where differential equations are an approximation."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from perturbrl.errors import ConfigurationError
from perturbrl.networks.boolean_network import BooleanNetwork
from perturbrl.schema import CellState, Dose
from perturbrl.twins.network_twin import NetworkTwin
from perturbrl.twins.splitmix import random_bits, shifted

GeneBits = Bool[Tensor, "genes cells"]
Seeds = Int[Tensor, " cells"]

DEFAULT_MAX_SWEEPS: Final = 100
_RELEASE: Final = 0x5851F42D4C957F2D  # turns a cell's seed into that of its second stream
_UNIFORM_BITS: Final = 24


class BooleanNetworkTwin(NetworkTwin):
    """A network whose genes are updated one at a time, the next one drawn uniformly.

    One transition is one macro action: dosed genes are clamped (on for a dose above 0, off below) until the
    network has settled, then released until it has settled again. A cell has settled when no gene disagrees
    with its rule; one that circles in a cyclic attractor is stopped after ``max_sweeps`` times ``n_genes``
    updates, at a state the uniform dynamics would be in then. Outcome probabilities are those of
    ``macro_mdp``, whose dynamic programme is therefore the optimum on this twin.

    Args:
        network: name of a shipped network, a trap ladder, or the path of a ``.bnet`` file.
        controllable: genes that may be clamped; all by default.
        start: attractor from which episodes start (a cycle contributes all its states); every steady state by
            default.
        max_sweeps: length of a clamp, and of the time after it, in updates per gene.

    Raises:
        NetworkError: malformed network, unknown gene, or no steady state.
        ConfigurationError: ``start`` is no attractor, or ``max_sweeps`` is below 1.
    """

    relaxation_steps = 0

    def __init__(
        self,
        network: str | Path | BooleanNetwork = "krumsiek11",
        controllable: Sequence[str] | None = None,
        start: str | None = None,
        *,
        max_sweeps: int = DEFAULT_MAX_SWEEPS,
    ) -> None:
        super().__init__(network, controllable, start, discrete=True)
        if max_sweeps < 1:
            raise ConfigurationError(f"max_sweeps is {max_sweeps}; give at least 1")
        self.max_updates = max_sweeps * self.latent_dim
        self.rules = RuleTables(self.network)

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """``[cells, 1]`` integers, each the seed of one cell's updates during one transition."""
        bounds = (-(2**63), 2**63 - 1)
        return torch.randint(*bounds, (n_cells, 1), generator=generator, device=self.start_cells.device)

    def transition(self, state: CellState, dose: Dose, noise: Int[Tensor, "cells 1"]) -> CellState:
        """The state after the clamp has settled and its release has settled."""
        push = self.by_gene(dose).T
        held = push != 0
        bits = torch.where(held, push > 0, state.T > 0.5)
        self._settle_(bits, held, noise[:, 0])
        self._settle_(bits, torch.zeros_like(held), noise[:, 0] ^ _RELEASE)
        return bits.T.to(state.dtype)

    def _settle_(self, bits: GeneBits, held: GeneBits, seeds: Seeds) -> None:
        """Update the genes of every cell in place until nothing changes any more."""
        cells = torch.arange(bits.shape[1], device=bits.device)
        clock = torch.zeros(bits.shape[1], device=bits.device)
        for draw in count():
            present = bits[:, cells]
            unstable = (self.rules.image(present) != present) & ~held[:, cells]
            waiting, choice = uniform_pair(seeds[cells], draw)
            n_unstable = unstable.sum(dim=0)
            clock = clock + self._updates_until_change(n_unstable, waiting)
            going = (n_unstable > 0) & (clock <= self.max_updates)
            cells, clock, unstable = cells[going], clock[going], unstable[:, going]
            if not len(cells):
                return
            rank = (choice[going] * n_unstable[going]).floor()
            gene = (unstable.cumsum(dim=0) > rank).int().argmax(dim=0)
            bits[gene, cells] ^= True

    def _updates_until_change(
        self, n_unstable: Int[Tensor, " cells"], uniform: Float[Tensor, " cells"]
    ) -> Float[Tensor, " cells"]:
        # Updates that change nothing are not simulated: their number is geometric.
        share = n_unstable.clamp(min=1) / self.latent_dim
        missed = (1.0 - uniform).log() / (1.0 - share).log()
        return 1.0 + missed.floor()


class RuleTables(nn.Module):
    """All rules of a network as one look-up: gather regulators, add their weights, read the table."""

    regulators: Int[Tensor, "width genes"]
    weights: Int[Tensor, "width genes 1"]
    offsets: Int[Tensor, "genes 1"]
    table: Bool[Tensor, " entries"]

    def __init__(self, network: BooleanNetwork) -> None:
        super().__init__()
        rules = list(network.rules.values())
        width = max(1, *(len(rule.regulators) for rule in rules))
        regulators = torch.zeros(width, len(rules), dtype=torch.long)
        weights = torch.zeros(width, len(rules), 1, dtype=torch.int32)
        for gene, rule in enumerate(rules):
            for j, name in enumerate(rule.regulators):
                regulators[j, gene], weights[j, gene] = network.genes.index(name), 2**j
        tables = [torch.from_numpy(rule.truth_table) for rule in rules]
        offsets = torch.tensor([0, *(len(table) for table in tables)], dtype=torch.int32).cumsum(0)[:-1]
        self.register_buffer("regulators", regulators, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("offsets", offsets[:, None].int(), persistent=False)
        self.register_buffer("table", torch.cat(tables), persistent=False)

    def image(self, bits: GeneBits) -> GeneBits:
        """The value of every gene's rule."""
        numbers = bits.int()
        index = self.offsets.expand_as(numbers)
        for regulators, weights in zip(self.regulators, self.weights, strict=True):
            index = index.addcmul(numbers.index_select(0, regulators), weights)
        return self.table[index.long()]


def uniform_pair(seeds: Seeds, draw: int) -> tuple[Float[Tensor, " cells"], Float[Tensor, " cells"]]:
    """Two uniform numbers in [0, 1) per seed, from the ``draw``-th number of its stream."""
    bits, span = random_bits(seeds, draw), 2**_UNIFORM_BITS
    return shifted(bits, 64 - _UNIFORM_BITS) / span, (bits & (span - 1)) / span
