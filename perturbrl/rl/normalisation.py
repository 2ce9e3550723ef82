"""Running moments of observations, and observations in units of them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perturbrl.rl.processes import Processes

SMALLEST_STD = 1e-6


class ObservationNormaliser(nn.Module):
    """Centres and scales observations by the moments of all that it was shown.

    It is the first layer of actor and critic and changes only in ``update``. A trust region takes the policy for
    a function of its parameters alone, so ``update`` may be called between iterations and never within one.
    Before the first update, observations pass as they are; a dimension that never varied is only centred.
    It helps on networks and not where states are scaled already (docs/decisions.md).

    Args:
        observation_dim: width of an observation.
    """

    mean: Float[Tensor, " obs"]
    std: Float[Tensor, " obs"]
    moments: Float[Tensor, "2 obs"]
    count: Float[Tensor, ""]

    def __init__(self, observation_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(observation_dim))
        self.register_buffer("std", torch.ones(observation_dim))
        self.register_buffer("moments", torch.zeros(2, observation_dim, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, observation: Float[Tensor, "*batch obs"]) -> Float[Tensor, "*batch obs"]:
        """Observations in units of standard deviations from their mean."""
        return (observation - self.mean) / self.std

    @torch.no_grad()
    def update(self, observation: Float[Tensor, "*batch obs"], processes: Processes) -> None:
        """Take observations of all processes into the moments (Chan 1979, equation 1.5).

        Args:
            observation: this process's share.
            processes: that observed.
        """
        shifted = observation.reshape(-1, observation.shape[-1]).double() - self.moments[0]
        number = torch.full_like(shifted[:1], shifted.shape[0])
        n, first, second = processes.sum(
            torch.cat((number, shifted.sum(0)[None], shifted.square().sum(0)[None]))
        )
        total, shift = self.count + n[0], first / n
        spread = self.moments[1] + second - n * shift.square() + shift.square() * (self.count * n / total)
        self.moments.copy_(torch.stack((self.moments[0] + shift * (n / total), spread)))
        self.count.copy_(total)
        std = (spread / total).clamp_min(0).sqrt()
        self.mean.copy_(self.moments[0])
        self.std.copy_(torch.where(std < SMALLEST_STD, torch.ones_like(std), std))
