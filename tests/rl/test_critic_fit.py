import pytest
import torch
from linear_twin import normal
from tensordict import TensorDict

from perturbrl.rl.critic_fit import critic_epochs, refit_head
from perturbrl.rl.minibatches import Minibatches
from perturbrl.rl.policies import critic
from perturbrl.rl.processes import ALONE, Processes

ROWS, WIDTH = 40, 3


def fit_critic(target, epochs=200):
    torch.manual_seed(0)
    value = critic(WIDTH, (16,))
    batch = TensorDict({"observation": normal(ROWS, WIDTH), "value_target": target}, batch_size=[ROWS])
    optimizer = torch.optim.Adam(value.parameters(), 0.01)
    error = critic_epochs(
        value,
        optimizer.step,
        batch,
        Minibatches(ROWS, 16),
        epochs=epochs,
        max_grad_norm=1.0,
        generator=torch.Generator().manual_seed(0),
    )
    return value, error


def test_the_critic_learns_its_targets():
    target = normal(ROWS, WIDTH)[:, :1] * 2.0
    value, error = fit_critic(target)
    assert error < 0.05 * target.var()
    left = (value.module(normal(ROWS, WIDTH)) - target).square().mean().item()
    assert error == pytest.approx(left, rel=0.5)


def test_targets_that_are_not_finite_show_in_the_error_and_spare_the_critic():
    target = torch.zeros(ROWS, 1)
    target[0] = float("nan")
    value, error = fit_critic(target, epochs=2)
    assert error != error
    assert all(p.isfinite().all() for p in value.parameters())


def test_the_critics_head_is_the_regression_on_its_features():
    value = critic(WIDTH, (8,))
    observation = torch.randn(200, WIDTH)
    with torch.no_grad():
        truth = value.module[:-1](observation) @ torch.arange(8.0)[:, None] + 3.0
    batch = TensorDict({"observation": observation, "value_target": truth}, [200])
    refit_head(value, batch, ALONE)
    assert torch.allclose(value.module(observation), truth, atol=1e-2)
    once = value.module[-1].weight.detach().clone()
    refit_head(value, batch, Processes(lambda total: 2 * total))
    assert torch.allclose(value.module[-1].weight, once, atol=1e-3)
