import pytest
import torch
from dense_fisher import dense_fisher
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.modules import ProbabilisticActor
from toy_policies import ACTORS, collect, make_actor

from perturbrl.rl import fisher
from perturbrl.rl.fisher import MLPLinearisation, ModuleLinearisation, linearise
from perturbrl.rl.flat import FlatLayout
from perturbrl.rl.policies import independent_normal
from perturbrl.rl.processes import ALONE, Processes

KINDS = sorted(ACTORS)
BY_HAND = ["gaussian", "tanh_gaussian", "categorical", "bernoulli", "one_hot"]


def _linearise(actor, batch, layout):
    with torch.no_grad():
        return linearise(actor, layout, batch, ALONE)


@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(1, 6))
@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_product_equals_the_dense_fisher(kind, seed, n_states):
    actor = make_actor(kind, seed, torch.float64)
    batch = collect(actor, n_states, seed=seed)
    dense = dense_fisher(actor, batch)
    layout = FlatLayout(list(actor.parameters()))
    v, w = torch.randn(2, layout.size, dtype=torch.float64)
    with torch.no_grad():
        policies = [_linearise(actor, batch, layout), ModuleLinearisation(actor, layout, batch)]
        for policy in policies:
            hv, hw = policy.fisher_product(v), policy.fisher_product(w)
            assert (hv - dense @ v).norm() <= 1e-6 * (dense @ v).norm()
            torch.testing.assert_close(policy.fisher_product(2 * v - w), 2 * hv - hw)
            torch.testing.assert_close(w @ hv, v @ hw)
            assert float(v @ hv) >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_pull_back_of_the_score_is_the_policy_gradient(kind):
    actor = make_actor(kind, dtype=torch.float64)
    batch = collect(actor, 15)
    layout = FlatLayout(list(actor.parameters()))
    log_prob = actor.get_dist(batch).log_prob(batch["action"])
    expected = torch.autograd.grad((log_prob * batch["advantage"]).sum(), layout.parameters)
    policy = _linearise(actor, batch, layout)
    mine = policy.score(batch["action"], batch["advantage"])
    torch.testing.assert_close(mine, torch.cat([g.reshape(-1) for g in expected]))


@pytest.mark.parametrize("kind", BY_HAND)
def test_known_layers_are_done_by_hand(kind):
    actor = make_actor(kind)
    assert isinstance(
        _linearise(actor, collect(actor, 3), FlatLayout(list(actor.parameters()))), MLPLinearisation
    )


def _with_clamped_mean():
    actor = make_actor("gaussian")

    def clamped(loc, scale):
        return independent_normal(3 * loc, scale)

    return ProbabilisticActor(actor.module[0], in_keys=["loc", "scale"], distribution_class=clamped)


def _with_frozen_layer():
    actor = make_actor("gaussian")
    actor.module[0].module.trunk[0].weight.requires_grad_(False)
    return actor


def _with_hook():
    actor = make_actor("categorical")
    actor.module[0].module[0].register_forward_hook(lambda module, given, output: 2 * output)
    return actor


def _with_dropout_layer():
    network = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.0), nn.Linear(5, 3))
    return ProbabilisticActor(
        TensorDictModule(network, ["observation"], ["logits"]),
        in_keys=["logits"],
        distribution_class=torch.distributions.Categorical,
    )


@pytest.mark.parametrize("make", [_with_clamped_mean, _with_frozen_layer, _with_hook, _with_dropout_layer])
def test_anything_unusual_is_left_to_automatic_differentiation(make):
    actor = make()
    layout = FlatLayout([p for p in actor.parameters() if p.requires_grad])
    batch = TensorDict({"observation": torch.randn(3, 4)}, [3])
    assert isinstance(_linearise(actor, batch, layout), ModuleLinearisation)


def test_ranks_without_states_agree_on_the_form():
    actor = make_actor("gaussian")
    layout = FlatLayout(list(actor.parameters()))
    empty = collect(actor, 3)[:0]
    with torch.no_grad():
        assert isinstance(linearise(actor, layout, empty, ALONE), MLPLinearisation)
        elsewhere = linearise(actor, layout, empty, Processes(lambda total: total + 1))
    assert isinstance(elsewhere, ModuleLinearisation)


def test_blocks_add_up(monkeypatch):
    actor = make_actor("gaussian", dtype=torch.float64)
    layout = FlatLayout(list(actor.parameters()))
    policy = _linearise(actor, collect(actor, 23), layout)
    v = torch.randn(layout.size, dtype=torch.float64)
    whole = policy.fisher_product(v)
    monkeypatch.setattr(fisher, "BLOCK", 5)
    torch.testing.assert_close(policy.fisher_product(v), whole)


class _Attention(nn.Module):
    """A module with an operation that knows no forward-mode derivative of its own."""

    def __init__(self):
        super().__init__()
        self.embed, self.read = nn.Linear(1, 4), nn.Linear(4, 2)

    def forward(self, observation):
        tokens = self.embed(observation.unsqueeze(-1))
        mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.read(mixed.mean(-2))


def test_attention_works():
    torch.manual_seed(0)
    actor = ProbabilisticActor(
        TensorDictModule(_Attention(), ["observation"], ["logits"]),
        in_keys=["logits"],
        distribution_class=torch.distributions.Categorical,
    ).double()
    batch = TensorDict({"observation": torch.randn(5, 4, dtype=torch.float64)}, [5])
    layout = FlatLayout(list(actor.parameters()))
    v = torch.randn(layout.size, dtype=torch.float64)
    expected = dense_fisher(actor, batch) @ v
    torch.testing.assert_close(_linearise(actor, batch, layout).fisher_product(v), expected)


def test_layout_round_trip():
    actor = make_actor("gaussian")
    layout = FlatLayout(list(actor.parameters()))
    flat = layout.gather()
    layout.assign(flat + 1)
    torch.testing.assert_close(layout.gather(), flat + 1)
    layout.assign(flat)
    assert torch.equal(layout.gather(), flat)
