"""Fisher-vector products of a policy as generalised Gauss-Newton products H v = Jᵀ F J v.

J is the Jacobian of the action distribution's parameters with respect to the policy's weights, F the closed-form
Fisher matrix of the distribution (``perturbrl.rl.distributions``). H is the Hessian at the current weights of the
KL divergence from the current policy, and positive semi-definite by construction (Schraudolph 2002; Martens
2020, section 8). Two forms, equal to round-off:

- ``MLPLinearisation``: for multilayer perceptrons, forward tangent and backward pass written out by hand on
  cached activations.
- ``ModuleLinearisation``: for any other module, ``torch.func.linearize`` once and a retained backward pass.

Both give sums over states, so that ranks with unequal batches add up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from jaxtyping import Float
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.modules import ProbabilisticActor

from perturbrl.rl.distributions import (
    ActionDistribution,
    Cotangents,
    distribution_of,
)
from perturbrl.rl.policies import GaussianMLP

Vector = Float[Tensor, " parameters"]

# States handled at a time: tangents of one block stay in the processor's cache.
BLOCK: Final = 2048

ELEMENTWISE: Final = (
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


class FlatLayout:
    """Where each parameter lies in one flat vector."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._sizes = [parameter.numel() for parameter in self.parameters]
        self._position = {id(parameter): k for k, parameter in enumerate(self.parameters)}

    def gather(self) -> Vector:
        """The parameters' values as a new flat vector."""
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])

    def views(self, flat: Vector) -> list[Tensor]:
        """Views of ``flat`` in the parameters' shapes."""
        pieces = flat.split(self._sizes)
        return [piece.view(p.shape) for piece, p in zip(pieces, self.parameters, strict=True)]

    def assign(self, flat: Vector) -> None:
        """Copy ``flat`` into the parameters."""
        torch._foreach_copy_([parameter.detach() for parameter in self.parameters], self.views(flat))

    def position(self, parameter: nn.Parameter) -> int:
        """Which of the parameters this one is."""
        return self._position[id(parameter)]


class PolicyLinearisation(Protocol):
    """A policy's action distributions over a batch, and their derivative with respect to the weights."""

    distribution: ActionDistribution

    def fisher_product(self, v: Vector) -> Vector:
        """Jᵀ F J v, summed over states."""

    def pull_back(self, cotangents: Cotangents) -> Vector:
        """Jᵀ applied to one cotangent per state and parameter of the distribution."""


@dataclass(frozen=True)
class MLPStructure:
    """Linear layers with elementwise activations between them, and what the last output means.

    ``gaussian`` is the module around the layers where the output is the mean of a Gaussian, and None where the
    output is a vector of logits.
    """

    linears: list[nn.Linear]
    activations: list[nn.Module]
    gaussian: GaussianMLP | None


def mlp_structure(actor: ProbabilisticActor) -> MLPStructure | None:
    """The layers of an actor whose Fisher product can be written out by hand, or None for any other module."""
    modules = list(actor.module)
    if len(modules) != 2 or type(modules[0]) is not TensorDictModule or len(actor.in_keys) != 1:
        return None
    network = modules[0].module
    gaussian = network if type(network) is GaussianMLP else None
    trunk = network.trunk if gaussian is not None else network
    if type(trunk) is not nn.Sequential:
        return None
    linears, activations = list(trunk)[::2], list(trunk)[1::2]
    alternate = len(linears) == len(activations) + 1
    known = all(type(m) is nn.Linear and m.bias is not None for m in linears)
    known = known and all(type(m) in ELEMENTWISE for m in activations)
    parameters = list(actor.parameters())
    trained = all(p.requires_grad for p in parameters) and len(parameters) == 2 * len(linears) + bool(
        gaussian
    )
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in actor.modules())
    return (
        MLPStructure(linears, activations, gaussian)
        if alternate and known and trained and not hooked
        else None
    )


class MLPLinearisation:
    """The derivative of a multilayer perceptron's action distribution, on cached activations."""

    def __init__(
        self, structure: MLPStructure, layout: FlatLayout, observation: Tensor, template: ActionDistribution
    ) -> None:
        self._structure, self._layout = structure, layout
        self._inputs, self._slopes = [observation], []
        for linear, activation in zip(structure.linears, structure.activations, strict=False):
            hidden, slope = _activate(activation, linear(self._inputs[-1]))
            self._inputs.append(hidden)
            self._slopes.append(slope)
        output = structure.linears[-1](self._inputs[-1])
        self.distribution = template.with_parameters(_parameters_from(structure.gaussian, output))
        self._slots = [
            layout.position(p) for linear in structure.linears for p in (linear.weight, linear.bias)
        ]

    def fisher_product(self, v: Vector) -> Vector:
        """Jᵀ F J v, summed over states."""
        tangents = self._in_order(v)
        weights = [linear.weight.detach() for linear in self._structure.linears]
        result = torch.zeros_like(v)
        gradients = self._in_order(result)
        gaussian = self._structure.gaussian
        if gaussian is not None:
            # In units of the standard deviation the Fisher matrix of the mean is the identity.
            whiten = (-gaussian.log_std.detach()).exp()
            weights[-1] = weights[-1] * whiten[:, None]
            tangents[-2:] = [tangents[-2] * whiten[:, None], tangents[-1] * whiten]
        for start in range(0, self._inputs[0].shape[0], BLOCK):
            rows = slice(start, start + BLOCK)
            output = self._push_forward(rows, weights, tangents)
            if gaussian is None:
                (output,) = self.distribution[rows].fisher((output,))
            self._pull_back(rows, weights, output, gradients)
        if gaussian is not None:
            gradients[-2].mul_(whiten[:, None])
            gradients[-1].mul_(whiten)
            slot = self._layout.position(gaussian.log_std)
            log_std = self._layout.views(result)[slot]
            log_std.copy_(2 * self._inputs[0].shape[0] * self._layout.views(v)[slot])
        return result

    def pull_back(self, cotangents: Cotangents) -> Vector:
        """Jᵀ applied to one cotangent per state and parameter of the distribution."""
        weights = [linear.weight.detach() for linear in self._structure.linears]
        result = weights[0].new_zeros(sum(p.numel() for p in self._layout.parameters))
        gradients = self._in_order(result)
        output = cotangents[0]
        gaussian = self._structure.gaussian
        if gaussian is not None:
            output = output * gaussian.action_scale
            slot = self._layout.position(gaussian.log_std)
            self._layout.views(result)[slot].copy_(cotangents[1] * self.distribution.parameters[1])
        for start in range(0, output.shape[0], BLOCK):
            rows = slice(start, start + BLOCK)
            self._pull_back(rows, weights, output[rows], gradients)
        return result

    def _in_order(self, flat: Vector) -> list[Tensor]:
        views = self._layout.views(flat)
        return [views[slot] for slot in self._slots]

    def _push_forward(self, rows: slice, weights: list[Tensor], tangents: list[Tensor]) -> Tensor:
        tangent = self._inputs[0].new_empty(0)
        for k, weight in enumerate(weights):
            out = torch.addmm(tangents[2 * k + 1], self._inputs[k][rows], tangents[2 * k].t())
            if k > 0:
                out.addmm_(tangent, weight.t())
            tangent = out.mul_(self._slopes[k][rows]) if k < len(self._slopes) else out
        return tangent

    def _pull_back(self, rows: slice, weights: list[Tensor], output: Tensor, gradients: list[Tensor]) -> None:
        for k in reversed(range(len(weights))):
            gradients[2 * k].addmm_(output.t(), self._inputs[k][rows])
            gradients[2 * k + 1].add_(output.sum(0))
            if k > 0:
                output = (output @ weights[k]).mul_(self._slopes[k - 1][rows])


def _activate(activation: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """An elementwise activation and its derivative."""
    if type(activation) is nn.Tanh:
        hidden = z.tanh()
        return hidden, 1 - hidden.square()
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        hidden = activation(z)
        (slope,) = torch.autograd.grad(hidden.sum(), z)
    return hidden.detach(), slope


def _parameters_from(gaussian: GaussianMLP | None, output: Tensor) -> tuple[Tensor, ...]:
    if gaussian is None:
        return (output,)
    loc = gaussian.action_loc + gaussian.action_scale * output
    return loc, gaussian.action_scale * gaussian.log_std.detach().exp()


class _DistributionParameters(nn.Module):
    def __init__(self, actor: ProbabilisticActor) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, batch: TensorDictBase) -> tuple[Tensor, ...]:
        return distribution_of(self.actor, batch).parameters


class ModuleLinearisation:
    """The derivative of any module's action distribution, by forward- and reverse-mode differentiation."""

    def __init__(self, actor: ProbabilisticActor, layout: FlatLayout, batch: TensorDictBase) -> None:
        module = _DistributionParameters(actor)
        slots = {id(p): name for name, p in module.named_parameters()}
        names = [slots[id(p)] for p in layout.parameters]

        def parameters(flat: Tensor) -> tuple[Tensor, ...]:
            weights = dict(zip(names, layout.views(flat), strict=True))
            return torch.func.functional_call(module, weights, (batch,))

        self._flat = layout.gather().requires_grad_()
        with torch.enable_grad():
            self._outputs = parameters(self._flat)
        self.distribution = distribution_of(actor, batch).with_parameters(self._outputs).detached()
        self._jvp = torch.func.linearize(parameters, self._flat.detach())[1]

    def fisher_product(self, v: Vector) -> Vector:
        """Jᵀ F J v, summed over states."""
        return self.pull_back(self.distribution.fisher(self._jvp(v)))

    def pull_back(self, cotangents: Cotangents) -> Vector:
        """Jᵀ applied to one cotangent per state and parameter of the distribution."""
        (gradient,) = torch.autograd.grad(self._outputs, self._flat, cotangents, retain_graph=True)
        return gradient


def linearise(actor: ProbabilisticActor, layout: FlatLayout, batch: TensorDictBase) -> PolicyLinearisation:
    """The actor's action distributions in the states of ``batch``, with products by their derivative.

    ``layout`` holds the actor's trainable parameters. The actor must compute the same distribution each time it
    sees a state: no dropout, no batch normalisation in training mode.
    """
    structure = mlp_structure(actor)
    if structure is None:
        return ModuleLinearisation(actor, layout, batch)
    flat_batch = batch.select(*actor.in_keys).reshape(-1)
    template = distribution_of(actor, flat_batch[:8]).detached()
    return MLPLinearisation(structure, layout, flat_batch[actor.in_keys[0]], template)
