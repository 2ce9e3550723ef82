"""Linear layers with elementwise activations between them: a forward pass and its transpose, written out by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from perturbrl.rl.normalisation import ObservationNormaliser
from perturbrl.rl.private_apis import has_forward_hooks, tanh_backward_
from perturbrl.rl.tanh import Tanh, tanh_

ELEMENTWISE: Final = (
    Tanh,
    nn.Tanh,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.SiLU,
    nn.GELU,
    nn.Softplus,
    nn.Sigmoid,
    nn.Identity,
)


@dataclass(frozen=True)
class Slope:
    """The derivative of an elementwise activation, ``[rows, width]``.

    Attributes:
        values: the derivative, or for tanh the activation itself, from which one fused pass gets there.
        of_tanh: which of the two it is.
    """

    values: Tensor
    of_tanh: bool

    def times_(self, x: Tensor) -> Tensor:
        """Multiply in place."""
        if self.of_tanh:
            return tanh_backward_(x, self.values)
        return x.mul_(self.values)

    def dense(self) -> Tensor:
        """The derivative's values."""
        return 1 - self.values.square() if self.of_tanh else self.values

    def __getitem__(self, rows: slice) -> "Slope":
        """The derivative in some of the rows."""
        return Slope(self.values[rows], self.of_tanh)


@dataclass(frozen=True)
class Layers:
    """A perceptron's parts: what observations pass first, where anything, linear layers and the activations between."""

    normaliser: ObservationNormaliser | None
    linears: list[nn.Linear]
    activations: list[nn.Module]

    def normalised(self, observation: Tensor) -> Tensor:
        """What the first linear layer sees."""
        return observation if self.normaliser is None else self.normaliser(observation)

    def features(self, first: Tensor) -> tuple[list[Tensor], list[Slope]]:
        """The input of each layer, of which ``first`` is the first, and the slope of each activation."""
        inputs, slopes = [first], list[Slope]()
        for linear, activation in zip(self.linears, self.activations, strict=False):
            hidden, slope = _activate(activation, affine(inputs[-1], linear.weight, linear.bias))
            inputs.append(hidden)
            slopes.append(slope)
        return inputs, slopes


def layers_of(module: nn.Module) -> Layers | None:
    """The parts of a perceptron, or None for any other module."""
    if type(module) is not nn.Sequential:
        return None
    parts: list[Any] = list(module)
    normaliser = parts.pop(0) if parts and isinstance(parts[0], ObservationNormaliser) else None
    linears, activations = parts[::2], parts[1::2]
    known = (
        len(linears) == len(activations) + 1
        and all(type(m) is nn.Linear and m.bias is not None for m in linears)
        and all(type(m) in ELEMENTWISE and not getattr(m, "inplace", False) for m in activations)
        and not has_forward_hooks(module)
    )
    return Layers(normaliser, linears, activations) if known else None


def pull_back(
    weights: Sequence[Tensor],
    inputs: Sequence[Tensor],
    slopes: Sequence[Slope],
    output: Tensor,
    gradients: Sequence[tuple[Tensor, Tensor]],
) -> None:
    """Add to each layer's (weight, bias) gradient what a cotangent of the output gives."""
    for k in reversed(range(len(weights))):
        gradients[k][0].addmm_(output.t(), inputs[k])
        gradients[k][1].add_(output.sum(0))
        if k > 0:
            output = slopes[k - 1].times_(output @ weights[k])


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer's output, ``[rows, width]``, without a record of how it came about."""
    return torch.addmm(bias.detach(), x, weight.detach().t())


def _activate(activation: nn.Module, z: Tensor) -> tuple[Tensor, Slope]:
    """An elementwise activation of a fresh tensor, and its derivative."""
    if type(activation) in (Tanh, nn.Tanh):
        hidden = tanh_(z) if type(activation) is Tanh else z.tanh_()
        return hidden, Slope(hidden, of_tanh=True)
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        hidden = activation(z)
        (slope,) = torch.autograd.grad(hidden.sum(), z)
    return hidden.detach(), Slope(slope, of_tanh=False)
