import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensordict import TensorDict
from torch import distributions as D
from torchrl.modules import MaskedCategorical, TanhNormal
from toy_policies import ACTORS, collect, make_actor

from perturbrl.errors import ConfigurationError
from perturbrl.rl.actor_distributions import as_action_distribution, distribution_of, kl_divergence

KINDS = sorted(ACTORS)


def _pair(kind, seed=0):
    """An actor, a batch, and its distributions before and after a change of the weights."""
    actor = make_actor(kind, seed, torch.float64)
    batch = collect(actor, 7, 2, seed=seed)
    with torch.no_grad():
        old = actor.get_dist(batch)
        frozen = distribution_of(actor, batch).detached()
        for parameter in actor.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        return actor, batch, old, frozen


@pytest.mark.parametrize("kind", KINDS)
def test_kl_and_ratio_agree_with_torch(kind):
    actor, batch, _, frozen = _pair(kind)
    new = actor.get_dist(batch)
    mine = as_action_distribution(new)
    old = frozen
    torch_old, torch_new = _torch(kind, old), _torch(kind, mine)
    torch.testing.assert_close(kl_divergence(old, new), D.kl_divergence(torch_old, torch_new))
    assert kl_divergence(old, new).shape == batch.shape
    before = actor_log_prob(kind, old, batch["action"])
    log_ratio = mine.log_prob(batch["action"]) - old.log_prob(batch["action"])
    torch.testing.assert_close(log_ratio, new.log_prob(batch["action"]) - before)


def _torch(kind, dist):
    """The same distribution out of torch.distributions, before any bijection."""
    if kind in ("categorical", "one_hot"):
        return D.Categorical(logits=dist.logits)
    if kind == "scored":
        return D.Categorical(logits=_scored_logits(dist))
    if kind == "bernoulli":
        return D.Independent(D.Bernoulli(logits=dist.logits), 1)
    return D.Independent(D.Normal(dist.loc, dist.scale), 1)


def _scored_logits(dist):
    """The formula, one choice of one state at a time."""
    logits = torch.full_like(dist.gains, -torch.inf)
    for at in (dist.gains > -torch.inf).nonzero().tolist():
        *state, choice = at
        weights, gain = dist.weights[tuple(state)], dist.gains[tuple(at)]
        logits[tuple(at)] = dist.sharpness * (
            (1 + weights[0]) * gain + (weights[1:] * dist.features[choice]).sum()
        )
    return logits


def actor_log_prob(kind, dist, action):
    if kind == "one_hot":
        return _torch(kind, dist).log_prob(action.long().argmax(-1))
    if kind == "tanh_gaussian":
        low, high = -torch.ones(3).double(), torch.tensor([1.0, 2.0, 0.5]).double()
        return TanhNormal(dist.loc, dist.scale.expand_as(dist.loc), low=low, high=high).log_prob(action)
    return _torch(kind, dist).log_prob(action)


@pytest.mark.parametrize("kind", KINDS)
def test_score_is_the_gradient_of_the_log_probability(kind):
    actor = make_actor(kind, dtype=torch.float64)
    batch = collect(actor, 9)
    dist = distribution_of(actor, batch).detached()
    weight = torch.randn(9, dtype=torch.float64)
    leaves = tuple(p.clone().requires_grad_() for p in dist.parameters)
    moved = dist.with_parameters(leaves)
    total = (moved.log_prob(batch["action"]) * weight).sum()
    for mine, theirs in zip(
        dist.score(batch["action"], weight), torch.autograd.grad(total, leaves), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_fisher_is_the_hessian_of_the_kl(kind):
    actor = make_actor(kind, dtype=torch.float64)
    dist = distribution_of(actor, collect(actor, 3)).detached()
    tangents = tuple(torch.randn_like(p) for p in dist.parameters)

    def gradient(*parameters):
        return torch.autograd.grad(
            dist.kl_to(dist.with_parameters(parameters)).sum(), parameters, create_graph=True
        )

    _, expected = torch.autograd.functional.jvp(gradient, dist.parameters, tangents)
    for mine, theirs in zip(dist.fisher(tangents), expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("kind", ["gaussian", "categorical", "bernoulli", "scored"])
def test_total_fisher_is_the_sum_of_the_states_matrices(kind):
    actor = make_actor(kind, dtype=torch.float64)
    dist = distribution_of(actor, collect(actor, 4)).detached()
    n = dist.parameters[0].shape[-1]
    rest = tuple(torch.zeros_like(p) for p in dist.parameters[1:])
    columns = [dist.fisher((torch.eye(n).double()[k].expand(4, n), *rest))[0].sum(0) for k in range(n)]
    torch.testing.assert_close(dist.total_fisher(), torch.stack(columns, 1))


@given(st.floats(-30, 30), st.floats(-30, 30))
@example(22.0, 21.0)
@settings(max_examples=50, deadline=None)
def test_kl_is_never_negative_and_zero_to_itself(one, other):
    old = as_action_distribution(D.Independent(D.Bernoulli(logits=torch.tensor([[one]]).double()), 1))
    new = old.with_parameters((torch.tensor([[other]]).double(),))
    assert float(old.kl_to(new)) >= -1e-12
    assert float(old.kl_to(old)) == 0


def test_masked_choices_do_not_spoil_the_kl():
    logits, mask = torch.randn(2, 3), torch.tensor([[True, True, False], [True, False, True]])
    old, new = MaskedCategorical(logits, mask=mask), MaskedCategorical(logits + torch.randn(2, 3), mask=mask)
    kl = kl_divergence(old, new)
    assert kl.isfinite().all()
    assert (kl > 0).all()


def test_detached_is_out_of_reach_of_the_weights():
    actor = make_actor("gaussian")
    batch = collect(actor, 3)
    with torch.no_grad():
        old = distribution_of(actor, batch).detached()
        before = old.scale.clone()
        actor.module[0].module.log_std.add_(1)
    assert torch.equal(old.scale, before)


def test_rows_can_be_taken():
    actor = make_actor("gaussian")
    dist = distribution_of(actor, collect(actor, 5)).detached()
    torch.testing.assert_close(dist[1:3].kl_to(dist[2:4]), dist.kl_to(dist[[0, 2, 3, 0, 0]])[1:3])


@pytest.mark.parametrize(
    "dist",
    [
        D.Independent(D.Laplace(torch.zeros(2, 3), torch.ones(2, 3)), 1),
        D.Normal(torch.zeros(2, 3), torch.ones(2, 3)),
        D.TransformedDistribution(
            D.Normal(torch.zeros(2, 3), torch.ones(2, 3)),
            [D.AffineTransform(torch.zeros(3, requires_grad=True), 2.0, event_dim=1)],
        ),
    ],
    ids=["unknown", "no event dimension", "bijection with weights"],
)
def test_unknown_distribution_is_refused_in_one_sentence(dist):
    with pytest.raises(ConfigurationError, match="not known to the trust region; use"):
        as_action_distribution(dist)


def test_distribution_of_ignores_stale_parameters_in_the_batch():
    actor = make_actor("gaussian")
    batch = collect(actor, 3)
    stale = TensorDict({**batch.to_dict(), "loc": torch.full_like(batch["loc"], 99.0)}, [3])
    torch.testing.assert_close(distribution_of(actor, stale).parameters[0], batch["loc"])
