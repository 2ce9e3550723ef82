"""One hyperbolic tangent: exact to round-off, with derivatives of every kind."""

import pytest
import torch
from torch import Tensor, nn

from perturbrl.rl.tanh import Tanh, tanh_


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_relative_error_is_round_off_at_any_size(dtype: torch.dtype) -> None:
    magnitude = torch.logspace(-30, torch.tensor(20.0).log10().item(), 200_001, dtype=torch.float64)
    x = torch.cat((magnitude, -magnitude)).to(dtype)
    exact = x.double().tanh()
    relative = (tanh_(x.clone()).double() - exact) / exact
    assert relative.abs().max() <= 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_limits_are_limits(dtype: torch.dtype) -> None:
    limits = torch.tensor([torch.inf, -torch.inf, 1e30, -1e30, 100.0, 0.0, torch.nan], dtype=dtype)
    found = tanh_(limits)
    assert found[:6].tolist() == [1.0, -1.0, 1.0, -1.0, 1.0, 0.0]
    assert found[6].isnan()


def test_a_number_has_one_tangent_wherever_it_lies() -> None:
    x = 3 * torch.randn(1000, 7)
    whole = tanh_(x.clone())
    assert torch.equal(whole, Tanh()(x))
    for start in range(50):
        some = slice(start, start + 1 + start % 13)
        assert torch.equal(whole[some], tanh_(x[some].clone()))
    assert torch.equal(whole.t(), tanh_(x.clone().t()))


def test_what_it_leaves_alone_it_leaves_alone() -> None:
    x = torch.randn(5, requires_grad=True)
    before = x.detach().clone()
    Tanh()(x)
    assert torch.equal(x, before)


def test_other_number_formats_are_torchs() -> None:
    x = torch.randn(100).bfloat16()
    assert torch.equal(tanh_(x.clone()), x.tanh())


def test_derivatives_backward_forward_and_twice_are_right() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    layer = Tanh()
    assert torch.autograd.gradcheck(layer, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(layer, x)
    direction = torch.randn(4, 3, dtype=torch.float64)

    def value(at: Tensor) -> Tensor:
        return (layer(at) * direction).sum()

    def torchs(at: Tensor) -> Tensor:
        return (at.tanh() * direction).sum()

    at = x.detach()
    for transform in (torch.func.grad, torch.func.hessian, lambda f: torch.func.jacrev(torch.func.jacfwd(f))):
        torch.testing.assert_close(transform(value)(at), transform(torchs)(at))
    torch.testing.assert_close(
        torch.func.vmap(torch.func.grad(lambda v: layer(v).sum()))(at), 1 - at.tanh() ** 2
    )
    for in_dim in (0, 1):
        torch.testing.assert_close(torch.func.vmap(layer, in_dims=in_dim, out_dims=in_dim)(at), at.tanh())


def test_it_is_a_layer_like_torchs() -> None:
    x = torch.randn(10, 3)
    torch.testing.assert_close(nn.Sequential(nn.Linear(3, 2), Tanh())[1](x), x.tanh())
