"""The critic's regression on its value targets: minibatch epochs, then the exact fit of its last layer."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from jaxtyping import Float
from tensordict import TensorDictBase
from torch import Generator, Tensor
from torch.nn import functional as F
from torchrl.modules import ValueOperator

from perturbrl import schema
from perturbrl.rl.flat import FlatGradient, FlatLayout
from perturbrl.rl.minibatches import Minibatches
from perturbrl.rl.perceptron import affine, layers_of, pull_back
from perturbrl.rl.processes import Processes

RIDGE: Final = 1e-6


@torch.no_grad()
def critic_epochs(
    critic: ValueOperator,
    take_step: Callable[[], object],
    batch: TensorDictBase,
    minibatches: Minibatches,
    *,
    epochs: int,
    max_grad_norm: float | None,
    generator: Generator,
) -> float:
    """Regress the critic on ``value_target``; the mean squared error of the last epoch.

    A minibatch whose gradient is not finite changes nothing and shows in the error.
    """
    layout = FlatLayout([p for p in critic.parameters() if p.requires_grad])
    squared_error, gradient = _squared_error(critic, layout), FlatGradient(layout, minibatches.processes)
    observation, target = batch[schema.OBSERVATION], batch[schema.VALUE_TARGET]
    error = 0.0
    for _ in range(epochs):
        error = 0.0
        for rows, n_rows in minibatches.epoch(generator):
            chosen = observation.index_select(0, rows), target.index_select(0, rows)
            total, norm = gradient.sum_up(squared_error(gradient.start(), *chosen))
            if gradient.clip(norm / n_rows, max_grad_norm, scale=1 / n_rows):
                take_step()
            error += total / minibatches.total_rows
    return error


def _squared_error(
    critic: ValueOperator, layout: FlatLayout
) -> Callable[[Sequence[Tensor], Tensor, Tensor], Float[Tensor, ""]]:
    """Σ (V − target)², whose gradient is added to views in the parameters' shapes; by hand for a perceptron."""
    layers = layers_of(critic.module)

    def recorded(views: Sequence[Tensor], observation: Tensor, target: Tensor) -> Float[Tensor, ""]:
        with torch.enable_grad():
            total = F.mse_loss(critic.module(observation), target, reduction="sum")
            gradients = torch.autograd.grad(total, layout.parameters)
        for view, gradient in zip(views, gradients, strict=True):
            view.add_(gradient)
        return total.detach()

    mixed = torch.is_autocast_enabled(layout.parameters[0].device.type)
    if mixed or layers is None or len(layout.parameters) != 2 * len(layers.linears):
        return recorded
    weights, head = [linear.weight.detach() for linear in layers.linears], layers.linears[-1]

    def by_hand(views: Sequence[Tensor], observation: Tensor, target: Tensor) -> Float[Tensor, ""]:
        inputs, slopes = layers.features(layers.normalised(observation))
        residual = affine(inputs[-1], head.weight, head.bias).sub_(target)
        pull_back(weights, inputs, slopes, 2 * residual, list(zip(views[::2], views[1::2], strict=True)))
        return residual.square_().sum()

    return by_hand


@torch.no_grad()
def refit_head(critic: ValueOperator, batch: TensorDictBase, processes: Processes) -> None:
    """Set the critic's last layer to the ridge regression of ``value_target`` on its hidden features.

    Gradient epochs leave a residual that stays as the advantages shrink with the policy's standard deviation; the exact
    fit leaves a tenth of it (docs/decisions.md).
    """
    body, head = critic.module[:-1], critic.module[-1]
    hidden, target = body(batch[schema.OBSERVATION]).double(), batch[schema.VALUE_TARGET].double()
    features = torch.cat((hidden, torch.ones_like(hidden[..., :1])), dim=-1)
    gram, moment = processes.sum(features.T @ features), processes.sum(features.T @ target)
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    solution = torch.linalg.solve(gram, moment)
    if bool(solution.isfinite().all()):
        head.weight.copy_(solution[:-1].T)
        head.bias.copy_(solution[-1])
