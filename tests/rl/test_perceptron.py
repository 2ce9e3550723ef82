"""The pass written out by hand and its transpose are those of automatic differentiation."""

import pytest
import torch
from torch import nn

from perturbrl.rl.normalisation import ObservationNormaliser
from perturbrl.rl.perceptron import ELEMENTWISE, affine, layers_of, pull_back
from perturbrl.rl.processes import ALONE
from perturbrl.rl.tanh import Tanh


def network(activation: type[nn.Module], normaliser: ObservationNormaliser | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    first = [] if normaliser is None else [normaliser]
    return nn.Sequential(
        *first, nn.Linear(3, 5), activation(), nn.Linear(5, 4), activation(), nn.Linear(4, 2)
    )


@pytest.mark.parametrize("activation", ELEMENTWISE)
@pytest.mark.parametrize("normalised", [False, True])
def test_forward_and_transpose_are_those_of_autograd(activation: type[nn.Module], normalised: bool) -> None:
    normaliser = ObservationNormaliser(3) if normalised else None
    if normaliser is not None:
        normaliser.update(5 + 3 * torch.randn(50, 3), ALONE)
    module = network(activation, normaliser)
    layers = layers_of(module)
    assert layers is not None
    observation, cotangent = torch.randn(7, 3), torch.randn(7, 2)
    with torch.no_grad():
        inputs, slopes = layers.features(layers.normalised(observation))
        last = layers.linears[-1]
        output = affine(inputs[-1], last.weight, last.bias)
        parameters = list(module.parameters())
        gradients = [torch.zeros_like(p) for p in parameters]
        pairs = list(zip(gradients[::2], gradients[1::2], strict=True))
        pull_back([m.weight for m in layers.linears], inputs, slopes, cotangent.clone(), pairs)
    torch.testing.assert_close(output, module(observation).detach())
    wanted = torch.autograd.grad(module(observation), parameters, cotangent)
    for mine, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(3, 2),
        nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)),
    ],
)
def test_other_modules_are_not_taken_for_perceptrons(module: nn.Module) -> None:
    assert layers_of(module) is None


def test_a_hook_would_be_skipped_so_it_is_not_taken_either() -> None:
    module = network(nn.Tanh)
    module[0].register_forward_hook(lambda *_: None)
    assert layers_of(module) is None


@pytest.mark.parametrize("activation", [Tanh, nn.Tanh, nn.ReLU, nn.SiLU])
def test_equal_blocks_have_equal_activations_bit_for_bit(activation: type[nn.Module]) -> None:
    """Else the first ratio of a policy with itself is not 1."""
    module = network(activation)
    layers = layers_of(module)
    assert layers is not None
    block = 0.1 * torch.randn(37, 3)
    with torch.no_grad():
        hidden, _ = layers.features(block)
        assert torch.equal(hidden[1], module[:2](block))
        assert torch.equal(hidden[2], module[:4](block))
