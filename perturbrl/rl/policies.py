"""Actors and critics: multilayer perceptrons with the action distributions that the optimiser knows."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal
from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator

from perturbrl import schema
from perturbrl.rl.normalisation import ObservationNormaliser
from perturbrl.rl.tanh import Tanh


def mlp(
    in_dim: int,
    hidden_sizes: Sequence[int],
    out_dim: int,
    *,
    out_gain: float,
    normaliser: ObservationNormaliser | None = None,
) -> nn.Sequential:
    """A tanh multilayer perceptron with orthogonal weights; the last layer is scaled by ``out_gain``."""
    sizes = (in_dim, *hidden_sizes)
    layers: list[nn.Module] = [] if normaliser is None else [normaliser]
    for fan_in, fan_out in pairwise(sizes):
        layers += [_linear(fan_in, fan_out, 2**0.5), Tanh()]
    return nn.Sequential(*layers, _linear(sizes[-1], out_dim, out_gain))


def _linear(fan_in: int, fan_out: int, gain: float) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class GaussianMLP(nn.Module):
    """Mean and standard deviation of a diagonal Gaussian; the deviation does not depend on the state.

    The mean is ``action_loc + action_scale * trunk(observation)`` and the standard deviation
    ``action_scale * exp(log_std)``, so ``trunk`` and ``log_std`` live in units of the action's range.
    """

    action_loc: Float[Tensor, " actions"]
    action_scale: Float[Tensor, " actions"]

    def __init__(
        self,
        observation_dim: int,
        action_loc: Float[Tensor, " actions"],
        action_scale: Float[Tensor, " actions"],
        hidden_sizes: Sequence[int] = (64, 64),
        init_log_std: float = -0.5,
        normaliser: ObservationNormaliser | None = None,
    ) -> None:
        super().__init__()
        n_actions = action_loc.shape[0]
        self.trunk = mlp(observation_dim, hidden_sizes, n_actions, out_gain=0.01, normaliser=normaliser)
        self.log_std = nn.Parameter(torch.full((n_actions,), float(init_log_std)))
        self.register_buffer("action_loc", action_loc.clone())
        self.register_buffer("action_scale", action_scale.clone())

    def forward(self, observation: Float[Tensor, "*batch obs"]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each ``[*batch, actions]``."""
        loc = self.action_loc + self.action_scale * self.trunk(observation)
        scale = (self.action_scale * self.log_std.exp()).expand_as(loc)
        return loc, scale


def independent_normal(loc: Tensor, scale: Tensor) -> Independent:
    """A diagonal Gaussian whose log-probability and KL are summed over the action's dimensions."""
    return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)


def gaussian_actor(
    observation_dim: int,
    low: Float[Tensor, " actions"],
    high: Float[Tensor, " actions"],
    hidden_sizes: Sequence[int] = (64, 64),
    init_log_std: float = -0.5,
    normaliser: ObservationNormaliser | None = None,
) -> ProbabilisticActor:
    """A TorchRL actor with a Gaussian over doses that starts at doing nothing.

    Samples may leave ``[low, high]``; the environment projects them onto the box, so a dose of exactly 0 or
    exactly the limit can be learned and held, which a squashed mean only approaches.
    """
    scale = (high - low) / 2
    centre = torch.zeros_like(low).clamp(low, high)
    module = GaussianMLP(observation_dim, centre, scale, hidden_sizes, init_log_std, normaliser)
    return _actor(module, ["loc", "scale"], independent_normal)


def tanh_gaussian_actor(
    observation_dim: int,
    low: Float[Tensor, " actions"],
    high: Float[Tensor, " actions"],
    hidden_sizes: Sequence[int] = (64, 64),
    init_log_std: float = -0.5,
) -> ProbabilisticActor:
    """A TorchRL actor with a Gaussian squashed by tanh into the open box ``(low, high)``.

    The Gaussian lives before the squashing and starts around 0, the middle of the box.
    """
    module = GaussianMLP(
        observation_dim, torch.zeros_like(low), torch.ones_like(low), hidden_sizes, init_log_std
    )
    return _actor(module, ["loc", "scale"], partial(TanhNormal, low=low, high=high))


def categorical_actor(
    observation_dim: int,
    n_actions: int,
    hidden_sizes: Sequence[int] = (64, 64),
    normaliser: ObservationNormaliser | None = None,
) -> ProbabilisticActor:
    """A TorchRL actor with a categorical distribution over ``n_actions`` integer actions."""
    module = mlp(observation_dim, hidden_sizes, n_actions, out_gain=0.01, normaliser=normaliser)
    return _actor(module, ["logits"], partial(Categorical, validate_args=False))


def independent_bernoulli(logits: Tensor) -> Independent:
    """Independent on-off actions whose log-probability and KL are summed over the action's dimensions."""
    return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)


def bernoulli_actor(
    observation_dim: int, n_actions: int, hidden_sizes: Sequence[int] = (64, 64)
) -> ProbabilisticActor:
    """A TorchRL actor that switches each of ``n_actions`` perturbations on (1.0) or off (0.0)."""
    return _actor(
        mlp(observation_dim, hidden_sizes, n_actions, out_gain=0.01), ["logits"], independent_bernoulli
    )


def _actor(
    module: nn.Module, parameters: list[str], distribution_class: Callable[..., Distribution]
) -> ProbabilisticActor:
    return ProbabilisticActor(
        TensorDictModule(module, [schema.OBSERVATION], parameters),
        in_keys=parameters,
        out_keys=[schema.ACTION],
        distribution_class=distribution_class,
        return_log_prob=True,
    )


def critic(
    observation_dim: int,
    hidden_sizes: Sequence[int] = (64, 64),
    normaliser: ObservationNormaliser | None = None,
) -> ValueOperator:
    """A TorchRL state-value network."""
    module = mlp(observation_dim, hidden_sizes, 1, out_gain=1.0, normaliser=normaliser)
    return ValueOperator(module, in_keys=[schema.OBSERVATION])
