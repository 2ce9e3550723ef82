import pytest
import torch
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type
from toy_policies import collect

from perturbrl.rl.policies import (
    bernoulli_actor,
    categorical_actor,
    critic,
    gaussian_actor,
    mlp,
    tanh_gaussian_actor,
)

LOW, HIGH = torch.tensor([-1.0, 0.0, -2.0]), torch.tensor([1.0, 1.0, -1.0])
ACTORS = {
    "gaussian": lambda: gaussian_actor(4, LOW, HIGH),
    "tanh_gaussian": lambda: tanh_gaussian_actor(4, LOW, HIGH),
    "categorical": lambda: categorical_actor(4, 3),
    "bernoulli": lambda: bernoulli_actor(4, 3),
}


@pytest.mark.parametrize("kind", sorted(ACTORS))
def test_actor_writes_action_and_its_log_probability(kind):
    batch = collect(ACTORS[kind](), 5, 2)
    assert batch["action"].shape == ((5, 2) if kind == "categorical" else (5, 2, 3))
    assert batch["action_log_prob"].shape == (5, 2)


@pytest.mark.parametrize("kind", sorted(ACTORS))
def test_log_probability_is_that_of_the_action(kind):
    actor = ACTORS[kind]()
    batch = collect(actor, 50)
    torch.testing.assert_close(
        actor.get_dist(batch).log_prob(batch["action"]), batch["action_log_prob"], rtol=1e-4, atol=1e-4
    )


def test_gaussian_starts_at_the_dose_nearest_to_nothing():
    """Its mean in any state is 0 where the box holds 0, else the nearest edge, to a hundredth of the box."""
    loc, scale = gaussian_actor(4, LOW, HIGH).module[0].module(torch.randn(20, 4))
    nothing = torch.zeros(3).clamp(LOW, HIGH)
    assert ((loc - nothing).abs() < 0.05 * (HIGH - LOW)).all()
    torch.testing.assert_close(scale[0], (HIGH - LOW) / 2 * torch.tensor(-0.5).exp())


def test_tanh_gaussian_stays_inside_the_box_and_reaches_its_edges():
    actor = tanh_gaussian_actor(4, LOW, HIGH, init_log_std=1.0)
    action = collect(actor, 2000)["action"]
    assert (action >= LOW).all()
    assert (action <= HIGH).all()
    assert ((action.amax(0) - HIGH).abs() < 0.01 * (HIGH - LOW)).all()
    assert ((action.amin(0) - LOW).abs() < 0.01 * (HIGH - LOW)).all()


def test_discrete_actions_start_nearly_even():
    with torch.no_grad():
        assert (categorical_actor(4, 3).get_dist(_states()).probs - 1 / 3).abs().max() < 0.02
        assert (bernoulli_actor(4, 3).get_dist(_states()).base_dist.probs - 0.5).abs().max() < 0.02


def _states():
    return TensorDict({"observation": torch.randn(20, 4)}, [20])


def test_deterministic_actions_are_the_likeliest():
    actor = categorical_actor(4, 3)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        batch = actor(_states())
    assert torch.equal(batch["action"], batch["logits"].argmax(-1))


def test_critic_gives_one_value_per_state():
    assert critic(4)(_states())["state_value"].shape == (20, 1)


def test_layers_are_orthogonal():
    first, _, last = mlp(6, [6], 3, out_gain=0.5)
    torch.testing.assert_close(first.weight @ first.weight.t(), 2 * torch.eye(6), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last.weight @ last.weight.t(), 0.25 * torch.eye(3), rtol=1e-5, atol=1e-5)
    assert not first.bias.any()
