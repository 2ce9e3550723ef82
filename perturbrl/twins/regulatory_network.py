"""A Boolean network as stochastic differential equations: the Waddington landscape with true attractors."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from perturbrl.errors import ConfigurationError
from perturbrl.networks.boolean_network import BooleanNetwork
from perturbrl.networks.hill_cubes import HillCubes
from perturbrl.networks.hill_dynamics import HillDynamics
from perturbrl.schema import CellState, Dose, Members
from perturbrl.twins.network_twin import NetworkTwin

HILL_N_RANGE: Final = (2.0, 4.0)
HILL_K_RANGE: Final = (0.3, 0.6)
MAX_DRAWS: Final = 200


class RegulatoryNetworkTwin(NetworkTwin):
    """Genes that follow their rules' normalised HillCubes, with noise; ``HillDynamics`` has the equations.

    Boolean rules become differential equations as in Wittmann et al. 2009 (BMC Syst. Biol. 3:98) and Krumsiek
    et al. 2010 (Odefy, BMC Bioinformatics 11:233). One transition holds a dose for ``steps_per_action`` steps
    of ``dt`` and then releases it for ``release_steps``.

    Args:
        network: name of a shipped network, or the path of a ``.bnet`` file.
        controllable: genes that may be dosed; all by default.
        start: attractor from which episodes start; every steady state by default.
        noise: standard deviation of a gene's fluctuation per square root of time.
        hill_n: Hill exponent, above 1.
        hill_k: expression at which a regulator has half its effect before normalisation.
        tau: time constant of every gene, or of genes by name (1 for those not named).
        dt: step of the integration.
        steps_per_action: steps for which a dose is held.
        release_steps: steps without dose that follow in the same transition.
        relaxation_time: time without dose after which a cell counts as settled.
        n_members: 1, or the size of an ensemble whose Hill constants are drawn per gene (n in [2, 4], k in
            [0.3, 0.6]) such that every steady state stays stable.
        seed: of the ensemble's draw.

    Raises:
        NetworkError: malformed network, unknown gene, or no steady state.
        ConfigurationError: an option out of range, a steady state lost to the Hill constants, or a step at
            which the integration is unstable.
    """

    def __init__(
        self,
        network: str | Path | BooleanNetwork = "krumsiek11",
        controllable: Sequence[str] | None = None,
        start: str | None = None,
        *,
        noise: float = 0.05,
        hill_n: float = 3.0,
        hill_k: float = 0.5,
        tau: float | Mapping[str, float] = 1.0,
        dt: float = 0.2,
        steps_per_action: int = 25,
        release_steps: int = 0,
        relaxation_time: float = 20.0,
        n_members: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(network, controllable, start, discrete=False)
        _at_least("noise", noise, 0.0)
        _at_least("steps_per_action", steps_per_action, 1)
        _at_least("release_steps", release_steps, 0)
        _at_least("n_members", n_members, 1)
        _above("dt", dt, 0.0)
        _above("hill_n", hill_n, 1.0)
        _above("hill_k", hill_k, 0.0)
        self.steps_per_action, self.release_steps, self.n_members = steps_per_action, release_steps, n_members
        self.relaxation_steps = ceil(relaxation_time / (dt * (steps_per_action + release_steps)))
        cubes, times = HillCubes(self.network), self._time_constants(tau)
        constants = torch.tensor([hill_n, hill_k]).expand(1, self.latent_dim, 2)
        if n_members > 1:
            constants = self._draw_constants(n_members, Generator().manual_seed(seed), cubes, times)
        self.dynamics = HillDynamics(cubes, constants[..., 0], constants[..., 1], times, dt, noise)
        self._check_stability(hill_n, hill_k)

    def _time_constants(self, tau: float | Mapping[str, float]) -> Float[Tensor, " genes"]:
        by_name = tau if isinstance(tau, Mapping) else dict.fromkeys(self.network.genes, tau)
        self.network.clamp(dict.fromkeys(by_name, 0))
        _above("tau", min(by_name.values(), default=1.0), 0.0)
        return torch.tensor([float(by_name.get(gene, 1.0)) for gene in self.network.genes])

    def _draw_constants(
        self, n_members: int, generator: Generator, cubes: HillCubes, tau: Tensor
    ) -> Float[Tensor, "members genes 2"]:
        low = torch.tensor([HILL_N_RANGE[0], HILL_K_RANGE[0]])
        high = torch.tensor([HILL_N_RANGE[1], HILL_K_RANGE[1]])
        kept = torch.empty(0, self.latent_dim, 2)
        for _ in range(MAX_DRAWS):
            drawn = low + (high - low) * torch.rand(n_members, self.latent_dim, 2, generator=generator)
            dynamics = HillDynamics(cubes, drawn[..., 0], drawn[..., 1], tau, 1.0, 0.0)
            kept = torch.cat((kept, drawn[dynamics.is_stable(self.steady_states).all(dim=1)]))
            if len(kept) >= n_members:
                return kept[:n_members]
        raise ConfigurationError(
            f"only {len(kept)} of {MAX_DRAWS * n_members} drawn sets of Hill constants keep every steady "
            f"state of network '{self.network.name}' stable; ask for fewer members than {n_members}"
        )

    def _check_stability(self, hill_n: float, hill_k: float) -> None:
        stable = self.dynamics.is_stable(self.steady_states).all(dim=0).tolist()
        lost = [name for name, kept in zip(self._names, stable, strict=True) if not kept]
        if lost:
            raise ConfigurationError(
                f"with hill_n {hill_n:g} and hill_k {hill_k:g} the steady states {', '.join(lost)} of "
                f"network '{self.network.name}' are not stable; try hill_n 3 and hill_k 0.5"
            )
        limit = self.dynamics.step_limit
        if self.dynamics.dt > limit:
            raise ConfigurationError(
                f"dt is {self.dynamics.dt:g}, above the smallest time constant {limit:g} of network "
                f"'{self.network.name}', so the integration is unstable; choose a smaller dt (a fifth of it "
                "is accurate)"
            )

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """Standard normal ``[cells, steps, genes]`` for one transition; no steps where there is no noise."""
        steps = self.steps_per_action + self.release_steps if self.dynamics.noise else 0
        shape = (n_cells, steps, self.latent_dim)
        return torch.randn(shape, generator=generator, device=self.start_cells.device)

    @torch.no_grad()
    def transition(
        self,
        state: CellState,
        dose: Dose,
        noise: Float[Tensor, "cells steps genes"],
        member: Members | None = None,
    ) -> CellState:
        """The state after the dose was held and released; see the class.

        Raises:
            ConfigurationError: a dose lies outside [-1, 1], or no member is given where there are several.
        """
        held, noisy = self.steps_per_action, noise.shape[1] > 0

        def during(rows: slice, step: int) -> Tensor:
            return noise[rows, step].T

        def after(rows: slice, step: int) -> Tensor:
            return noise[rows, held + step].T

        dosed = self.dynamics.advance(state, held, self.by_gene(dose), during if noisy else None, member)
        return self.dynamics.advance(dosed, self.release_steps, None, after if noisy else None, member)

    @torch.no_grad()
    def simulate(
        self,
        state: CellState,
        n_steps: int,
        dose: Dose | None = None,
        generator: Generator | None = None,
        member: Members | None = None,
    ) -> CellState:
        """The state ``n_steps`` of ``dt`` later under a constant dose, with noise drawn on the way.

        Unlike ``transition`` it never holds more noise than that of one step of one chunk of cells.
        """

        def drawn(rows: slice, step: int) -> Tensor:
            shape = (self.latent_dim, rows.stop - rows.start)
            return torch.randn(shape, generator=generator, device=state.device)

        push = None if dose is None else self.by_gene(dose)
        return self.dynamics.advance(state, n_steps, push, drawn if self.dynamics.noise else None, member)


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ConfigurationError(f"{name} is {value:g}; it must be at least {least:g}")


def _above(name: str, value: float, bound: float) -> None:
    if not value > bound:
        raise ConfigurationError(f"{name} is {value:g}; it must be above {bound:g}")
