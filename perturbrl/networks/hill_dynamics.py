"""Stochastic differential equations of a Boolean network's HillCubes, integrated for many cells at once."""

from collections.abc import Callable, Iterator
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perturbrl.errors import ConfigurationError
from perturbrl.networks.hill_cubes import GeneRows, HillCubes, Workspace, hill_
from perturbrl.schema import CellState, GeneDose, Members

MemberParameter = Float[Tensor, "members genes"]
Jacobians = Float[Tensor, "members states genes genes"]
NoiseSource = Callable[[slice, int], GeneRows]


class HillDynamics(nn.Module):
    """dx = (f(x, u) - x) / tau dt + noise dW for every gene, by Euler-Maruyama.

    f is the rule's normalised HillCube; a dose u < 0 scales it by 1 + u, u > 0 lifts it to f + u (1 - f). The
    Hill functions read x clamped to [0, 1], the state itself is not clipped.

    Args:
        cubes: the compiled rules.
        hill_n: ``[members, genes]`` Hill exponents of the genes as regulators.
        hill_k: ``[members, genes]`` half-effect expression, likewise.
        tau: ``[genes]`` time constants.
        dt: step.
        noise: standard deviation of the fluctuation per square root of time.
    """

    hill_n: MemberParameter
    hill_k: MemberParameter
    rate: Float[Tensor, " genes"]

    def __init__(
        self,
        cubes: HillCubes,
        hill_n: MemberParameter,
        hill_k: MemberParameter,
        tau: Float[Tensor, " genes"],
        dt: float,
        noise: float,
    ) -> None:
        super().__init__()
        self.cubes, self.dt, self.noise = cubes, dt, noise
        for name, value in (("hill_n", hill_n), ("hill_k", hill_k), ("rate", 1.0 / tau)):
            self.register_buffer(name, value.clone(), persistent=False)
        # A plain number is several times faster than a tensor of equal numbers.
        self._hill = _number(hill_n), _number(hill_k)
        self._number_of_rate = _number(self.rate)

    def advance(
        self,
        state: CellState,
        n_steps: int,
        dose: GeneDose | None = None,
        noise: NoiseSource | None = None,
        member: Members | None = None,
    ) -> CellState:
        """The state ``n_steps`` later under a constant dose, each cell with the constants of its ``member``.

        Works on cache-sized chunks of cells, so beside the result it needs little memory. ``noise`` gives the
        standard normal numbers ``[genes, cells]`` of a chunk (a slice of cells) and a step.

        Raises:
            ConfigurationError: there are several members and nobody says which one each cell lives in.
        """
        following = torch.empty_like(state)
        for rows, workspace in self._chunks(state):
            # A copy even where the transpose is contiguous already (one cell, one gene): it is changed in place.
            x = state[rows].T.clone(memory_format=torch.contiguous_format)
            hill, production = self._hill_constants(rows, member), torch.empty_like(x)
            push = None if dose is None else _push(dose[rows])
            for step in range(n_steps):
                self._produce(x, hill, workspace, production)
                if push is not None:
                    torch.addcmul(push[0], push[1], production, out=production)
                self._relax_(x, production)
                if noise is not None:
                    x.add_(noise(rows, step), alpha=self.noise * sqrt(self.dt))
            following[rows] = x.T
        return following

    def drift(self, state: CellState, member: Members | None = None) -> CellState:
        """dx/dt without dose and noise, ``[cells, genes]``; ``member`` as in ``advance``."""
        result = torch.empty_like(state)
        for rows, workspace in self._chunks(state):
            x = state[rows].T.contiguous()
            production = self._produce(x, self._hill_constants(rows, member), workspace, torch.empty_like(x))
            result[rows] = ((production - x) * self.rate[:, None]).T
        return result

    def _chunks(self, state: CellState) -> Iterator[tuple[slice, Workspace]]:
        n_cells, size = state.shape[0], self.cubes.chunk_size(state.device)
        workspace = self.cubes.workspace(min(size, n_cells), state.device)
        for first in range(0, n_cells, size):
            rows = slice(first, min(first + size, n_cells))
            yield rows, workspace[:, : rows.stop - first]

    def _hill_constants(self, rows: slice, member: Members | None) -> tuple[float | Tensor, float | Tensor]:
        n, k = self._hill
        if n is not None and k is not None:
            return n, k
        if member is None and len(self.hill_n) > 1:
            raise ConfigurationError(
                f"the cells could live in any of {len(self.hill_n)} members; give each cell's member"
            )
        if member is None:
            member = torch.zeros(rows.stop, dtype=torch.long, device=self.hill_n.device)
        return self.hill_n[member[rows]].T, self.hill_k[member[rows]].T

    def _produce(
        self, x: GeneRows, hill: tuple[float | Tensor, float | Tensor], workspace: Workspace, out: GeneRows
    ) -> GeneRows:
        activity = torch.clamp(x, 0.0, 1.0, out=self.cubes.activity_of(workspace))
        hill_(activity, *hill, scratch=out)
        return self.cubes.production(workspace, out)

    def _relax_(self, x: GeneRows, production: GeneRows) -> None:
        if self._number_of_rate is not None:
            x.lerp_(production, self.dt * self._number_of_rate)
        else:
            x.addcmul_(production.sub_(x), self.dt * self.rate[:, None])

    def jacobians(self, corners: CellState) -> Jacobians:
        """Each member's Jacobian of the drift at states of 0 and 1, approached from inside the unit cube."""
        n_states, genes = corners.shape
        grid = corners[:, None].expand(n_states, genes, genes)
        flipped = [grid.diagonal_scatter(torch.full_like(corners, v), dim1=1, dim2=2) for v in (0.0, 1.0)]
        low, high = (self.cubes.value_at(c.reshape(-1, genes).T.contiguous()) for c in flipped)
        effect = (high - low).reshape(genes, n_states, genes).transpose(0, 1)
        threshold = self.hill_k**self.hill_n
        slope = corners * (self.hill_n * threshold / (1.0 + threshold))[:, None]
        gain = effect * slope[:, :, None]
        return (gain - torch.eye(genes, device=corners.device)) * self.rate[:, None]

    def is_stable(self, corners: CellState) -> Tensor:
        """``[members, states]``: whether small deviations from a fixed point die out."""
        return (torch.linalg.eigvals(self.jacobians(corners)).real < 0).all(dim=-1)

    @property
    def step_limit(self) -> float:
        """The largest ``dt`` at which every stable steady state is also stable under the integration.

        It is the smallest time constant: up to it a step is a weighted mean of state and production, so the
        unit cube is never left, and as genes that are on can only support each other at a corner, the step's
        Jacobian there is non-negative and contracts wherever the drift's is stable.
        """
        return 1.0 / float(self.rate.max())


def _number(values: Tensor) -> float | None:
    return float(values.flatten()[0]) if bool((values == values.flatten()[0]).all()) else None


def _push(dose: GeneDose) -> tuple[GeneRows, GeneRows]:
    """(lift, keep): production p under the dose is ``lift + keep * p``."""
    rows = dose.T.contiguous()
    return rows.clamp(min=0.0), 1.0 - rows.abs()
