"""Small actors of every kind the optimiser knows, and batches that they collected."""

from collections.abc import Callable
from functools import partial

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import NormalParamExtractor, OneHotCategorical, ProbabilisticActor

from perturbrl import schema
from perturbrl.rl.policies import (
    bernoulli_actor,
    categorical_actor,
    gaussian_actor,
    independent_normal,
    tanh_gaussian_actor,
)
from perturbrl.rl.scored_choice import ChoiceScores, choosing_actor

OBSERVATION_DIM = 4
LATENT_DIM, N_PERTURBATIONS = 2, 3
BOX = (-torch.ones(3), torch.tensor([1.0, 2.0, 0.5]))


def _state_dependent_gaussian() -> ProbabilisticActor:
    network = nn.Sequential(
        nn.Linear(OBSERVATION_DIM, 6), nn.Softplus(), nn.LayerNorm(6), nn.Linear(6, 6), NormalParamExtractor()
    )
    return ProbabilisticActor(
        TensorDictModule(network, ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=independent_normal,
        return_log_prob=True,
    )


def checked_normal(loc: Tensor, scale: Tensor) -> Independent:
    """A distribution that refuses parameters which are not numbers."""
    return Independent(Normal(loc, scale, validate_args=True), 1, validate_args=True)


def _checked_gaussian() -> ProbabilisticActor:
    network = nn.Sequential(
        nn.Linear(OBSERVATION_DIM, 6), nn.Softplus(), nn.Linear(6, 6), NormalParamExtractor()
    )
    return ProbabilisticActor(
        TensorDictModule(network, ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=checked_normal,
        return_log_prob=True,
    )


def _one_hot() -> ProbabilisticActor:
    network = nn.Sequential(nn.Linear(OBSERVATION_DIM, 5), nn.GELU(), nn.Linear(5, 3))
    return ProbabilisticActor(
        TensorDictModule(network, ["observation"], ["logits"]),
        in_keys=["logits"],
        distribution_class=OneHotCategorical,
        return_log_prob=True,
    )


def _scored() -> ProbabilisticActor:
    """Three perturbations at two doses, or none."""
    scores = ChoiceScores(OBSERVATION_DIM, LATENT_DIM, 7, 3, N_PERTURBATIONS, 3, (6, 5))
    for name, values in (("shifts", scores.shifts), ("features", scores.features)):
        values.copy_(torch.randn(values.shape, generator=torch.Generator().manual_seed(len(name))))
    scores.shifts[0] = scores.features[0] = 0
    scores.prices.copy_(torch.linspace(0, 0.3, 7))
    scores.sharpness.fill_(2.0)
    return choosing_actor(scores)


ACTORS: dict[str, Callable[[], ProbabilisticActor]] = {
    "gaussian": partial(gaussian_actor, OBSERVATION_DIM, *BOX, (6, 5)),
    "tanh_gaussian": partial(tanh_gaussian_actor, OBSERVATION_DIM, *BOX, (6, 5)),
    "categorical": partial(categorical_actor, OBSERVATION_DIM, 5, (6, 5)),
    "bernoulli": partial(bernoulli_actor, OBSERVATION_DIM, 3, (6,)),
    "one_hot": _one_hot,
    "state_dependent_gaussian": _state_dependent_gaussian,
    "checked_gaussian": _checked_gaussian,
    "scored": _scored,
}


def make_actor(kind: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> ProbabilisticActor:
    """An actor with weights away from their careful start."""
    torch.manual_seed(seed)
    actor = ACTORS[kind]()
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return actor.to(dtype)


def collect(actor: ProbabilisticActor, *shape: int, seed: int = 0) -> TensorDict:
    """Observations, the actor's own samples, and an advantage that depends on both."""
    torch.manual_seed(seed)
    dtype = next(actor.parameters()).dtype
    seen = {
        schema.OBSERVATION: torch.randn(*shape, OBSERVATION_DIM, dtype=dtype),
        schema.WAY: torch.randn(*shape, LATENT_DIM, dtype=dtype),
        schema.USED: torch.rand(*shape, N_PERTURBATIONS) < 0.2,
    }
    batch = TensorDict(seen, shape)
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        actor(batch)
    batch["advantage"] = _advantage(batch["action"], batch["observation"])
    return batch


def _advantage(action: Tensor, observation: Tensor) -> Tensor:
    action = action.to(observation.dtype)
    value = action if action.ndim < observation.ndim else action[..., 0] - action[..., -1].square()
    return (value * observation[..., 0] + torch.randn_like(value)).to(observation.dtype)


def flat_parameters(actor: ProbabilisticActor) -> Tensor:
    """A copy of all weights."""
    return torch.cat([p.detach().clone().reshape(-1) for p in actor.parameters()])
