import pytest
import torch
from toy_policies import ACTORS, collect, make_actor

from perturbrl.rl.flat import FlatLayout
from perturbrl.rl.policy_pass import PolicyRows, policy_passes
from perturbrl.rl.ppo_kl import PPOKLLoss
from perturbrl.rl.processes import ALONE


@pytest.mark.parametrize("kind", sorted(ACTORS))
@pytest.mark.parametrize("clip", [None, 0.1])
def test_the_closed_form_gradient_is_that_of_automatic_differentiation(kind, clip):
    actor = make_actor(kind, 0, torch.float64)
    batch = collect(actor, 12)
    batch = batch.reshape(-1)
    batch["advantage"] = torch.randn(len(batch), 1, dtype=torch.float64)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    loss, layout = PPOKLLoss(actor, clip), FlatLayout(list(actor.parameters()))
    terms = loss.terms(batch)
    gradients = torch.autograd.grad(loss.loss(terms, 0.7, len(batch)), layout.parameters)
    expected = torch.cat([gradient.reshape(-1) for gradient in gradients])
    rows = PolicyRows.of(actor, batch)
    with torch.no_grad():
        policy = policy_passes(actor, layout, rows.inputs, ALONE)(rows.inputs)
        kl, cotangents = loss.kl_and_gradient(rows, policy.distribution, 0.7, len(batch))
        found = torch.zeros(layout.size, dtype=torch.float64)
        policy.pull_back_into(layout.views(found), cotangents)
    torch.testing.assert_close(kl, terms.kl.detach())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", sorted(ACTORS))
def test_some_rows_are_what_indexing_gives(kind):
    actor = make_actor(kind, 0, torch.float64)
    batch = collect(actor, 9).reshape(-1)
    batch["advantage"] = torch.randn(len(batch), 1, dtype=torch.float64)
    index = torch.tensor([4, 0, 7])
    found, expected = PolicyRows.of(actor, batch).take(index), PolicyRows.of(actor, batch[index])
    assert torch.equal(found.action, expected.action)
    assert torch.equal(found.advantage, expected.advantage)
    torch.testing.assert_close(found.old_log_prob, expected.old_log_prob)
    for one, other in zip(found.old.parameters, expected.old.parameters, strict=True):
        assert torch.equal(one.expand_as(found.old.parameters[0]), other.expand_as(found.old.parameters[0]))


def test_a_fixed_deviation_and_an_unused_weight_have_no_gradient():
    actor = make_actor("gaussian", 0, torch.float64)
    network = actor.module[0].module
    network.log_std.requires_grad_(False)
    network.spare = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    batch = collect(actor, 12).reshape(-1)
    loss = PPOKLLoss(actor)
    parameters = [p for p in actor.parameters() if p.requires_grad]
    used = [p for p in parameters if p is not network.spare]
    layout = FlatLayout(parameters)
    expected = torch.autograd.grad(loss.loss(loss.terms(batch), 0.7, len(batch)), used)
    rows = PolicyRows.of(actor, batch)
    with torch.no_grad():
        policy = policy_passes(actor, layout, rows.inputs, ALONE)(rows.inputs)
        _, cotangents = loss.kl_and_gradient(rows, policy.distribution, 0.7, len(batch))
        found = layout.views(torch.zeros(layout.size, dtype=torch.float64))
        policy.pull_back_into(found, cotangents)
    by_parameter = {id(p): g for p, g in zip(parameters, found, strict=True)}
    assert not by_parameter[id(network.spare)].any()
    for parameter, gradient in zip(used, expected, strict=True):
        torch.testing.assert_close(by_parameter[id(parameter)], gradient)
