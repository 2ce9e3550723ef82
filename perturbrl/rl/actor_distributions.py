"""From TorchRL actors and torch's distributions to the action distributions that the optimiser knows."""

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Categorical,
    ComposeTransform,
    Distribution,
    Independent,
    Normal,
    SigmoidTransform,
    TanhTransform,
    Transform,
    TransformedDistribution,
)
from torch.distributions import OneHotCategorical as TorchOneHotCategorical
from torchrl.modules import OneHotCategorical, ProbabilisticActor

from perturbrl.errors import ConfigurationError
from perturbrl.rl.discrete import BernoulliSwitches, SoftmaxChoice
from perturbrl.rl.distributions import ActionDistribution
from perturbrl.rl.gaussian import DiagonalGaussian
from perturbrl.rl.scored_choice import ScoredCategorical


def as_action_distribution(dist: Distribution) -> ActionDistribution:
    """The parameters of a ``torch.distributions`` or TorchRL distribution, still attached to the graph.

    Raises:
        ConfigurationError: the distribution is none of diagonal Gaussian, Gaussian through fixed tanh, sigmoid or
            affine bijections, categorical, one-hot categorical, and independent Bernoulli.
    """
    if isinstance(dist, ScoredCategorical):
        return dist.choice
    if isinstance(dist, OneHotCategorical | TorchOneHotCategorical):
        return SoftmaxChoice(dist.logits, one_hot=True)
    if isinstance(dist, Categorical):
        return SoftmaxChoice(dist.logits)
    base, transforms = _base_of(dist)
    if len(dist.event_shape) == 1 and isinstance(base, Normal) and all(map(_is_fixed, transforms)):
        bijection = ComposeTransform(transforms) if transforms else None
        return DiagonalGaussian(base.loc, _shared_row(base.scale), bijection)
    if len(dist.event_shape) == 1 and isinstance(base, Bernoulli) and not transforms:
        return BernoulliSwitches(base.logits)
    raise ConfigurationError(
        f"The action distribution {dist} is not known to the trust region; use a Normal or Bernoulli inside "
        "torch.distributions.Independent(..., 1), a TanhNormal, or a Categorical."
    )


def _base_of(dist: Distribution) -> tuple[Distribution, list[Transform]]:
    transforms: list[Transform] = []
    while isinstance(dist, Independent | TransformedDistribution):
        if isinstance(dist, TransformedDistribution):
            transforms = [*dist.transforms, *transforms]
        dist = dist.base_dist
    return dist, transforms


def _is_fixed(transform: Transform) -> bool:
    if isinstance(transform, ComposeTransform):
        return all(map(_is_fixed, transform.parts))
    if isinstance(transform, AffineTransform):
        return not any(isinstance(t, Tensor) and t.requires_grad for t in (transform.loc, transform.scale))
    return isinstance(transform, TanhTransform | SigmoidTransform)


def _shared_row(scale: Tensor) -> Tensor:
    """The one row behind a scale that was expanded over the states, else the scale itself."""
    leading = scale.ndim - 1
    if leading and scale.numel() and all(stride == 0 for stride in scale.stride()[:-1]):
        return scale[(0,) * leading]
    return scale


def distribution_of(actor: ProbabilisticActor, batch: TensorDictBase) -> ActionDistribution:
    """The action distributions of a TorchRL actor in the states of ``batch``, attached to the graph."""
    return distribution_from(actor, actor.get_dist_params(batch.select(*actor.in_keys)))


def distribution_from(actor: ProbabilisticActor, parameters: TensorDictBase) -> ActionDistribution:
    """The distributions that ``actor`` builds from these parameters.

    Where it refuses them, as one that checks its arguments does with NaN, all parameters are NaN instead: what is
    computed from them shows it on every process, and no process is left waiting for one that raised an exception.
    """
    try:
        return as_action_distribution(actor.build_dist_from_params(parameters))
    except ValueError as refusal:
        return _not_a_number(actor, parameters.select(*actor.dist_params_keys), refusal)


def _not_a_number(
    actor: ProbabilisticActor, parameters: TensorDictBase, refusal: ValueError
) -> ActionDistribution:
    try:
        known = as_action_distribution(actor.build_dist_from_params(parameters.apply(torch.ones_like)))
    except ValueError:
        raise refusal from None  # it was not for the values
    # A sum over what was refused, so that its gradient, NaN as well, reaches the weights.
    nan = torch.nan * torch.stack([value.sum() for value in parameters.values(True, True)]).sum()
    return known.with_parameters(tuple(torch.zeros_like(value) + nan for value in known.parameters))


def kl_divergence(old: ActionDistribution | Distribution, new: ActionDistribution | Distribution) -> Tensor:
    """KL(old‖new) in nats for each state, summed over the action's dimensions, ``[*batch]``."""
    old = as_action_distribution(old) if isinstance(old, Distribution) else old
    new = as_action_distribution(new) if isinstance(new, Distribution) else new
    return old.kl_to(new)
