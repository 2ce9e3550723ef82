"""Fisher-vector products of a policy as generalised Gauss-Newton products H v = Jᵀ F J v.

J is the Jacobian of the action distribution's parameters with respect to the policy's weights, F the closed-form
Fisher matrix of the distribution (``perturbrl.rl.distributions``). H is the Hessian at the current weights of the
KL divergence from the current policy, and positive semi-definite by construction (Schraudolph 2002; Martens
2020, section 8). Two forms, equal to round-off:

- ``MLPLinearisation``: for multilayer perceptrons, forward tangent and backward pass written out by hand on
  cached activations.
- ``ModuleLinearisation``: for any other module, the retained backward pass and its transpose.

Both give sums over states, so that ranks with unequal batches add up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchrl.modules import ProbabilisticActor

from perturbrl.rl.actor_distributions import distribution_of
from perturbrl.rl.distributions import ActionDistribution, Cotangents
from perturbrl.rl.flat import FlatLayout, Vector
from perturbrl.rl.perceptron import Layers, affine, layers_of, pull_back
from perturbrl.rl.policies import GaussianMLP
from perturbrl.rl.private_apis import has_forward_hooks
from perturbrl.rl.processes import Processes

# States handled at a time, of which much stays in the cache.
BLOCK: Final = 4096


@dataclass(frozen=True)
class MLPStructure:
    """A perceptron's layers, what comes in, and what the last output means.

    ``gaussian`` is the module around the layers where the output is the mean of a Gaussian, and None where the
    output is a vector of logits.
    """

    in_key: NestedKey
    layers: Layers
    gaussian: GaussianMLP | None


def mlp_structure(actor: ProbabilisticActor) -> MLPStructure | None:
    """The layers of an actor whose Fisher product can be written out by hand, or None for any other module."""
    modules = list(actor.module)
    if len(modules) != 2 or type(modules[0]) is not TensorDictModule or len(actor.in_keys) != 1:
        return None
    network = modules[0].module
    gaussian = network if type(network) is GaussianMLP else None
    layers = layers_of(network.trunk if gaussian is not None else network)
    if layers is None:
        return None
    parameters = list(actor.parameters())
    known = (
        all(p.requires_grad for p in parameters)
        and len(parameters) == 2 * len(layers.linears) + (gaussian is not None)
        and not has_forward_hooks(actor)
    )
    return MLPStructure(actor.in_keys[0], layers, gaussian) if known else None


class MLPLinearisation:
    """The derivative of a multilayer perceptron's action distribution, on cached activations.

    ``tools/benchmark.py natural-step`` measures it against one forward and backward pass of the same policy. The
    Fisher matrix of a Gaussian is folded into the last layer's weights, which saves two passes over all actions.
    """

    def __init__(
        self, structure: MLPStructure, layout: FlatLayout, batch: TensorDictBase, template: ActionDistribution
    ) -> None:
        self._gaussian, self._layout, self._layers = structure.gaussian, layout, structure.layers
        linears = structure.layers.linears
        self.weights = [linear.weight.detach() for linear in linears]
        self._slots = [(layout.position(m.weight), layout.position(m.bias)) for m in linears]
        observation = batch[structure.in_key]
        rows = observation.reshape(-1, observation.shape[-1])
        self._inputs, self._slopes = self._layers.features(self._layers.normalised(rows))
        self._states = template.with_parameters(
            _parameters(structure.gaussian, self._inputs[-1], linears[-1])
        )
        first, *rest = self._states.parameters
        self.distribution = template.with_parameters((first.view(*batch.shape, first.shape[-1]), *rest))

    def fisher_product(self, v: Vector) -> Vector:
        """Jᵀ F J v, summed over states."""
        result = torch.zeros_like(v)
        weights, tangents, gradients = list(self.weights), self.in_order(v), self.in_order(result)
        if self._gaussian is not None:
            # In units of the standard deviation the Fisher matrix of the mean is the identity.
            whiten = (-self._gaussian.log_std.detach()).exp()
            weights[-1] = weights[-1] * whiten[:, None]
            tangents[-1] = (tangents[-1][0] * whiten[:, None], tangents[-1][1] * whiten)
        for rows in self._blocks():
            output = self._push_forward(rows, weights, tangents)
            if self._gaussian is None:
                (output,) = self._states[rows].fisher((output,))
            self._pull_back(rows, weights, output, gradients)
        if self._gaussian is not None:
            gradients[-1][0].mul_(whiten[:, None])
            gradients[-1][1].mul_(whiten)
            views, on_log_std = self._layout.views(result), self._log_std(self._layout.views(v))
            self._log_std(views).copy_(2 * self._inputs[0].shape[0] * on_log_std)
        return result

    def score(self, action: Tensor, weight: Tensor) -> Vector:
        """Gradient of Σ weight · log π(action) over states, each ``[states, ...]``."""
        result = self._inputs[0].new_zeros(self._layout.size)
        views = self._layout.views(result)
        for rows in self._blocks():
            self._add(views, rows, self._states[rows].score(action[rows], weight[rows]))
        return result

    def pull_back_into(self, views: Sequence[Tensor], cotangents: Cotangents) -> None:
        """Jᵀ applied to cotangents of the distributions, added to views of a flat vector in the parameters' shapes."""
        self._add(views, slice(None), cotangents)

    def _add(self, views: Sequence[Tensor], rows: slice, cotangents: Cotangents) -> None:
        output = cotangents[0].reshape(-1, cotangents[0].shape[-1])
        if self._gaussian is not None:
            output = output * self._gaussian.action_scale
            self._log_std(views).add_(cotangents[1] * self._states.parameters[1])
        self._pull_back(rows, self.weights, output, self._pairs(views))

    def current(self) -> Iterator[tuple[slice, ActionDistribution]]:
        """The distributions of the weights as they are now, some states at a time."""
        last = self._layers.linears[-1]
        for rows in self._blocks():
            inputs, _ = self._layers.features(self._inputs[0][rows])
            yield rows, self._states.with_parameters(_parameters(self._gaussian, inputs[-1], last))

    def in_order(self, flat: Vector) -> list[tuple[Tensor, Tensor]]:
        """Views of ``flat`` as the weight and bias of each layer."""
        return self._pairs(self._layout.views(flat))

    def _pairs(self, views: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return [(views[weight], views[bias]) for weight, bias in self._slots]

    def input_moments(self) -> list[Tensor]:
        """Σ over states of [h, 1]ᵀ[h, 1] for the input h of each layer."""
        return [_homogeneous_moment(hidden) for hidden in self._inputs]

    def slope_moments(self) -> list[Tensor]:
        """Σ over states of φ'φ'ᵀ for each activation."""
        return [values.t() @ values for values in (slope.dense() for slope in self._slopes)]

    def output_fisher(self) -> Tensor:
        """Σ over states of the Fisher matrix of the last layer's output."""
        total = self._states.total_fisher()
        if self._gaussian is None:
            return total
        scale = self._gaussian.action_scale
        return total * scale[:, None] * scale

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, self._inputs[0].shape[0], BLOCK):
            yield slice(start, start + BLOCK)

    def _log_std(self, views: Sequence[Tensor]) -> Tensor:
        assert self._gaussian is not None
        return views[self._layout.position(self._gaussian.log_std)]

    def _push_forward(
        self, rows: slice, weights: list[Tensor], tangents: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        (weight_change, bias_change), *deeper = tangents
        tangent = torch.addmm(bias_change, self._inputs[0][rows], weight_change.t())
        for k, (weight_change, bias_change) in enumerate(deeper):
            tangent = self._slopes[k][rows].times_(tangent)
            out = torch.addmm(bias_change, self._inputs[k + 1][rows], weight_change.t())
            tangent = out.addmm_(tangent, weights[k + 1].t())
        return tangent

    def _pull_back(
        self, rows: slice, weights: list[Tensor], output: Tensor, gradients: list[tuple[Tensor, Tensor]]
    ) -> None:
        inputs, slopes = [hidden[rows] for hidden in self._inputs], [slope[rows] for slope in self._slopes]
        pull_back(weights, inputs, slopes, output, gradients)


def _homogeneous_moment(hidden: Tensor) -> Tensor:
    total = hidden.sum(0)[:, None]
    count = hidden.new_full((1, 1), hidden.shape[0])
    return torch.cat([torch.cat([hidden.t() @ hidden, total], 1), torch.cat([total.t(), count], 1)])


def _parameters(gaussian: GaussianMLP | None, hidden: Tensor, last: nn.Linear) -> tuple[Tensor, ...]:
    """Logits, or mean and standard deviation, whose units are folded into the weights."""
    if gaussian is None:
        return (affine(hidden, last.weight, last.bias),)
    unit = gaussian.action_scale
    loc = affine(hidden, last.weight * unit[:, None], torch.addcmul(gaussian.action_loc, unit, last.bias))
    return loc, unit * gaussian.log_std.detach().exp()


class _DistributionParameters(nn.Module):
    def __init__(self, actor: ProbabilisticActor) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, batch: TensorDictBase) -> tuple[Tensor, ...]:
        return distribution_of(self.actor, batch).parameters


class ModuleLinearisation:
    """The derivative of any module's action distribution, by automatic differentiation.

    The product with Jᵀ is linear in its cotangent u, so its own transpose, a second backward pass with respect to
    u alone, is the product with J: the forward tangent, without a forward-mode rule for every operation. It is set up
    several times faster than ``torch.func.linearize`` and multiplies as fast (docs/decisions.md).
    """

    def __init__(self, actor: ProbabilisticActor, layout: FlatLayout, batch: TensorDictBase) -> None:
        self._actor, self._batch, module = actor, batch, _DistributionParameters(actor)
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        self._flat = layout.gather().requires_grad_()
        # The fused kernels of attention have no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            views = zip(layout.parameters, layout.views(self._flat), strict=True)
            weights = {names[id(parameter)]: view for parameter, view in views}
            outputs = torch.func.functional_call(module, weights, (batch,))
            self._live = [k for k, output in enumerate(outputs) if output.requires_grad]
            self._outputs = [outputs[k] for k in self._live]
            self._cotangents = [torch.zeros_like(output, requires_grad=True) for output in self._outputs]
            (self._pulled_back,) = torch.autograd.grad(
                self._outputs, self._flat, self._cotangents, create_graph=True
            )
        self.distribution = distribution_of(actor, batch).with_parameters(outputs).detached()

    def fisher_product(self, v: Vector) -> Vector:
        """Jᵀ F J v, summed over states."""
        tangents = [torch.zeros_like(parameter) for parameter in self.distribution.parameters]
        found = torch.autograd.grad(self._pulled_back, self._cotangents, v, retain_graph=True)
        for k, tangent in zip(self._live, found, strict=True):
            tangents[k] = tangent
        return self._pull_back(self.distribution.fisher(tuple(tangents)))

    def score(self, action: Tensor, weight: Tensor) -> Vector:
        """Gradient of Σ weight · log π(action) over states, each ``[states, ...]``."""
        return self._pull_back(self.distribution.score(action, weight))

    def current(self) -> Iterator[tuple[slice, ActionDistribution]]:
        """The distributions of the weights as they are now, of all states in one piece."""
        yield slice(None), distribution_of(self._actor, self._batch)

    def _pull_back(self, cotangents: Cotangents) -> Vector:
        wanted = [cotangents[k] for k in self._live]
        (gradient,) = torch.autograd.grad(self._outputs, self._flat, wanted, retain_graph=True)
        return gradient


def linearise(
    actor: ProbabilisticActor,
    layout: FlatLayout,
    batch: TensorDictBase,
    processes: Processes,
) -> MLPLinearisation | ModuleLinearisation:
    """The actor's action distributions in the states of ``batch``, with products by their derivative.

    The hand-written form is used where the layers are known and give the distributions that the actor itself
    gives, on every rank. The actor must compute the same distribution each time it sees a state: no dropout, no
    batch normalisation in training mode.

    Args:
        actor: a TorchRL actor.
        layout: the actor's trainable parameters.
        batch: ``[*batch]`` with the actor's inputs.
        processes: that must choose the same form.
    """
    known = hand_written(actor, layout, batch, processes)
    if known is not None:
        structure, template = known
        return MLPLinearisation(structure, layout, batch, template)
    return ModuleLinearisation(actor, layout, batch)


def hand_written(
    actor: ProbabilisticActor,
    layout: FlatLayout,
    batch: TensorDictBase,
    processes: Processes,
) -> tuple[MLPStructure, ActionDistribution] | None:
    """The actor's layers and kind of distribution, where they give on all ranks what the actor itself gives."""
    structure = mlp_structure(actor)
    if structure is None:
        return None
    few = batch.select(*actor.in_keys).reshape(batch.shape.numel())[:8]
    template = distribution_of(actor, few).detached()
    preview = MLPLinearisation(structure, layout, few, template).distribution
    differs = layout.parameters[0].new_tensor(float(not _same(template, preview)))
    return None if bool(processes.sum(differs)) else (structure, template)


def _same(one: ActionDistribution, other: ActionDistribution) -> bool:
    pairs = zip(one.canonical(), other.canonical(), strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in pairs)
