import pytest
import torch
from linear_twin import normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError


def populations(shift=2.0, n=80, m=60):
    return normal(n, 4, seed=1), normal(m, 4, seed=2) + torch.tensor([shift, 0.0, -shift, 0.0])


def aimed(**options):
    start, goal = populations()
    task = ReachCellState(**options)
    task.aim(start, goal)
    return task, start, goal


def none_used(cells, n=3):
    return torch.zeros(cells, n, dtype=torch.bool)


def test_a_shifted_goal_moves_every_cell_by_the_difference_of_means():
    task, start, goal = aimed()
    assert torch.allclose(
        task.goal_state(start) - start, (goal.mean(0) - start.mean(0)).expand(80, -1), atol=1e-5
    )
    assert torch.allclose(task.distance(start, task.goal_state(start)), torch.ones(80), atol=1e-5)


def test_a_central_goal_is_the_same_for_all_cells():
    task, start, goal = aimed(goal="centroid")
    assert torch.allclose(task.goal_state(start), goal.mean(0).expand(80, -1))
    assert task.distance(start, task.goal_state(start)).mean() == pytest.approx(1.0, abs=1e-5)


def test_reward_is_the_share_of_the_way():
    task, start, _ = aimed()
    goal, dose = task.goal_state(start), torch.zeros(80, 3)
    half = start + 0.5 * (goal - start)
    assert torch.allclose(
        task.reward(start, dose, half, goal, none_used(80)), torch.full((80,), 0.5), atol=1e-5
    )
    assert torch.allclose(
        task.reward(half, dose, start, goal, none_used(80)), torch.full((80,), -0.5), atol=1e-5
    )


def test_costs_are_what_they_say():
    task, start, _ = aimed(cost_l1=0.1, cost_l2=0.01, cost_per_perturbation=0.5)
    state, goal = start[:2], task.goal_state(start[:2])
    dose = torch.tensor([[2.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    new = torch.tensor([[True, False, False], [False, False, False]])
    expected = torch.tensor([-(0.1 * 3 + 0.01 * 5 + 0.5), 0.0])
    assert torch.allclose(task.reward(state, dose, state, goal, new), expected, atol=1e-6)


def test_the_best_dose_of_a_linear_twin_under_a_squared_cost():
    # One effect e along the way g: 1 - |g - d e|/|g| - c d^2 is largest at d = |e| / (2 c |g|).
    task, start, _ = aimed(cost_l2=0.5)
    goal, way = task.goal_state(start[:1]), task.goal_state(start[:1]) - start[:1]
    doses = torch.linspace(0, 2, 2001)[:, None]
    effect = 0.4 * way
    reward = task.reward(
        start[:1].expand(2001, -1),
        doses,
        start[:1] + doses * effect,
        goal.expand(2001, -1),
        none_used(2001, 1),
    )
    assert doses[reward.argmax()].item() == pytest.approx(0.4 / (2 * 0.5), abs=2e-3)


def test_the_discriminant_is_the_shrinkage_linear_discriminant():
    task, start, goal = aimed()
    cells = torch.cat((start, goal)).double().numpy()
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
    oracle.fit(cells, [0] * 80 + [1] * 60)
    new = torch.cat((start, goal)) + 0.5 * normal(140, 4, seed=5)
    assert torch.equal(
        task.is_success(new, new), torch.as_tensor(oracle.predict(new.double().numpy())).bool()
    )


def test_the_discriminant_compares_only_cells_that_nothing_was_fitted_on():
    start, goal = populations()
    reference = normal(50, 4, seed=7) + 0.3
    task, alone, other = ReachCellState(), ReachCellState(), ReachCellState()
    task.aim(start, goal, reference)
    alone.aim(reference, goal)
    other.aim(start + 3.0, goal, reference)
    for seen in (alone, other):
        assert torch.equal(task.discriminant, seen.discriminant)
        assert torch.equal(task.threshold, seen.threshold)
    # The way is that from the training cells all the same: the effects count from there, too.
    assert torch.allclose(task.goal_state(start) - start, goal.mean(0) - start.mean(0), atol=1e-5)


def test_a_cell_that_is_rather_taken_for_another_population_has_not_arrived():
    start, goal = populations()
    others = [
        normal(70, 4, seed=3 + i) + shift
        for i, shift in enumerate(([6.0, 0, 0, 0], [2.0, 4.0, -2.0, 0]))
        for shift in [torch.tensor(shift)]
    ]
    task = ReachCellState()
    task.aim(start, goal, start, others)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.25] * 4)
    oracle.fit(torch.cat((start, goal, *others)).double().numpy(), [0] * 80 + [1] * 60 + [2] * 70 + [3] * 70)
    new = torch.cat((start, goal, *others)) + 0.5 * normal(280, 4, seed=5)
    arrived = task.is_success(new, new)
    assert torch.equal(arrived, torch.as_tensor(oracle.predict(new.double().numpy()) == 1))
    two = ReachCellState()
    two.aim(start, goal)
    beyond = goal + torch.tensor([4.0, 0.0, 2.0, 0.0])
    assert two.is_success(beyond, beyond).float().mean() > 0.9
    assert task.is_success(beyond, beyond).float().mean() < 0.1


def test_the_number_of_cells_on_either_side_does_not_move_the_threshold():
    start, goal = populations(n=2000, m=100)
    task = ReachCellState()
    task.aim(start, goal)
    share_wrong_start = task.is_success(start, start).float().mean()
    share_wrong_goal = (~task.is_success(goal, goal)).float().mean()
    assert abs(share_wrong_start - share_wrong_goal) < 0.05


def test_within_a_radius():
    task, start, _ = aimed(success="radius", success_radius=0.3)
    goal = task.goal_state(start)
    assert task.is_success(goal - 0.29 * (goal - start), goal).all()
    assert not task.is_success(goal - 0.31 * (goal - start), goal).any()


def test_what_the_policy_sees():
    task, start, _ = aimed()
    goal = task.goal_state(start)
    seen = task.observation(start, goal)
    assert seen.shape == (80, task.observation_dim)
    assert seen[:, :4].mean(0).abs().max() < 1e-5
    assert torch.allclose(seen[:, 4:].norm(dim=1), torch.ones(80), atol=1e-5)


def test_a_gene_that_never_varies_is_seen_as_zero():
    start, goal = populations()
    start[:, 1] = goal[:, 1] = 3.0
    task = ReachCellState()
    task.aim(start, goal)
    assert task.observation(start, goal[:1].expand(80, -1))[:, 1].abs().max() < 1e-4


def test_no_task_ends_an_episode_early():
    task, start, _ = aimed()
    assert not task.is_terminal(start, start).any()


def test_a_state_dict_restores_a_task_that_was_never_aimed():
    task, start, _ = aimed()
    restored = ReachCellState()
    restored.load_state_dict(task.state_dict())
    goal = restored.goal_state(start)
    assert torch.equal(restored.observation(start, goal), task.observation(start, goal))
    assert torch.equal(restored.is_success(start, goal), task.is_success(start, goal))
    assert restored.observation_dim == 8


@pytest.mark.parametrize("name", ["cost_l1", "cost_l2", "cost_per_perturbation"])
def test_prices_are_not_negative(name):
    with pytest.raises(ConfigurationError, match=f"{name} is -1"):
        ReachCellState(**{name: -1.0})


def test_what_cannot_be_aimed_at_is_refused():
    start, goal = populations()
    with pytest.raises(ConfigurationError, match="same mean"):
        ReachCellState().aim(start, start.clone())
    with pytest.raises(
        ConfigurationError, match="at least 2 of each, and there are 1 of the target and 80 of the start"
    ):
        ReachCellState().aim(start, goal[:1])
    with pytest.raises(ConfigurationError, match="there are 60 of the target and 1 of the start"):
        ReachCellState().aim(start, goal, start[:1])
    with pytest.raises(ConfigurationError, match="success_radius is 0"):
        ReachCellState(success_radius=0.0)
    ReachCellState(success="radius").aim(start, goal[:1])


def test_populations_without_any_spread_have_no_discriminant():
    with pytest.raises(
        ConfigurationError, match=r"judge by distance \(--model.task.init_args.success radius\)"
    ):
        ReachCellState().aim(torch.zeros(5, 3), torch.ones(5, 3))


@pytest.mark.parametrize("success", ["discriminant", "radius"])
def test_arriving_is_paid_once_and_lost_by_leaving(success):
    plain, start, goal_cells = aimed(goal="centroid", success=success)
    paying, _, _ = aimed(goal="centroid", success=success, arrival=2.0)
    goal, dose = plain.goal_state(start), torch.zeros(80, 3)
    there, used = goal_cells.mean(0).expand(80, -1), none_used(80)
    before = plain.is_success(start, goal).float()

    def gained(state, following):
        return paying.reward(state, dose, following, goal, used) - plain.reward(
            state, dose, following, goal, used
        )

    assert torch.allclose(gained(start, there), 2.0 * (1 - before), atol=1e-5)
    assert torch.allclose(gained(there, start), 2.0 * (before - 1), atol=1e-5)
    assert torch.equal(gained(there, there), torch.zeros(80))
    with pytest.raises(ConfigurationError, match="arrival is -1, a price for arriving; give 0 or more"):
        ReachCellState(arrival=-1)


def test_closeness_pays_for_where_a_cell_is_and_progress_for_how_far_it_came():
    task, start, _ = aimed(reward="closeness", cost_l1=0.1)
    goal, dose = task.goal_state(start), torch.full((80, 3), 0.5)
    half = start + 0.5 * (goal - start)
    paid = task.reward(start, dose, half, goal, none_used(80))
    assert torch.allclose(paid, torch.full((80,), -0.5 - 0.15), atol=1e-5)


def test_the_manhattan_distance_of_boolean_states_counts_genes():
    start, target = torch.zeros(1, 5), torch.tensor([[1.0, 1.0, 0.0, 1.0, 0.0]])
    task = ReachCellState(goal="centroid", success="radius", norm="manhattan")
    task.aim(start, target)
    assert float(task.initial_distance) == 3.0
    one_off = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]])
    assert float(task.distance(one_off, target)) == pytest.approx(1 / 3)
