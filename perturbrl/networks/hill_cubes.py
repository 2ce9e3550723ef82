"""Normalised HillCubes: Boolean rules as smooth functions, evaluated for many cells at once.

Wittmann et al. 2009 (BMC Syst. Biol. 3:98) interpolate a rule's truth table multi-affinely between the
corners of the unit cube and feed it Hill functions normalised to reach 1 at 1, so that Boolean steady states
stay fixed points. The interpolation is the probability that the rule is true for independent inputs; it is
evaluated here along the rule's binary decision diagram, one linear interpolation per node, which is exact for
any number of regulators and shares what rules have in common.
"""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from perturbrl.networks.bnet import BoolArray
from perturbrl.networks.boolean_network import BooleanNetwork

GeneRows = Float[Tensor, "genes cells"]
Workspace = Float[Tensor, "rows cells"]

# Measured on 10 to 1,000 genes: with few rows, one call per node and long rows is fastest; with many, one
# call per level and a workspace that fits into a core's second-level cache.
MAX_ROWS_BY_NODE: Final = 512
VALUES_BY_NODE: Final = 2**20
VALUES_BY_LEVEL: Final = 2**18
VALUES_ON_GPU: Final = 2**27
MIN_CHUNK: Final = 128


def hill_(activity: GeneRows, n: Tensor | float, k: Tensor | float, scratch: GeneRows) -> None:
    """Replace expression x in [0, 1] by ``(1 + k^n) x^n / (x^n + k^n)``; 0 and 1 stay where they are."""
    threshold = k**n
    activity.pow_(n)
    torch.add(activity, threshold, out=scratch)
    activity.div_(scratch).mul_(1.0 + threshold)


class HillCubes(nn.Module):
    """The rules of a network, compiled once into levels of decision-diagram nodes.

    A workspace has one row per value: 0, 1, every gene's activity, its complement, then the nodes, those
    that need no other node first.
    """

    roots: Int[Tensor, " genes"]

    def __init__(self, network: BooleanNetwork) -> None:
        super().__init__()
        self.n_genes = len(network.genes)
        diagram = _Diagram(network)
        rows = {node: node for node in range(2 + 2 * self.n_genes)}
        self._levels: list[tuple[slice, str]] = []
        for depth, nodes in enumerate(diagram.levels(), start=1):
            first = len(rows)
            rows |= {node: first + i for i, node in enumerate(nodes)}
            branches = np.array([diagram.branches[node - diagram.first] for node in nodes])
            columns = (2 + branches[:, 0], *(np.vectorize(rows.__getitem__)(branches[:, j]) for j in (1, 2)))
            self.register_buffer(f"level_{depth}", torch.from_numpy(np.stack(columns)), persistent=False)
            self._levels.append((slice(first, first + len(nodes)), f"level_{depth}"))
        self.n_rows = len(rows)
        self._nodes = [
            (rows.start + i, *node)
            for rows, name in self._levels
            for i, node in enumerate(self.get_buffer(name).T.tolist())
        ]
        self.register_buffer("roots", torch.tensor([rows[root] for root in diagram.roots]), persistent=False)

    def chunk_size(self, device: torch.device) -> int:
        """How many cells to work on at a time."""
        by_node = self.n_rows <= MAX_ROWS_BY_NODE
        values = VALUES_ON_GPU if device.type != "cpu" else VALUES_BY_NODE if by_node else VALUES_BY_LEVEL
        return max(MIN_CHUNK, 2 ** ((values // self.n_rows).bit_length() - 1))

    def workspace(self, n_cells: int, device: torch.device | None = None) -> Workspace:
        """An empty workspace; ``activity_of`` its rows are to be filled before ``production``."""
        space = torch.zeros(self.n_rows, n_cells, device=device)
        space[1] = 1.0
        return space

    def activity_of(self, workspace: Workspace) -> GeneRows:
        """The rows that hold the genes' activities (a view)."""
        return workspace[2 : 2 + self.n_genes]

    def production(self, workspace: Workspace, out: GeneRows) -> GeneRows:
        """Write every rule's multi-affine value at the workspace's activities into ``out``."""
        genes = self.n_genes
        torch.sub(1.0, workspace[2 : 2 + genes], out=workspace[2 + genes : 2 + 2 * genes])
        if self.n_rows <= MAX_ROWS_BY_NODE:
            rows = workspace.unbind(0)
            for node, gene, low, high in self._nodes:
                torch.lerp(rows[low], rows[high], rows[gene], out=rows[node])
        else:
            self._by_level(workspace)
        return torch.index_select(workspace, 0, self.roots, out=out)

    def _by_level(self, workspace: Workspace) -> None:
        for rows, name in self._levels:
            gene, low, high = (workspace.index_select(0, index) for index in self.get_buffer(name))
            torch.lerp(low, high, gene, out=workspace[rows])

    def value_at(self, activity: GeneRows) -> GeneRows:
        """The rules' multi-affine values at ``activity``, without a workspace of the caller's."""
        workspace = self.workspace(activity.shape[1], activity.device)
        self.activity_of(workspace).copy_(activity)
        return self.production(workspace, torch.empty_like(activity))


class _Diagram:
    """Reduced ordered binary decision diagrams of all rules, with shared nodes.

    Node 0 is false, 1 is true, ``2 + g`` is gene g, ``2 + n + g`` its negation; nodes from ``first`` on are
    ``branches[node - first] = (gene, node if the gene is 0, node if it is 1)``.
    """

    def __init__(self, network: BooleanNetwork) -> None:
        self._index = {gene: i for i, gene in enumerate(network.genes)}
        self.first = 2 + 2 * len(self._index)
        self.branches: list[tuple[int, int, int]] = []
        self._known: dict[tuple[int, int, int], int] = {}
        self.roots = [
            self._build([self._index[name] for name in rule.regulators], rule.truth_table)
            for rule in network.rules.values()
        ]

    def _build(self, regulators: list[int], table: BoolArray) -> int:
        if (table == table[0]).all():
            return int(table[0])
        half = len(table) // 2
        low = self._build(regulators[:-1], table[:half])
        high = self._build(regulators[:-1], table[half:])
        return self._node(regulators[-1], low, high)

    def _node(self, gene: int, low: int, high: int) -> int:
        if low == high:
            return low
        if (low, high) in ((0, 1), (1, 0)):
            return 2 + gene if high else 2 + len(self._index) + gene
        key = (gene, low, high)
        if key not in self._known:
            self._known[key] = self.first + len(self.branches)
            self.branches.append(key)
        return self._known[key]

    def levels(self) -> list[list[int]]:
        """Nodes grouped so that each needs only nodes of earlier groups."""
        height = [0] * self.first
        levels: list[list[int]] = []
        for node, (_, low, high) in enumerate(self.branches, start=self.first):
            height.append(1 + max(height[low], height[high]))
            levels.extend([] for _ in range(height[-1] - len(levels)))
            levels[height[-1] - 1].append(node)
        return levels
