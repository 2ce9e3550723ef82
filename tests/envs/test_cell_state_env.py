import inspect

import pytest
import torch
from linear_twin import linear_env, linear_twin, normal
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.envs.utils import step_mdp

from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError
from perturbrl.twins.gene_effect import GeneEffectTwin
from perturbrl.twins.perturbations import PerturbationSpace
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin

EFFECTS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]])
SHIFT = torch.tensor([1.0, 1.0])


def step(env, action, state=None):
    state = env.reset() if state is None else state
    state["action"] = action
    return env.step(state)["next"]


def test_a_step_moves_cells_by_their_doses():
    env = linear_env(EFFECTS, SHIFT)
    before = env.reset()
    start = before["cell_state"].clone()
    after = step(env, torch.tensor([[1.0, 0.5, 0.0]]).expand(4, -1), before)
    assert torch.allclose(after["cell_state"], start + torch.tensor([1.0, 1.0]), atol=1e-6)
    assert torch.allclose(after["reward"], torch.ones(4, 1), atol=1e-5)


def test_actions_outside_the_box_are_projected_onto_it():
    env = linear_env(EFFECTS, SHIFT)
    after = step(env, torch.tensor([[9.0, -9.0, 0.04]]).expand(4, -1))
    assert torch.equal(after["dose"], torch.tensor([[1.0, 0.0, 0.0]]).expand(4, -1))
    assert after["used"].tolist() == [[True, False, False]] * 4


def test_the_observation_says_how_much_time_is_left():
    env = linear_env(EFFECTS, SHIFT, horizon=4)
    state, seen = env.reset(), []
    for _ in range(4):
        seen.append(state["observation"][0, -1].item())
        state = step(env, torch.zeros(4, 3), state)
    assert seen == [1.0, 0.75, 0.5, 0.25]
    assert state["observation"][0, -1].item() == 0.0
    assert state["terminated"].all()


def test_episodes_that_end_early_in_one_process_do_not_change_those_of_another():
    class UntilFar(ReachCellState):
        def is_terminal(self, state, goal):
            return state.norm(dim=-1) > 2.0

    def played(first, n):
        env = linear_env(EFFECTS, SHIFT, horizon=5, noise_scale=0.5, task=UntilFar())
        env = CellStateEnv(env.twin, env.task, n_cells=n, first_cell=first, total_cells=40, horizon=5)
        env.set_seed(3)
        policy = TensorDictModule(lambda seen: torch.full((n, 3), 0.3), ["observation"], ["action"])
        return env.rollout(12, policy, break_when_any_done=False)

    whole, parts = played(0, 40), [played(0, 3), played(3, 37)]
    assert 0.05 < float(whole["next", "done"][:3, :4].float().mean()) < 0.9
    for key in ("cell_state", "observation", "member"):
        assert torch.equal(torch.cat([part[key] for part in parts]), whole[key]), key


def test_a_terminal_state_ends_an_episode_early():
    class UntilThere(ReachCellState):
        def is_terminal(self, state, goal):
            return self.distance(state, goal) < 1e-3

    env = linear_env(EFFECTS, SHIFT, horizon=5, task=UntilThere())
    action = torch.zeros(4, 3)
    action[1] = torch.tensor([1.0, 0.5, 0.0])
    after = step(env, action)
    assert after["terminated"][:, 0].tolist() == [False, True, False, False]
    assert not after["truncated"].any()


def test_only_the_perturbations_of_the_space_reach_the_twin():
    twin = linear_twin(EFFECTS)
    task = ReachCellState()
    task.aim(twin.start_cells, twin.start_cells + SHIFT)
    env = CellStateEnv(twin, task, space=twin.perturbations.restrict(["G1"]), n_cells=2)
    before = env.reset()
    start = before["cell_state"].clone()
    after = step(env, torch.ones(2, 1), before)
    assert torch.allclose(after["cell_state"] - start, torch.tensor([[0.0, 2.0]] * 2), atol=1e-6)


def test_a_partial_reset_keeps_the_other_cells():
    env = linear_env(EFFECTS, SHIFT, horizon=3)
    state = step(env, torch.ones(4, 3))
    before = state["cell_state"].clone()
    state["_reset"] = torch.tensor([[True], [False], [True], [False]])
    after = env.reset(state)
    assert after["step_count"][:, 0].tolist() == [0, 1, 0, 1]
    assert torch.equal(after["cell_state"][[1, 3]], before[[1, 3]])
    assert not torch.equal(after["cell_state"][0], before[0])
    assert not after["used"][[0, 2]].any()


def test_start_cells_are_drawn_evenly_with_replacement():
    twin = linear_twin(EFFECTS, start=torch.arange(8.0).view(4, 2))
    drawn = twin.initial_state(8000, torch.Generator().manual_seed(0))
    counts = drawn[:, 0].int().bincount(minlength=7)[::2]
    assert counts.sum() == 8000
    assert (counts - 2000).abs().max() < 200


def test_cells_that_cannot_be_started_from_are_refused():
    twin = linear_twin(EFFECTS)
    for cells, message in (
        (torch.zeros(0, 2), "give at least one row of 2"),
        (torch.zeros(3, 5), r"shape \(3, 5\)"),
        (torch.tensor([[0.0, float("nan")], [1.0, 1.0]]), "1 of 2 start cells"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            twin.start_from(cells)
    with pytest.raises(ConfigurationError, match="GeneEffectTwin has no start cells; call start_from"):
        GeneEffectTwin().initial_state(3)


@pytest.mark.parametrize(
    "options",
    [{"horizon": 0}, {"n_cells": 0}, {"n_cells": 4, "first_cell": 2, "total_cells": 5}, {"first_cell": -1}],
)
def test_environments_that_cannot_be_are_refused(options):
    env = linear_env(EFFECTS, SHIFT)
    with pytest.raises(ConfigurationError, match="cannot be"):
        CellStateEnv(env.twin, env.task, **options)


def test_given_cells_are_where_an_episode_starts():
    env = linear_env(EFFECTS, SHIFT)
    state = normal(4, 2, seed=5)
    reset = env.reset(TensorDict({"cell_state": state}, batch_size=[4]))
    assert torch.equal(reset["cell_state"], state)
    assert torch.allclose(reset["goal_state"] - state, SHIFT.expand(4, -1), atol=1e-5)


def test_its_signature_can_be_read():
    # EnvBase hides it, so a user could not configure the class otherwise.
    parameters = inspect.signature(CellStateEnv.__init__).parameters
    assert {"twin", "task", "horizon"} <= set(parameters)
    assert isinstance(inspect.getattr_static(CellStateEnv, "__new__"), staticmethod)


def restarting_env(n_cells, first_cell=0, total_cells=None, fraction=0.25):
    source = linear_env(EFFECTS, SHIFT)
    return CellStateEnv(
        source.twin,
        source.task,
        n_cells=n_cells,
        first_cell=first_cell,
        total_cells=total_cells,
        restart_states=torch.tensor([[50.0, 0.0], [0.0, 50.0]]),
        restart_fraction=fraction,
    )


def test_a_share_of_the_cells_restarts_in_the_given_states():
    env = restarting_env(400)
    env.set_seed(0)
    state = env.reset()["cell_state"]
    away = state.norm(dim=1) == 50.0
    assert torch.equal(away, env.restarts)
    assert int(away.sum()) == 100
    first = (state[away][:, 0] == 50.0).float().mean()
    assert 0.3 < float(first) < 0.7
    assert not torch.equal(env.reset()["cell_state"][away], state[away])


def test_restarts_do_not_depend_on_how_cells_are_spread_over_processes():
    whole, halves = restarting_env(8), [restarting_env(4, first, 8) for first in (0, 4)]
    for env in (whole, *halves):
        env.set_seed(3)
    together = torch.cat([env.reset()["cell_state"] for env in halves])
    assert torch.equal(whole.reset()["cell_state"], together)
    assert [int(env.restarts.sum()) for env in halves] == [1, 1]


def test_restarts_need_somewhere_to_restart():
    env = linear_env(EFFECTS, SHIFT)
    with pytest.raises(ConfigurationError, match="there is no state to restart from"):
        CellStateEnv(env.twin, env.task, restart_fraction=0.5)


def test_an_ensemble_ends_alike_on_one_process_and_on_two():
    twin = RegulatoryNetworkTwin("krumsiek11", n_members=3)
    task = ReachCellState(goal="centroid", success="radius")
    task.aim(twin.start_cells, twin.attractors()["erythrocyte"])
    dose = 2 * torch.rand(512, 11, generator=torch.Generator().manual_seed(0)) - 1

    def end(first, n):
        env = CellStateEnv(twin, task, n_cells=n, first_cell=first, total_cells=512, horizon=3)
        env.set_seed(4)
        state = env.reset()
        for _ in range(3):
            state["action"] = dose[first : first + n]
            state = step_mdp(env.step(state))
        return state

    whole, parts = end(0, 512), [end(0, 256), end(256, 256)]
    for key in ("cell_state", "observation", "member"):
        assert torch.equal(torch.cat([part[key] for part in parts]), whole[key]), key
    assert len(whole["member"].unique()) == 3


class Sprung(GeneEffectTwin):
    """Every transition brings cells half the way back to 0."""

    relaxation_steps = 3

    def transition(self, state, dose, noise):
        return 0.5 * state + dose @ self.effects


def sprung_env(settle, horizon=2):
    twin = Sprung()
    twin.latent_dim = 2
    twin.set_buffers(effects=EFFECTS)
    twin.perturbations = PerturbationSpace(["A", "B", "C"], 0.0, 1.0)
    twin.start_from(normal(4, 2))
    task = ReachCellState(cost_l1=0.1)
    task.aim(twin.start_cells, twin.start_cells + SHIFT)
    return CellStateEnv(twin, task, n_cells=4, horizon=horizon, settle=settle)


def test_a_settled_episode_is_paid_for_where_cells_come_to_rest():
    action = torch.tensor([[1.0, 0.5, 0.0]]).expand(4, -1)
    held, settled = sprung_env(settle=False), sprung_env(settle=True)
    for env in (held, settled):
        env.set_seed(0)
    first, also = (step(env, action) for env in (held, settled))
    assert torch.equal(first["cell_state"], also["cell_state"])  # only the last step settles
    last, rested = (step(env, action, state) for env, state in ((held, first), (settled, also)))
    assert torch.allclose(rested["cell_state"], last["cell_state"] / 8, atol=1e-6)
    distance = settled.task.distance
    goal = rested["goal_state"]
    gained = distance(also["cell_state"], goal) - distance(rested["cell_state"], goal)
    assert torch.allclose(rested["reward"][:, 0], gained - 0.15, atol=1e-6)
    assert torch.equal(rested["used"], last["used"])
