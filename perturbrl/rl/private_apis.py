"""Every part of PyTorch and TorchRL used here that is not documented for use, because it may change without notice.

There is no public way to the same for any of them. ``tests/rl/test_private_apis.py`` says which one has changed.
"""

from collections.abc import Callable
from typing import Any, Self, cast

import torch
from jaxtyping import Float
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.envs import EnvBase

StepHook = Callable[[TensorDictBase, TensorDictBase], tuple[TensorDictBase, TensorDictBase]]


def after_each_step(env: EnvBase, hook: StepHook) -> None:
    """Have ``hook`` see every step of ``env``, and what follows it, before the reset that may come between the two.

    It comes after the hook of the environment's class and replaces one given here before. A collector's public hooks
    see whole batches only, stacked already.
    """
    own: Any = type(env)._post_step_mdp_hooks

    def both(step: TensorDictBase, following: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        return hook(*own(env, step, following))

    env._post_step_mdp_hooks = hook if own is None else both


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether calling ``module`` or one of its parts runs more than their ``forward``."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


class TakesAlong(nn.Module):
    """A module that, where it is moved or cast, takes along one that is no part of it.

    Who moves a module moves its parts by ``_apply``, and calls no public method of theirs.
    """

    def companion(self) -> nn.Module | None:
        """The module to take along, if any."""
        return None

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        companion = self.companion()
        if companion is not None:
            companion._apply(fn, recurse)
        return super()._apply(fn, recurse)


def tanh_backward(gradient: Float[Tensor, "*shape"], hidden: Float[Tensor, "*shape"]) -> Tensor:
    """``gradient`` times the derivative of the hyperbolic tangent whose value is ``hidden``, in one pass."""
    return cast(Tensor, torch.ops.aten.tanh_backward(gradient, hidden))


def tanh_backward_(gradient: Float[Tensor, "*shape"], hidden: Float[Tensor, "*shape"]) -> Tensor:
    """The same in place, without a record."""
    return cast(Tensor, torch.ops.aten.tanh_backward.grad_input(gradient, hidden, grad_input=gradient))
