import pytest
import torch
from linear_twin import linear_env, normal
from scipy.stats import kstest
from tensordict import TensorDict
from torch.distributions import Categorical, Independent, Laplace, Normal
from torchrl.modules import ValueOperator

from perturbrl.errors import ConfigurationError
from perturbrl.rl.fisher import MLPLinearisation
from perturbrl.rl.flat import FlatLayout
from perturbrl.rl.policies import categorical_actor, critic, gaussian_actor
from perturbrl.rl.policy_pass import PolicyRows, policy_passes
from perturbrl.rl.processes import ALONE
from perturbrl.rl.rollouts import Rollouts, add_advantages, best_action, draw_action, returns, stream_seed

EFFECTS, SHIFT = normal(3, 2), torch.tensor([1.0, -1.0])


def make(n_cells=6, horizon=3, steps=5, seed=0, noise_scale=0.1, total=None, first=0):
    env = linear_env(EFFECTS, SHIFT, n_cells=n_cells, horizon=horizon, noise_scale=noise_scale)
    if total is not None:
        env = type(env)(
            env.twin, env.task, horizon=horizon, n_cells=n_cells, first_cell=first, total_cells=total
        )
    torch.manual_seed(0)
    actor = gaussian_actor(5, env.space.low, env.space.high, (8,))
    return Rollouts(env, actor, steps, seed), actor


KEYS = ("observation", "action", "cell_state", ("next", "reward"), ("next", "done"), ("next", "cell_state"))


def test_a_rollout_is_one_run_per_cell_with_the_old_distribution():
    rollouts, actor = make()
    batch = rollouts.collect(0)
    assert batch.shape == (6, 5)
    again = actor.get_dist(batch.select("observation"))
    stored = actor.build_dist_from_params(batch)
    assert torch.allclose(stored.mean, again.mean, atol=1e-6)
    assert torch.allclose(stored.variance, again.variance, atol=1e-6)
    assert not batch["loc"].requires_grad
    # Within an episode, what follows a step is what the next step starts from.
    goes_on = ~batch["next", "done"][:, :-1, 0]
    assert torch.equal(batch["next", "cell_state"][:, :-1][goes_on], batch["cell_state"][:, 1:][goes_on])
    rollouts.close()


def test_an_iteration_can_be_repeated_from_its_number_alone():
    first, _ = make()
    first.collect(0)
    second = first.collect(1).clone()
    fresh, _ = make()
    repeated = fresh.collect(1)
    for key in KEYS:
        assert torch.equal(second[key], repeated[key]), key
    assert not torch.equal(fresh.collect(2)["action"], repeated["action"])


def test_every_iteration_starts_afresh():
    rollouts, _ = make(horizon=4, steps=3)
    for iteration in range(3):
        assert (rollouts.collect(iteration)["step_count"][:, 0] == 0).all()


def test_another_seed_gives_another_rollout():
    first, _ = make(seed=0)
    second, _ = make(seed=1)
    assert not torch.equal(first.collect(0)["action"], second.collect(0)["action"])


def test_cells_may_be_spread_over_processes():
    whole, _ = make()
    expected = whole.collect(4)
    for first, n in ((0, 1), (1, 5)):
        part, _ = make(n_cells=n, first=first, total=6)
        found = part.collect(4)
        for key in KEYS:
            assert torch.allclose(found[key].float(), expected[key][first : first + n].float(), atol=1e-5), (
                key
            )


def test_global_randomness_is_not_used():
    rollouts, _ = make()
    before = torch.get_rng_state()
    rollouts.collect(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_stream_seeds_do_not_meet():
    seeds = {stream_seed(s, i, k) for s in range(20) for i in range(200) for k in range(4)}
    assert len(seeds) == 20 * 200 * 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_gaussian_actions_follow_their_distribution():
    dist = Independent(Normal(torch.full((4000, 2), 3.0), torch.tensor([0.5, 2.0]).expand(4000, -1)), 1)
    drawn = draw_action(dist, torch.Generator().manual_seed(0), 0, 4000)
    assert kstest(((drawn[:, 0] - 3) / 0.5).numpy(), "norm").pvalue > 0.01
    assert kstest(((drawn[:, 1] - 3) / 2.0).numpy(), "norm").pvalue > 0.01


def test_choices_follow_their_probabilities_and_impossible_ones_never_come():
    p = torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    drawn = draw_action(Categorical(probs=p.expand(30_000, -1)), torch.Generator().manual_seed(0), 0, 30_000)
    share = drawn.bincount(minlength=6) / 30_000
    assert torch.allclose(share, p, atol=0.01)
    assert share[p == 0].sum() == 0


def test_a_cells_action_does_not_depend_on_its_process():
    dist = Categorical(logits=normal(10, 4))
    whole = draw_action(dist, torch.Generator().manual_seed(3), 0, 10)
    part = draw_action(Categorical(logits=normal(10, 4)[7:]), torch.Generator().manual_seed(3), 7, 10)
    assert torch.equal(whole[7:], part)


def test_other_distributions_are_refused():
    dist = Independent(Laplace(torch.zeros(2, 2), torch.ones(2, 2)), 1)
    with pytest.raises(ConfigurationError, match="cannot sample from Laplace"):
        draw_action(dist, torch.Generator(), 0, 2)


def test_the_best_action_is_the_mean_or_the_likeliest():
    observed = TensorDict({"observation": normal(7, 4)}, batch_size=[7])
    actor = gaussian_actor(4, torch.zeros(3), torch.ones(3))
    assert torch.equal(best_action(actor, observed), actor.get_dist(observed).mean)
    choice = categorical_actor(4, 5)
    assert torch.equal(best_action(choice, observed), choice.get_dist(observed).logits.argmax(-1))


def slow_advantages(value, after, reward, done, terminated, gamma, lam):
    """Generalised advantage estimation written out for one cell, from the last step backwards."""
    advantage, following = [0.0] * len(value), 0.0
    for t in reversed(range(len(value))):
        delta = reward[t] + gamma * (0.0 if terminated[t] else after[t]) - value[t]
        following = delta + (0.0 if done[t] else gamma * lam * following)
        advantage[t] = following
    return advantage


@pytest.mark.parametrize(("gamma", "lam"), [(0.9, 0.7), (1.0, 0.95), (0.8, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize("time", [1, 9])
def test_advantages_agree_with_a_loop_over_mixed_ends(gamma, lam, time):
    cells, torch_critic = 5, critic(4, (8,))
    generator = torch.Generator().manual_seed(1)
    terminated = torch.rand(cells, time, 1, generator=generator) < 0.2
    truncated = (torch.rand(cells, time, 1, generator=generator) < 0.2) & ~terminated
    if time > 1:
        assert terminated.any()
        assert truncated.any()
    done = terminated | truncated
    observation, after = normal(cells, time, 4, seed=2), normal(cells, time, 4, seed=3)
    goes_on = ~done[:, :-1, 0]
    after[:, :-1][goes_on] = observation[:, 1:][goes_on]
    reward = normal(cells, time, 1, seed=4)
    batch = TensorDict(
        {
            "observation": observation,
            "next": {
                "observation": after,
                "reward": reward,
                "done": done,
                "terminated": terminated,
                "truncated": truncated,
            },
        },
        batch_size=[cells, time],
    )
    add_advantages(batch, torch_critic, gamma=gamma, gae_lambda=lam)
    value, following = (torch_critic.module(x).detach()[..., 0] for x in (observation, after))
    for cell in range(cells):
        expected = slow_advantages(
            *(x[cell].flatten().tolist() for x in (value, following, reward, done, terminated)), gamma, lam
        )
        assert batch["advantage"][cell, :, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(batch["value_target"], batch["advantage"] + batch["state_value"], atol=1e-5)
    assert not batch["advantage"].requires_grad


def test_with_a_perfect_critic_nothing_is_an_advantage():
    """Two steps of reward 1 to the end: the value is what is left, so no action was better than expected."""

    class Left(torch.nn.Module):
        def forward(self, observation):
            return observation[..., :1]

    observation = torch.tensor([[[2.0], [1.0]]])
    after = torch.tensor([[[1.0], [0.0]]])
    end = torch.tensor([[[False], [True]]])
    batch = TensorDict(
        {
            "observation": observation,
            "next": {"observation": after, "reward": torch.ones(1, 2, 1), "done": end, "terminated": end},
        },
        batch_size=[1, 2],
    )
    add_advantages(batch, ValueOperator(Left(), in_keys=["observation"]), gamma=1.0, gae_lambda=0.95)
    assert batch["advantage"].abs().max() < 1e-6


def test_rewards_after_the_last_finished_episode_do_not_count():
    done = torch.tensor([[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    after = TensorDict({"reward": torch.ones(2, 6, 1), "done": done[..., None]}, [2, 6])
    assert returns(after).tolist() == [5.0 + 6.0, 2.0 + 1.0]


def test_the_return_of_whole_episodes_does_not_depend_on_how_cells_are_shared_out():
    done = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1]], dtype=torch.bool)
    after = TensorDict({"reward": torch.randn(3, 4, 1), "done": done[..., None]}, [3, 4])
    torch.testing.assert_close(returns(after[:1]) + returns(after[1:]), returns(after))


def test_the_ratio_of_a_policy_with_itself_is_1():
    """Its hidden units are small, so an error of round-off at 1 in them would be a large one in the doses."""
    rollouts, actor = make(n_cells=300)
    first, head = (actor.module[0].module.trunk[k] for k in (0, 2))
    with torch.no_grad():
        first.weight *= 1e-4
        head.weight.copy_(20 * normal(*head.weight.shape))
        actor.module[0].module.log_std.fill_(-3.0)
    batch = rollouts.collect(0).reshape(-1)
    batch["advantage"] = torch.ones(len(batch), 1)
    rows, layout = PolicyRows.of(actor, batch), FlatLayout(list(actor.parameters()))
    by_hand = policy_passes(actor, layout, rows.inputs, ALONE)(rows.inputs)
    assert isinstance(by_hand, MLPLinearisation)
    again = by_hand.distribution
    log_ratio = again.log_prob(rows.action) - rows.old_log_prob
    assert (log_ratio.abs() <= 1e-6 * (1 + rows.old_log_prob.abs())).all()
    assert abs(log_ratio.exp().mean() - 1) <= 1e-6
