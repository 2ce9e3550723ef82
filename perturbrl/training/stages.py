"""What an iteration does with its batch after the natural step, under the options of a run."""

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from tensordict import TensorDictBase
from torch import Generator
from torchrl.modules import ProbabilisticActor, ValueOperator

from perturbrl import schema
from perturbrl.rl.critic_fit import critic_epochs, refit_head
from perturbrl.rl.minibatches import Minibatches
from perturbrl.rl.ppo_kl import (
    Moved,
    PPOKLLoss,
    PPOKLResult,
    adapt_kl_coef,
    adapt_learning_rate,
    ppo_kl_epochs,
)
from perturbrl.rl.processes import Processes
from perturbrl.training.options import CriticOptions, PPOOptions


def normalise_advantages(flat: TensorDictBase, processes: Processes) -> None:
    """Give the batch's advantages mean 0 and variance 1 over all processes, in place."""
    advantage = flat[schema.ADVANTAGE]
    value = advantage.double()
    moments = torch.stack((value.sum(), value.square().sum(), value.new_tensor(value.numel())))
    total, squares, count = processes.sum(moments)
    mean = total / count
    spread = (squares / count - mean.square()).clamp_min(0).sqrt()
    flat[schema.ADVANTAGE] = ((value - mean) / (spread + 1e-8)).to(advantage.dtype)


def improve_policy(
    actor: ProbabilisticActor,
    optimizer: LightningOptimizer,
    flat: TensorDictBase,
    minibatches: Minibatches,
    options: PPOOptions,
    *,
    moved: Moved,
    kl_coef: float,
    largest_rate: float,
    generator: Generator,
) -> tuple[PPOKLResult, float]:
    """Stage 2: what it did, and the next iteration's ``kl_coef``; the optimiser's rate adapts in place.

    Args:
        actor: the policy after stage 1.
        optimizer: its Adam.
        flat: ``[rows]`` of the policy that collected them.
        minibatches: how rows are drawn.
        options: of stage 2.
        moved: by stage 1.
        kl_coef: weight of the KL penalty now.
        largest_rate: what the step size may be at most in this iteration.
        generator: order of the rows, equal on all processes.
    """
    group = optimizer.optimizer.param_groups[0]
    group["lr"] = min(group["lr"], largest_rate)
    result = ppo_kl_epochs(
        PPOKLLoss(actor, options.clip_epsilon),
        optimizer.step,
        flat,
        minibatches,
        epochs=options.epochs,
        kl_coef=kl_coef,
        kl_limit=moved.kl + options.kl_stop * options.target_kl,
        max_grad_norm=options.max_grad_norm,
        generator=generator,
        # Stage 1 does not clip, so after a step of it the clipped objective has to be measured.
        moved=moved if options.clip_epsilon is None or moved == Moved() else None,
    )
    factor = options.kl_coef_factor
    group["lr"] = adapt_learning_rate(group["lr"], result, minibatches.per_epoch, largest_rate, factor)
    if result.reverted:
        optimizer.optimizer.state.clear()  # its momentum points where the steps were taken back from
    return result, adapt_kl_coef(kl_coef, result.kl - moved.kl, options.target_kl, factor)


def improve_critic(
    critic: ValueOperator,
    optimizer: LightningOptimizer,
    flat: TensorDictBase,
    minibatches: Minibatches,
    options: CriticOptions,
    *,
    rate: float,
    mixed: bool,
    generator: Generator,
) -> float:
    """The critic's epochs and the exact fit of its last layer; the mean squared error of the last epoch.

    Args:
        critic: the state-value network.
        optimizer: its Adam.
        flat: ``[rows]`` with value targets.
        minibatches: how rows are drawn.
        options: of the critic's epochs.
        rate: step size in this iteration.
        mixed: whether the epochs may use bfloat16.
        generator: order of the rows, equal on all processes.
    """
    optimizer.optimizer.param_groups[0]["lr"] = rate
    # A cache of rounded weights would outlive the steps that change them.
    with torch.autocast(
        flat[schema.OBSERVATION].device.type, torch.bfloat16, enabled=mixed, cache_enabled=False
    ):
        error = critic_epochs(
            critic,
            optimizer.step,
            flat,
            minibatches,
            epochs=options.epochs,
            max_grad_norm=options.max_grad_norm,
            generator=generator,
        )
    refit_head(critic, flat, minibatches.processes)
    return error
