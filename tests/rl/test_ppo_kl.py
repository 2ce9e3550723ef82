import copy

import pytest
import torch
from linear_twin import normal
from tensordict import TensorDict
from torch.distributions import Categorical

from perturbrl.rl.actor_distributions import distribution_of
from perturbrl.rl.flat import FlatGradient, FlatLayout
from perturbrl.rl.minibatches import Minibatches
from perturbrl.rl.policies import categorical_actor, gaussian_actor
from perturbrl.rl.ppo_kl import (
    CACHED_ROWS,
    KL_COEF_BOUNDS,
    Moved,
    PPOKLLoss,
    PPOKLResult,
    adapt_kl_coef,
    adapt_learning_rate,
    ppo_kl_epochs,
)
from perturbrl.rl.processes import ALONE, Processes

ROWS, WIDTH, ACTIONS = 40, 3, 2
TWICE = Processes(lambda total: 2 * total)


def batch_kl(actor, batch, processes=ALONE):
    """The mean KL that stage 2 reports when it takes no step."""
    return ppo_kl_epochs(
        PPOKLLoss(actor),
        lambda: None,
        batch,
        Minibatches(ROWS, ROWS, processes),
        epochs=0,
        kl_coef=0.0,
        kl_limit=1.0,
        max_grad_norm=None,
        generator=torch.Generator().manual_seed(0),
    ).kl


def gaussian(seed=0):
    torch.manual_seed(seed)
    return gaussian_actor(WIDTH, torch.full((ACTIONS,), -1.0), torch.ones(ACTIONS), (8,))


def batch_of(actor, rows=ROWS, seed=1):
    observation = normal(rows, WIDTH, seed=seed)
    batch = TensorDict({"observation": observation}, batch_size=[rows])
    with torch.no_grad():
        dist = actor.get_dist(batch)
    torch.manual_seed(seed)
    batch["action"] = dist.sample()
    batch["advantage"] = normal(rows, 1, seed=seed + 2)
    return batch


def moved(actor, by=0.1):
    with torch.no_grad():
        for i, parameter in enumerate(actor.parameters()):
            parameter += by * normal(*parameter.shape, seed=i)
    return actor


@pytest.mark.parametrize("clip", [None, 0.05])
def test_the_gradient_is_that_of_the_written_out_formula(clip):
    actor = gaussian()
    batch = batch_of(actor)
    moved(actor)
    loss = PPOKLLoss(actor, clip)
    found = loss.loss(loss.terms(batch), 2.0, ROWS)
    mu, sigma = batch["loc"], batch["scale"]
    new_mu, new_sigma = actor[0].module(batch["observation"])
    log_density = lambda m, s: (-((batch["action"] - m) ** 2) / (2 * s**2) - s.log()).sum(-1)  # noqa: E731
    ratio = (log_density(new_mu, new_sigma) - log_density(mu, sigma)).exp()
    advantage = batch["advantage"][:, 0]
    gain = ratio * advantage
    if clip is not None:
        gain = torch.minimum(gain, ratio.clamp(1 - clip, 1 + clip) * advantage)
    kl = ((new_sigma / sigma).log() + (sigma**2 + (mu - new_mu) ** 2) / (2 * new_sigma**2) - 0.5).sum(-1)
    expected = (-gain + 2.0 * kl).mean()
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    parameters = list(actor.parameters())
    for one, other in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_gradient_of_a_choice_is_that_of_the_written_out_formula():
    torch.manual_seed(0)
    actor = categorical_actor(WIDTH, 4, (8,))
    batch = batch_of(actor)
    moved(actor)
    loss = PPOKLLoss(actor)
    found = loss.loss(loss.terms(batch), 1.5, ROWS)
    old, new = batch["logits"].log_softmax(-1), actor[0].module(batch["observation"]).log_softmax(-1)
    index = batch["action"][:, None]
    ratio = (new.gather(1, index) - old.gather(1, index)).exp()
    kl = (old.exp() * (old - new)).sum(-1)
    expected = (-(ratio * batch["advantage"])[:, 0] + 1.5 * kl).mean()
    for one, other in zip(
        torch.autograd.grad(found, list(actor.parameters())),
        torch.autograd.grad(expected, list(actor.parameters())),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_mean_kl_of_the_batch_leaves_the_old_distribution_alone():
    actor = gaussian()
    batch = batch_of(actor)
    old = batch["loc"].clone()
    moved(actor)
    first, again = batch_kl(actor, batch), batch_kl(actor, batch)
    assert first == again > 0
    assert torch.equal(batch["loc"], old)
    assert batch_kl(actor, batch, TWICE) == pytest.approx(first)


def test_a_batch_longer_than_a_block_has_the_mean_kl_of_all_its_rows():
    actor = gaussian()
    batch = batch_of(actor, rows=2 * CACHED_ROWS + 7)
    old = distribution_of(actor, batch).detached()
    moved(actor)
    expected = old.kl_to(distribution_of(actor, batch)).mean().item()
    assert batch_kl(actor, batch) == pytest.approx(expected, rel=1e-5)


def test_summed_gradients_of_processes_are_those_of_one():
    actor = gaussian()
    batch = batch_of(actor)
    moved(actor)
    loss, parameters = PPOKLLoss(actor), list(actor.parameters())
    whole = torch.autograd.grad(loss.loss(loss.terms(batch), 1.0, ROWS), parameters)
    parts = [
        torch.autograd.grad(loss.loss(loss.terms(batch[rows]), 1.0, ROWS), parameters)
        for rows in (torch.arange(10), torch.arange(10, ROWS), torch.empty(0, dtype=torch.long))
    ]
    for one, *others in zip(whole, *parts, strict=True):
        assert torch.allclose(one, sum(others), atol=1e-6)


def run(actor, batch, kl_limit=1e9, epochs=3, rate=0.05, size=10, **options):
    optimizer = torch.optim.SGD(actor.parameters(), rate)
    return ppo_kl_epochs(
        PPOKLLoss(actor),
        optimizer.step,
        batch,
        Minibatches(ROWS, size),
        epochs=epochs,
        kl_coef=options.pop("kl_coef", 0.1),
        kl_limit=kl_limit,
        max_grad_norm=None,
        generator=torch.Generator().manual_seed(0),
        **options,
    )


def test_every_minibatch_of_every_epoch_is_a_step():
    actor = gaussian()
    batch = batch_of(actor)
    before = PPOKLLoss(actor).terms(batch).surrogate.item()
    result = run(actor, batch)
    assert (result.steps, result.stopped) == (12, False)
    assert result.kl > 0
    assert result.kl == pytest.approx(batch_kl(actor, batch))
    assert PPOKLLoss(actor).terms(batch).surrogate.item() > before


def test_it_stops_before_a_step_beyond_the_limit():
    actor = gaussian()
    batch = batch_of(actor)
    moved(actor, 0.3)
    before = [p.clone() for p in actor.parameters()]
    result = run(actor, batch, kl_limit=1e-6)
    assert (result.steps, result.stopped) == (0, True)
    assert all(torch.equal(p, b) for p, b in zip(actor.parameters(), before, strict=True))
    assert result.kl > 1e-6


def test_it_stops_in_the_midst_of_an_epoch():
    actor = gaussian()
    result = run(actor, batch_of(actor), kl_limit=1e-3, rate=0.2)
    assert result.stopped
    assert 1 <= result.steps < 12


def test_the_penalty_keeps_the_policy_nearer():
    kl = {}
    for coef in (0.0, 20.0):
        actor = gaussian()
        kl[coef] = run(actor, batch_of(actor), kl_coef=coef, rate=0.02, epochs=10).kl
    assert kl[20.0] < 0.5 * kl[0.0]


def test_what_stage_one_measured_is_what_stage_two_would_measure():
    actor = gaussian()
    batch = batch_of(actor)
    old = distribution_of(actor, batch).detached()
    moved(actor, 0.05)
    new = distribution_of(actor, batch).detached()
    ratio = (new.log_prob(batch["action"]) - old.log_prob(batch["action"])).exp()
    rise = float(((ratio - 1) * batch["advantage"][:, 0]).mean())
    known = Moved(float(old.kl_to(new).mean()), rise)

    def stage_two(since):
        return run(copy.deepcopy(actor), batch, epochs=1, rate=1e-3, moved=since)

    assert stage_two(known) == stage_two(None)
    # Steps are taken back where the objective is worse than the one that is said to have been reached.
    worse = stage_two(Moved(known.kl, rise + 1))
    assert worse.reverted
    assert worse.kl == known.kl
    assert not stage_two(Moved(known.kl, rise - 1)).reverted


def test_what_is_not_finite_never_reaches_the_weights():
    actor = gaussian()
    batch = batch_of(actor)
    batch["advantage"][3] = float("nan")
    result = run(actor, batch, size=ROWS)
    assert (result.steps, result.stopped) == (0, True)
    assert all(p.isfinite().all() for p in actor.parameters())


def flat_gradient(*values, processes=ALONE):
    weight = torch.nn.Parameter(torch.zeros(len(values)))
    gradient = FlatGradient(FlatLayout([weight]), processes)
    gradient.start()[0].add_(torch.tensor(values))
    return weight, gradient


@pytest.mark.parametrize(
    ("largest", "scale", "expected"),
    [(None, 1.0, [6.0, 8.0]), (1.0, 1.0, [0.6, 0.8]), (100.0, 1.0, [6.0, 8.0]), (1.0, 0.5, [0.6, 0.8])],
)
def test_gradients_are_clipped_to_their_norm(largest, scale, expected):
    weight, gradient = flat_gradient(6.0, 8.0)
    number, norm = gradient.sum_up(torch.tensor(3.0))
    assert (number, norm) == (3.0, 10.0)
    assert gradient.clip(scale * norm, largest, scale)
    torch.testing.assert_close(weight.grad, torch.tensor(expected))


def test_a_gradient_is_summed_over_processes_with_its_number():
    weight, gradient = flat_gradient(3.0, 4.0, processes=TWICE)
    assert gradient.sum_up(torch.tensor(1.5)) == (3.0, 10.0)
    assert weight.grad.tolist() == [6.0, 8.0]
    gradient.start()
    assert weight.grad.tolist() == [0.0, 0.0]


def test_a_gradient_that_is_not_finite_is_left_out():
    weight, gradient = flat_gradient(float("inf"))
    _, norm = gradient.sum_up(torch.tensor(0.0))
    assert not gradient.clip(norm, 1.0)
    assert weight.grad.item() == 0.0


def test_the_penaltys_weight_follows_the_kl_within_bounds():
    assert adapt_kl_coef(1.0, 1.6, 1.0, 2.0) == 2.0
    assert adapt_kl_coef(1.0, 1.5, 1.0, 2.0) == 1.0
    assert adapt_kl_coef(1.0, 1 / 1.4, 1.0, 2.0) == 1.0
    assert adapt_kl_coef(1.0, 0.6, 1.0, 2.0) == 0.5
    up = down = 1.0
    for _ in range(100):
        up, down = adapt_kl_coef(up, float("inf"), 1.0, 2.0), adapt_kl_coef(down, 0.0, 1.0, 2.0)
    assert (down, up) == KL_COEF_BOUNDS
    assert adapt_kl_coef(down, 9.0, 1.0, 2.0) > down
    assert adapt_kl_coef(up, 0.0, 1.0, 2.0) < up


def test_old_and_new_are_measured_against_the_collecting_policy():
    """After a first move the KL counts from the policy that collected the batch, not from the moved one."""
    torch.manual_seed(0)
    actor = categorical_actor(WIDTH, 4, (8,))
    batch = batch_of(actor)
    moved(actor, 0.5)
    old, new = Categorical(logits=batch["logits"]), Categorical(logits=actor[0].module(batch["observation"]))
    expected = torch.distributions.kl_divergence(old, new).mean().item()
    assert batch_kl(actor, batch) == pytest.approx(expected, rel=1e-4)


def test_epochs_that_worsen_the_objective_are_taken_back():
    actor = gaussian()
    batch = batch_of(actor)
    moved(actor)
    weights = [p.detach().clone() for p in actor.parameters()]
    before = batch_kl(actor, batch)
    result = run(actor, batch, rate=50.0)
    assert result.reverted
    assert result.steps > 0
    assert result.kl == pytest.approx(before)
    assert all(torch.equal(p, w) for p, w in zip(actor.parameters(), weights, strict=True))


@pytest.mark.parametrize(
    ("steps", "stopped", "reverted", "expected"),
    [
        (8, False, False, 0.15),
        (2, True, False, 0.1 / 1.5),
        (5, True, False, 0.1),
        (8, False, True, 0.1 / 1.5),
    ],
)
def test_the_step_size_follows_how_stage_two_ended(steps, stopped, reverted, expected):
    result = PPOKLResult(steps, stopped, reverted, kl=0.0, entropy=0.0)
    assert adapt_learning_rate(0.1, result, 4, largest=1.0, factor=1.5) == pytest.approx(expected)
    assert adapt_learning_rate(1.0, PPOKLResult(8, False, False, 0.0, 0.0), 4, 1.0, 1.5) == 1.0
    assert adapt_learning_rate(1e-3, PPOKLResult(0, True, False, 0.0, 0.0), 4, 1.0, 1.5) == 1e-3
