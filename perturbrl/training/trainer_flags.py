"""Trainer flags that cannot mean here what they mean elsewhere, each with the option that does."""

from lightning import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from perturbrl.errors import ConfigurationError

PRECISIONS = ("32-true", "bf16-mixed")


def refuse_flags(trainer: Trainer, *, own_env: bool) -> None:
    """Refuse what manual optimisation by three optimisers, or an environment of the user's, cannot honour.

    Args:
        trainer: at the start of a run.
        own_env: whether ``model.env`` takes the place of twin and task.

    Raises:
        ConfigurationError: such a flag is set; the message names the option to use.
    """
    if own_env:
        _refuse_with_own_env(trainer)
    if trainer.state.fn != TrainerFn.FITTING:
        return
    if trainer.gradient_clip_val:
        raise ConfigurationError(
            f"trainer.gradient_clip_val is {trainer.gradient_clip_val}, but the two stages step on their own; "
            "use model.ppo.max_grad_norm and model.critic.max_grad_norm"
        )
    if trainer.accumulate_grad_batches != 1:
        raise ConfigurationError(
            f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}, but an iteration is one "
            "batch; use model.rollout.n_cells for more experience and model.ppo.minibatch_size for larger steps"
        )
    if trainer.max_steps != -1 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise ConfigurationError(
            f"trainer.max_steps is {trainer.max_steps}, which would count every step of three optimisers; "
            "use trainer.max_epochs, the number of iterations"
        )
    if trainer.precision not in PRECISIONS:
        raise ConfigurationError(
            f"trainer.precision is {trainer.precision}, in which the natural-gradient step would lose its way; "
            f"use {' or '.join(PRECISIONS)} (mixed: only the critic's epochs leave float32)"
        )


def _refuse_with_own_env(trainer: Trainer) -> None:
    if trainer.world_size > 1:
        raise ConfigurationError(
            f"model.env cannot be shared by {trainer.world_size} processes, which do not know which of its random "
            "numbers are theirs; give trainer.devices 1"
        )
    if trainer.state.fn == TrainerFn.PREDICTING:
        raise ConfigurationError(
            "predict applies a design to cells, but model.env is an environment of your own; use test for its "
            "return"
        )
