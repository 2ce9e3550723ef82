"""The bonus climbs the entropy at first order, and nothing else."""

import pytest
import torch
from tensordict import TensorDict

from perturbrl.rl.exploration import add_entropy_bonus
from perturbrl.rl.policies import categorical_actor, gaussian_actor


def collected(actor, width: int, n: int) -> TensorDict:
    torch.manual_seed(0)
    batch = TensorDict({"observation": torch.randn(n, width)}, batch_size=n)
    with torch.no_grad():
        batch = actor.get_dist_params(batch)
        batch["action"] = actor.build_dist_from_params(batch).sample()
    return batch.set("advantage", torch.zeros(n, 1))


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_its_gradient_is_that_of_the_entropy(kind: str) -> None:
    n = 200_000
    torch.manual_seed(1)
    if kind == "categorical":
        actor = categorical_actor(2, 4, ())
    else:
        actor = gaussian_actor(2, torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]), ())
    for parameter in actor.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    batch = add_entropy_bonus(collected(actor, 2, n), actor, 0.7)
    parameters = list(actor.parameters())
    dist = actor.get_dist(batch.select("observation"))
    surrogate = (dist.log_prob(batch["action"]) * batch["advantage"].squeeze(-1)).mean()
    found = torch.autograd.grad(surrogate, parameters, retain_graph=True, allow_unused=True)
    wanted = torch.autograd.grad(0.7 * dist.entropy().mean(), parameters, allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        b = torch.zeros_like(a) if b is None else b
        torch.testing.assert_close(a, b, atol=0.01, rtol=0.02)


def test_it_has_no_mean_and_no_weight_is_no_change() -> None:
    actor = categorical_actor(2, 5, (8,))
    batch = collected(actor, 2, 50_000)
    before = batch["advantage"]
    assert add_entropy_bonus(batch, actor, 0.0)["advantage"] is before
    after = add_entropy_bonus(batch, actor, 1.0)["advantage"]
    assert float(after.mean()) == pytest.approx(0.0, abs=0.01)
    dist = actor.build_dist_from_params(batch)
    torch.testing.assert_close(after[:, 0], -dist.log_prob(batch["action"]) - dist.entropy())
