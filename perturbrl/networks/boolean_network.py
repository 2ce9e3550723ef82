"""Boolean networks, and the explicit space of their states.

States are ``[states, genes]`` arrays of 0 and 1 in the network's gene order, or integer codes whose bit i is
the i-th gene that can change at all. Dynamics are asynchronous: one gene at a time takes its rule's value.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from perturbrl.errors import NetworkError, listed
from perturbrl.networks.bnet import BoolArray, Rule, parse_bnet

States = NDArray[np.uint8]
Codes = NDArray[np.int64]

MAX_EXPLICIT_GENES: Final = 20
MAX_CODE_GENES: Final = 62
_SHIPPED: Final = Path(__file__).parent / "files"
_LADDER: Final = re.compile(r"synthetic_trap_ladder_L(\d+)_m(\d+)$")


@dataclass(frozen=True)
class BooleanNetwork:
    """Genes with one Boolean rule each.

    Attributes:
        name: how errors and reports call it.
        rules: rule of each gene; the keys are the gene order.
        markers: functions that name attractors, see ``bnet``.
    """

    name: str
    rules: dict[str, Rule]
    markers: dict[str, Rule] = field(default_factory=dict)

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """Gene names in state order."""
        return tuple(self.rules)

    def clamp(self, values: Mapping[str, int]) -> "BooleanNetwork":
        """The network with some genes held at 0 (knock-out) or 1 (over-expression) for ever.

        Raises:
            NetworkError: an unknown gene, or a value other than 0 and 1.
        """
        for gene, value in values.items():
            if gene not in self.rules:
                raise NetworkError(
                    f"network '{self.name}' has no gene '{gene}'; its genes are {listed(self.genes, 12)}"
                )
            if value not in (0, 1):
                raise NetworkError(f"gene '{gene}' cannot be clamped to {value}; use 0 or 1")
        held = {gene: Rule((str(int(value)),), ()) for gene, value in values.items()}
        return BooleanNetwork(self.name, {**self.rules, **held}, self.markers)

    def state(self, values: Mapping[str, int]) -> States:
        """``[genes]`` with the given values, 0 for genes not named."""
        self.clamp(values)
        return np.array([values.get(gene, 0) for gene in self.genes], dtype=np.uint8)

    def matches(self, marker: Rule, states: States) -> BoolArray:
        """``[states]``: where a function of the genes holds."""
        columns = {gene: states[:, self.genes.index(gene)].astype(bool) for gene in marker.regulators}
        return np.broadcast_to(marker.evaluate(columns), states.shape[:1])


def load_network(network: str | Path) -> BooleanNetwork:
    """A shipped network by name, a trap ladder ``synthetic_trap_ladder_L<L>_m<m>``, or a ``.bnet`` file.

    Raises:
        NetworkError: there is no such network, or the file is malformed.
    """
    name = str(network)
    path = Path(network) if name.endswith(".bnet") else _SHIPPED / f"{name}.bnet"
    if path.is_file():
        parsed = parse_bnet(_read(path), path.name)
        return BooleanNetwork(path.stem, parsed.rules, parsed.markers)
    ladder = _LADDER.fullmatch(name)
    if ladder:
        return trap_ladder(int(ladder[1]), int(ladder[2]))
    raise NetworkError(
        f"there is no network '{name}'; give the path of a .bnet file or one of "
        f"{', '.join(shipped_networks())}"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise NetworkError(f"{path} is not a text file (byte {error.start}); give a .bnet file") from error


def shipped_networks() -> tuple[str, ...]:
    """Names that ``load_network`` knows."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.bnet")))


def trap_ladder_text(rungs: int, readouts: int) -> str:
    """TL(L, m) in ``.bnet`` syntax: a landscape whose optimum is known, with a nearer wrong attractor.

    Climbing from ``source_A`` to ``target_B`` takes the ``L = rungs`` actions +c1, ..., +cL in this order,
    and every rung but the last leads away from the target in Hamming distance. The decoy +d leads towards it,
    into ``trap_D``, where half of the ``m = readouts`` genes look like the target's and the ladder is off.
    """
    if rungs < 2 or readouts < 2:
        raise NetworkError(
            f"a trap ladder needs at least 2 rungs and 2 read-outs, not {rungs} and {readouts}"
        )
    c = [f"c{i}" for i in range(1, rungs + 1)]
    q = [f"q{j}" for j in range(1, readouts + 1)]
    every = [*c, "p", "d", *q]
    markers = {"source_A": " & ".join(f"!{gene}" for gene in every)}
    markers |= {f"rung_{i}": f"{c[i - 1]} & !{c[i]}" for i in range(1, rungs)}
    markers |= {"trap_D": "d", "target_B": "p"}
    rules = {gene: f"{gene} & !p & !d" + (f" & {c[i - 1]}" if i else "") for i, gene in enumerate(c)}
    rules |= {"p": f"p | ({c[-1]} & {c[-2]})", "d": "d & !p"}
    rules |= {gene: "p | d" if j < readouts // 2 else "p" for j, gene in enumerate(q)}
    lines = [f"# Trap ladder TL({rungs}, {readouts}): a constructed landscape with one deceptive basin."]
    lines += [f"# @attractor {name}: {marker}" for name, marker in markers.items()]
    return "\n".join([*lines, "targets, factors", *(f"{g}, {rule}" for g, rule in rules.items())]) + "\n"


def trap_ladder(rungs: int, readouts: int) -> BooleanNetwork:
    """The network of ``trap_ladder_text``."""
    parsed = parse_bnet(trap_ladder_text(rungs, readouts), "trap ladder")
    return BooleanNetwork(f"synthetic_trap_ladder_L{rungs}_m{readouts}", parsed.rules, parsed.markers)


class StateSpace:
    """The states a network can be in, coded over the genes that can change.

    Genes with a constant rule are left out of the code if every state of ``start`` already agrees with them;
    without ``start``, always. Attractors never differ from the space of all genes.

    Args:
        network: clamped or free.
        start: ``[states, genes]`` that must be representable.

    Raises:
        NetworkError: more than ``MAX_CODE_GENES`` genes can change.
    """

    def __init__(self, network: BooleanNetwork, start: States | None = None) -> None:
        self.network = network
        constant = {
            i: int(rule.truth_table[0])
            for i, rule in enumerate(network.rules.values())
            if not rule.regulators and (start is None or bool((start[:, i] == rule.truth_table[0]).all()))
        }
        self.free = np.array([i for i in range(len(network.genes)) if i not in constant], dtype=np.int64)
        if len(self.free) > MAX_CODE_GENES:
            raise NetworkError(
                f"network '{network.name}' has {len(self.free)} genes that can change, too many to enumerate "
                f"(limit {MAX_CODE_GENES}); clamp some of them"
            )
        self._base = np.zeros(len(network.genes), dtype=np.uint8)
        self._base[list(constant)] = list(constant.values())
        self._functions = [self._function(network.genes[i]) for i in self.free]

    def _function(self, gene: str) -> tuple[list[int], BoolArray]:
        """Bit positions of the changing regulators, and the truth table over them."""
        rule, genes = self.network.rules[gene], self.network.genes
        position = {genes[i]: bit for bit, i in enumerate(self.free)}
        table = rule.truth_table.reshape((2,) * len(rule.regulators))
        # Axis 0 belongs to the last regulator: bit j of a truth table's index is regulator j.
        index = tuple(
            slice(None) if name in position else int(self._base[genes.index(name)])
            for name in reversed(rule.regulators)
        )
        return [position[name] for name in rule.regulators if name in position], table[index].reshape(-1)

    @property
    def n_bits(self) -> int:
        """Number of genes that can change."""
        return len(self.free)

    @cached_property
    def codes(self) -> Codes:
        """Every state; only for spaces of up to ``MAX_EXPLICIT_GENES`` bits."""
        return np.arange(2**self.n_bits, dtype=np.int64)

    @cached_property
    def images(self) -> Codes:
        """The image of every state."""
        return self.image(self.codes)

    def image(self, codes: Codes) -> Codes:
        """The state in which every gene has the value of its rule (the synchronous successor)."""
        following = np.zeros_like(codes)
        for bit, (positions, table) in enumerate(self._functions):
            index = np.zeros_like(codes)
            for j, position in enumerate(positions):
                index |= (codes >> position & 1) << j
            following |= table[index].astype(np.int64) << bit
        return following

    def successors(self, codes: Codes) -> Codes:
        """``[states, bits]``: the state after each gene's update, the same where nothing changes."""
        bits = np.int64(1) << np.arange(self.n_bits, dtype=np.int64)
        return codes[:, None] ^ ((codes ^ self.image(codes))[:, None] & bits)

    def expand(self, codes: Codes) -> States:
        """``[states, genes]`` of the codes."""
        states = np.repeat(self._base[None], len(codes), axis=0)
        states[:, self.free] = codes[:, None] >> np.arange(self.n_bits) & 1
        return states

    def compress(self, states: States) -> Codes:
        """Codes of ``[states, genes]``; genes outside the code are ignored."""
        bits = np.int64(1) << np.arange(self.n_bits, dtype=np.int64)
        return states[:, self.free].astype(np.int64) @ bits
