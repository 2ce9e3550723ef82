"""Each private part of a dependency is there and does what is asked of it; a failure names the part."""

import torch
from linear_twin import linear_env, normal
from torch import nn
from torchrl.envs import EnvBase, RewardSum, TransformedEnv

from perturbrl.rl.private_apis import (
    TakesAlong,
    after_each_step,
    has_forward_hooks,
    tanh_backward,
    tanh_backward_,
)

SEE = "see perturbrl/rl/private_apis.py for what it was used for"


def env():
    return linear_env(normal(3, 2), torch.ones(2), n_cells=4, horizon=2)


def test_environments_have_a_hook_between_a_step_and_its_reset():
    assert hasattr(EnvBase, "_post_step_mdp_hooks"), f"torchrl's EnvBase has lost _post_step_mdp_hooks; {SEE}"
    for made in (env(), TransformedEnv(env(), RewardSum())):
        seen = []

        def hook(step, following, seen=seen):
            seen.append((step, following))
            return step, following

        after_each_step(made, hook)
        following = made.reset()
        for _ in range(5):
            _, following = made.step_and_maybe_reset(made.rand_action(following))
        assert len(seen) == 5, f"torchrl no longer calls _post_step_mdp_hooks once per step; {SEE}"
        assert all(step["next"].shape == following["observation"].shape[:1] for step, following in seen)


def test_the_class_s_own_hook_comes_first_and_a_later_one_replaces_ours(monkeypatch):
    made, order = env(), []
    monkeypatch.setattr(type(made), "_post_step_mdp_hooks", lambda self, *both: order.append("own") or both)
    for name in ("before", "ours"):
        after_each_step(made, lambda *both, name=name: order.append(name) or both)
    made.step_and_maybe_reset(made.rand_action(made.reset()))
    assert order == ["own", "ours"]


def test_modules_show_their_forward_hooks():
    module = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    for name in ("_forward_hooks", "_forward_pre_hooks"):
        assert hasattr(module, name), f"torch's Module has lost {name}; {SEE}"
    assert not has_forward_hooks(module)
    for register in (module[0].register_forward_hook, module[1].register_forward_pre_hook):
        handle = register(lambda *_: None)
        assert has_forward_hooks(module), f"torch keeps forward hooks elsewhere now; {SEE}"
        handle.remove()
        assert not has_forward_hooks(module)


def test_a_module_takes_along_one_that_is_no_part_of_it():
    class Owner(TakesAlong):
        def __init__(self, other):
            super().__init__()
            self.others = [other]

        def companion(self):
            return self.others[0]

    assert hasattr(nn.Module, "_apply"), f"torch's Module has lost _apply; {SEE}"
    other = nn.Linear(2, 2)
    whole = nn.Sequential(Owner(other))
    assert not list(whole.parameters())
    whole.to(torch.float64)
    assert other.weight.dtype == torch.float64, (
        f"torch's Module moves its parts otherwise than by _apply; {SEE}"
    )


def test_the_fused_derivative_of_tanh_is_there():
    assert hasattr(torch.ops.aten, "tanh_backward"), f"torch.ops.aten has lost tanh_backward; {SEE}"
    x, gradient = torch.randn(6, 3), torch.randn(6, 3)
    wanted = gradient * (1 - x.tanh().square())
    torch.testing.assert_close(tanh_backward(gradient, x.tanh()), wanted)
    ours = gradient.clone()
    assert tanh_backward_(ours, x.tanh()) is ours
    torch.testing.assert_close(ours, wanted)
