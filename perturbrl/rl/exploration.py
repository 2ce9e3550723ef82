"""Keeping a policy from committing too early."""

import torch
from tensordict import TensorDictBase
from torchrl.modules import ProbabilisticActor

from perturbrl import schema


@torch.no_grad()
def add_entropy_bonus(batch: TensorDictBase, actor: ProbabilisticActor, weight: float) -> TensorDictBase:
    """Add ``weight * (-log π(a|s) - H(π(.|s)))`` to the advantages of a batch, in place.

    At the policy that collected the batch the gradient of E[ratio * bonus] is ``weight`` times that of the mean
    entropy, so every optimiser of the surrogate, the natural step included, climbs both, and needs no other
    change. The bonus has mean 0 in every state. With advantages of unit spread the weight has a fixed meaning:
    an action e times less probable than average is favoured by ``weight`` standard deviations.

    Args:
        batch: ``[*batch]`` with action, advantage ``[*batch, 1]`` and the parameters of the distribution that
            the actions were drawn from.
        actor: knows what the parameters mean.
        weight: 0 leaves the batch as it is.

    Source: Williams and Peng 1991 (entropy in the score); Cen, Cheng, Chen, Wei and Chi 2022 (natural policy
    gradient with entropy regularisation converges linearly from any start).
    """
    if weight == 0:
        return batch
    dist = actor.build_dist_from_params(batch.select(*actor.dist_params_keys))
    surprise = -dist.log_prob(batch[schema.ACTION]) - dist.entropy()
    batch[schema.ADVANTAGE] = batch[schema.ADVANTAGE] + weight * surprise.unsqueeze(-1)
    return batch
