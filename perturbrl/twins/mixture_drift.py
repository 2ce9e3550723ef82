"""The drift of a landscape in closed form, made of the components of a mixture."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.data.fitted import FittedModule
from perturbrl.errors import ConfigurationError
from perturbrl.schema import CellState, Members
from perturbrl.twins.state_mixture import StateMixture

MOST_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class DriftComponents:
    """What one member's drift is made of.

    Attributes:
        mixture: where cells are.
        velocity: ``[components, latent]`` way per step.
        resting: ``[components]`` share of cells at rest.
        log_priors: ``[components]`` log weight of each in the density.
    """

    mixture: StateMixture
    velocity: Float[np.ndarray, "components latent"]
    resting: Float[np.ndarray, " components"]
    log_priors: Float[np.ndarray, " components"]


class MixtureDrift(FittedModule):
    """dz = b(z) dt + noise: cells flow along their lineage and are held where cells are.

    The landscape is U = -log p, with p the mixture of a member. With r_k the probability of component k at z, sharpened
    between lineages, a step goes

        v + pull * (m - z, without its part along v where cells move on) + ridge,

    where v = sum r_k v_k is the flow and m = sum r_k m_k the place that the density pulls to. Noise has the
    covariance of the components, such that cells at rest are spread as real cells are (Langevin dynamics in the metric
    of that covariance; the factor sqrt(2 pull - pull^2) is exact for one component). The ridge stands between mature
    lineages and points away from the other: the gradient of log p(lineage | z), in the same metric, of limited height.
    Without it a type whose cells overlap with another's is left by noise alone.

    Args:
        pull: share of the way to where cells are, per step.
        sharpness: power of the probability of a lineage.
        ridge: height of the ridges, in standard deviations of the components per step.
    """

    means: Float[Tensor, "members components latent"]
    targets: Float[Tensor, "members components columns"]
    loadings: Float[Tensor, "members latent components"]
    offsets: Float[Tensor, "members components"]
    precisions: Float[Tensor, "members components"]
    whitening: Float[Tensor, "members latent latent"]
    factor: Float[Tensor, "members latent latent"]
    kinds: Float[Tensor, "components types"]
    mature: Float[Tensor, " types"]

    def __init__(self, pull: float, sharpness: float, ridge: float) -> None:
        super().__init__()
        self.pull, self.sharpness, self.ridge = pull, sharpness, ridge
        for name, dimensions in (
            ("means", 3),
            ("targets", 3),
            ("loadings", 3),
            ("offsets", 2),
            ("precisions", 2),
            ("whitening", 3),
            ("factor", 3),
            ("kinds", 2),
            ("mature", 1),
        ):
            self.register_buffer(name, torch.empty((0,) * dimensions))

    def assemble(self, members: list[DriftComponents], mature: np.ndarray) -> None:
        """Take over what members were fitted to."""

        def stacked(of: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.stack(of)).float()

        mixtures = [member.mixture for member in members]
        white = [mixture.means @ mixture.whitening for mixture in mixtures]
        dim = mixtures[0].means.shape[1]
        self.set_buffers(
            means=stacked([m.means for m in mixtures]),
            targets=stacked(
                [np.column_stack((m.mixture.means, m.velocity, m.resting, m.mixture.scales)) for m in members]
            ),
            loadings=stacked([(w / m.scales[:, None]).T for w, m in zip(white, mixtures, strict=True)]),
            offsets=stacked(
                [
                    m.log_priors
                    - 0.5 * (np.square(w).sum(1) / m.mixture.scales + dim * np.log(m.mixture.scales))
                    for w, m in zip(white, members, strict=True)
                ]
            ),
            precisions=stacked([-0.5 / m.scales for m in mixtures]),
            whitening=stacked([m.whitening for m in mixtures]),
            factor=stacked([m.factor for m in mixtures]),
            kinds=torch.eye(len(mature))[torch.from_numpy(mixtures[0].kinds)],
            mature=torch.from_numpy(mature).float(),
        )

    def advance(
        self, state: CellState, push: CellState, noise: Float[Tensor, "cells steps latent"], member: Members
    ) -> CellState:
        """The state after as many steps as there is noise for, pushed by ``push`` in each.

        Raises:
            ConfigurationError: a cell lives in a member that there is not.
        """
        if len(self.means) == 1:  # that of all cells, whose number need not be looked at
            return self._advance(state, push, noise, 0)
        if len(member) and not 0 <= int(member.min()) <= int(member.max()) < len(self.means):
            raise ConfigurationError(
                f"cells live in members {int(member.min())} to {int(member.max())} of a landscape that has "
                f"{len(self.means)}; give it as many as it was fitted with (n_members)"
            )
        result = torch.empty_like(state)
        for own in range(len(self.means)):
            rows = (member == own).nonzero()[:, 0]
            if len(rows):
                result[rows] = self._advance(state[rows], push[rows], noise[rows], own)
        return result

    def _advance(self, state: CellState, push: CellState, noise: Tensor, member: int) -> CellState:
        parts = []
        # Pieces that stay in the processor's cache are moved through all steps before the next one is begun.
        for rows in torch.arange(len(state), device=state.device).split(MOST_AT_ONCE):
            part, pushed = state[rows], push[rows]
            for step in range(noise.shape[1]):
                part = self._step(part, pushed, noise[rows, step], member)
            parts.append(part)
        return torch.cat(parts) if parts else state

    def _step(self, state: CellState, push: CellState, noise: CellState, member: int) -> CellState:
        drift, scale = self._drift(state, member)
        amplitude = scale * (2 * self.pull - self.pull**2) ** 0.5
        return state + drift + push + amplitude * (noise @ self.factor[member].T)

    def drift(self, state: CellState, member: int = 0) -> CellState:
        """What a step adds to the state, but for noise."""
        return self._drift(state, member)[0]

    def _drift(self, state: CellState, member: int) -> tuple[CellState, Float[Tensor, "cells 1"]]:
        dim, whitening = state.shape[1], self.whitening[member]
        plain = self.responsibilities(state, member)
        by_kind = plain @ self.kinds
        sharp = (by_kind.clamp_min(1e-12) ** self.sharpness).clamp_min(1e-30)
        sharp = sharp / sharp.sum(1, keepdim=True)
        chosen = plain * ((sharp / by_kind.clamp_min(1e-12)) @ self.kinds.T)
        place, velocity, resting, scale = (chosen @ self.targets[member]).split((dim, dim, 1, 1), dim=1)
        pull = place - state
        across = place - plain @ self.means[member]
        white = torch.stack((velocity, pull, across)) @ whitening
        along = (white[0] * white[1]).sum(1, keepdim=True) / white[0].square().sum(1, keepdim=True).clamp_min(
            1e-9
        )
        held = pull - (1 - resting).clamp(0, 1) * along * velocity
        steepness = white[2].norm(dim=1, keepdim=True).clamp_min(1.0)
        ridge = self.ridge * (sharp @ self.mature)[:, None] * across / steepness
        return velocity + self.pull * held + ridge, scale.clamp_min(0).sqrt()

    def responsibilities(self, state: CellState, member: int = 0) -> Float[Tensor, "cells components"]:
        """Probability of each component at each state."""
        return torch.softmax(self._log_densities(state, member), dim=1)

    def potential(self, state: CellState, member: int = 0) -> Float[Tensor, " cells"]:
        """-log p, up to a constant: the height of the landscape."""
        return -torch.logsumexp(self._log_densities(state, member), dim=1)

    def _log_densities(self, state: CellState, member: int) -> Float[Tensor, "cells components"]:
        """Of each component, its weight included, up to a constant."""
        white = state @ self.whitening[member]
        square = white.square().sum(1, keepdim=True)
        return white @ self.loadings[member] + self.offsets[member] + square * self.precisions[member]
