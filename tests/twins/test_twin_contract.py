"""One contract for all twins and tasks. A new twin or task is one line in ``TWINS`` or ``TASKS``."""

from copy import deepcopy

import pytest
import torch
from branching_cells import branching_cells, encoder_of
from joint_cells import joint_twin
from linear_twin import linear_twin, normal
from residual_screen import fitted_twin
from response_screen import response_twin
from tensordict import TensorDict
from torchrl.envs.utils import check_env_specs

from perturbrl.data.synthetic import simulate_screen
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.envs.tasks import ReachCellState
from perturbrl.twins import check_twin
from perturbrl.twins.boolean import BooleanNetworkTwin
from perturbrl.twins.gene_effect import GeneEffectTwin
from perturbrl.twins.landscape import LandscapeTwin
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin

N_CELLS, HORIZON = 6, 3


def fitted(effects, **options):
    adata = simulate_screen(n_perturbations=4, n_genes=40, n_control=60, cells_per_perturbation=30, seed=1)
    counts = torch.as_tensor(adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X).float()
    expression = torch.log1p(1e4 * counts / counts.sum(1, keepdim=True))
    encoder = PCAEncoder(latent_dim=5).fit(expression)
    labels = tuple(adata.obs["perturbation"].astype(str))
    cells = EncodedCells(encoder.encode(expression), expression, labels, tuple(adata.var_names))
    twin = GeneEffectTwin(effects=effects, **options).fit(cells, encoder)
    twin.start_from(cells.latent[cells.rows_of("control")])
    return twin


def landscape(**options):
    cells = branching_cells()
    twin = LandscapeTwin(steps_per_action=3, **options).fit(cells, encoder_of(cells))
    twin.start_from(cells.latent[:100])
    return twin


TWINS = {
    "experimental": lambda: fitted("experimental"),
    "in_silico": lambda: fitted("in_silico", noise_scale=0.1),
    "joint": lambda: fitted("joint", normalise=True, min_dose_value=-1.0),
    "linear, limited": lambda: linear_twin(normal(5, 3), low=-1.0, noise_scale=0.2, max_perturbations=2),
    "linear, discrete": lambda: linear_twin(normal(5, 3), low=-1.0, discrete=True),
    "regulatory network": lambda: RegulatoryNetworkTwin("krumsiek11", steps_per_action=5),
    "regulatory ensemble": lambda: RegulatoryNetworkTwin("krumsiek11", steps_per_action=5, n_members=3),
    "Boolean network": lambda: BooleanNetworkTwin("krumsiek11"),
    "landscape": lambda: landscape(n_members=1),
    "landscape ensemble": lambda: landscape(n_members=2),
    "response": lambda: response_twin(),
    "response, few of many, ensemble": lambda: response_twin(remembered=2, n_members=3),
    "joint halves": lambda: joint_twin(),
    "residual": lambda: fitted_twin(),
    "residual, dimensions": lambda: fitted_twin(directions="dimensions"),
}
TASKS = {
    "shift": lambda: ReachCellState(),
    "centroid, radius, costs": lambda: ReachCellState(
        goal="centroid", success="radius", cost_l1=0.1, cost_l2=0.05, cost_per_perturbation=0.2
    ),
}


@pytest.fixture(scope="module", params=TWINS, ids=str)
def master(request):
    return TWINS[request.param]()


@pytest.fixture
def twin(master):
    return deepcopy(master)


@pytest.fixture(params=TASKS, ids=str)
def task(request, twin):
    task = TASKS[request.param]()
    generator = torch.Generator().manual_seed(3)
    place = twin.place(twin.initial_state(40, generator))
    start = place + 0.05 * normal(*place.shape, seed=1)
    task.aim(start, start + 0.3 + 0.05 * normal(*place.shape, seed=2))
    return task


def make_env(twin, task, seed=0, **options):
    options = {"n_cells": N_CELLS, "horizon": HORIZON} | options
    env = CellStateEnv(deepcopy(twin), deepcopy(task), **options)
    env.set_seed(seed)
    return env


def actions(env, steps, seed=0):
    torch.manual_seed(seed)
    return [env.action_spec.rand() for _ in range(steps)]


def play(env, given):
    state, steps = env.reset(), []
    for action in given:
        state["action"] = action
        state = env.step(state)
        steps.append(state)
        state = state["next"].exclude("reward").clone()
    return torch.stack(steps, 1)


def test_the_contract_is_kept(twin):
    before = {name: value.clone() for name, value in twin.state_dict().items()}
    check_twin(twin)
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_specs_are_true(twin, task):
    check_env_specs(make_env(twin, task))


def test_auto_reset_gives_each_row_fresh_values(twin, task):
    env = make_env(twin, task)
    rollout = env.rollout(3 * HORIZON, break_when_any_done=False)
    assert rollout.shape == (N_CELLS, 3 * HORIZON)
    done = rollout["next", "done"][..., 0]
    expected = torch.arange(1, 3 * HORIZON + 1) % HORIZON == 0
    assert torch.equal(done, expected.expand_as(done))
    assert torch.equal(rollout["next", "terminated"][..., 0], done)
    assert not rollout["next", "truncated"].any()
    after_reset = torch.cat((torch.tensor([True]), expected[:-1]))
    assert (rollout["step_count"][:, after_reset] == 0).all()
    assert not rollout["used"][:, after_reset].any()
    assert (rollout["dose"][:, after_reset] == 0).all()
    starts = rollout["cell_state"][:, after_reset]
    known = env.twin.start_cells
    assert (starts.flatten(0, 1)[:, None] == known).all(-1).any(1).all()
    assert torch.allclose(
        rollout["goal_state"][:, after_reset].flatten(0, 1),
        env.task.goal_state(env.twin.place(starts.flatten(0, 1))),
    )


def test_starts_differ_between_episodes(twin, task):
    if len(twin.start_cells.unique(dim=0)) < 20:
        pytest.skip("this twin starts from few attractors, so equal starts are no mistake")
    rollout = make_env(twin, task, n_cells=30, horizon=1).rollout(2, break_when_any_done=False)
    assert not torch.equal(rollout["cell_state"][:, 0], rollout["cell_state"][:, 1])


def test_equal_seeds_give_equal_episodes_and_others_do_not(twin, task):
    given = actions(make_env(twin, task), HORIZON)
    first, again = (play(make_env(twin, task, seed=5), given) for _ in range(2))
    for key in first.keys(include_nested=True, leaves_only=True):
        assert torch.equal(first[key], again[key]), key
    other = play(make_env(twin, task, seed=6, n_cells=N_CELLS), given)
    assert not torch.equal(first["cell_state"][:, 0], other["cell_state"][:, 0])


def test_cells_may_be_spread_over_processes(twin, task):
    given = actions(make_env(twin, task), HORIZON)
    whole = play(make_env(twin, task, seed=2), given)
    for first, n in ((0, 4), (4, 2), (3, 1)):
        rows = slice(first, first + n)
        env = make_env(twin, task, seed=2, n_cells=n, first_cell=first, total_cells=N_CELLS)
        part = play(env, [action[rows] for action in given])
        for key in (
            "cell_state",
            "observation",
            ("next", "reward"),
            "member",
            ("next", "cell_state"),
            ("next", "used"),
        ):
            assert torch.allclose(part[key].float(), whole[key][rows].float(), atol=1e-5), key


def test_a_cells_row_does_not_matter(twin):
    generator = torch.Generator().manual_seed(0)
    space, n = twin.perturbations, 12
    state, noise, member = twin.initial_state(n, generator), twin.draw_noise(n, generator), torch.arange(n)
    dose = space.low + torch.rand(n, space.n_perturbations, generator=generator) * (space.high - space.low)
    given = (state, dose, noise, member % twin.n_members)
    together = twin.next_state(*given)
    for rows in (torch.arange(n).flip(0), torch.arange(5, 12), torch.tensor([3]), torch.tensor([11, 0, 4])):
        assert torch.allclose(twin.next_state(*(value[rows] for value in given)), together[rows], atol=1e-5)


def test_members_are_drawn_evenly_and_in_random_order(twin):
    drawn, again, other = (twin.draw_members(100, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    counts = torch.bincount(drawn, minlength=twin.n_members)
    assert len(counts) == twin.n_members
    assert int(counts.max() - counts.min()) <= 1
    assert torch.equal(drawn, again)
    assert twin.n_members == 1 or not torch.equal(drawn, other)


def test_a_cell_keeps_its_member_for_an_episode(twin, task):
    rollout = make_env(twin, task).rollout(2 * HORIZON, break_when_any_done=False)
    member = rollout["member"][:, :, 0]
    first, second = member[:, :HORIZON], member[:, HORIZON:]
    assert (first == first[:, :1]).all()
    assert (second == second[:, :1]).all()
    assert torch.equal(rollout["next", "member"], rollout["member"])
    assert twin.n_members == 1 or not torch.equal(first[:, 0], second[:, 0])


def test_a_checkpoint_moves_cells_alike(master, twin, task):
    given = actions(make_env(twin, task), HORIZON)
    saved = {name: value.clone() for name, value in twin.state_dict().items()}
    for value in twin.state_dict().values():
        value.zero_()
    twin.load_state_dict(saved)
    other = TASKS["shift"]()
    other.goal, other.success = task.goal, task.success
    other.cost_l1, other.cost_l2 = task.cost_l1, task.cost_l2
    other.cost_per_perturbation, other.success_radius = task.cost_per_perturbation, task.success_radius
    other.load_state_dict(task.state_dict())
    assert all(torch.isfinite(value).all() for value in (*saved.values(), *task.state_dict().values()))
    restored, original = play(make_env(twin, other), given), play(make_env(master, task), given)
    assert torch.equal(restored["next", "cell_state"], original["next", "cell_state"])
    assert torch.equal(restored["next", "reward"], original["next", "reward"])


def test_everything_moves_with_the_twin(twin, task):
    # The meta device holds no values, so a tensor that stayed behind on the CPU cannot be mixed in unnoticed.
    twin.to("meta")
    task.to("meta")
    for module in (twin, task):
        assert {value.device.type for value in (*module.buffers(), *module.parameters())} <= {"meta"}
    if isinstance(twin, BooleanNetworkTwin | RegulatoryNetworkTwin) or twin.n_members > 1:
        return  # control flow over values
    state = torch.empty(4, twin.latent_dim, device="meta")
    dose = torch.empty(4, twin.perturbations.n_perturbations, device="meta")
    used = torch.zeros(dose.shape, dtype=torch.bool, device="meta")
    member = torch.zeros(4, dtype=torch.long, device="meta")
    noise = torch.empty_like(twin.draw_noise(4), device="meta")
    following = twin.next_state(state, twin.perturbations.expand(dose), noise, member)
    before, after = twin.place(state), twin.place(following)
    goal = task.goal_state(before)
    assert twin.expression(following).device.type == "meta"
    assert task.observation(after, goal).shape == (4, task.observation_dim)
    assert task.reward(before, dose, after, goal, used).device.type == "meta"
    assert task.is_success(after, goal).device.type == "meta"


def test_doses_stay_in_the_box_and_within_the_limits(twin, task):
    space = twin.perturbations
    limits = {"max_perturbations": 1} if space.max_perturbations is None else {}
    env = make_env(twin, task, space=space.restrict(space.names[::-1][:3], min_dose=0.3, **limits))
    rollout = env.rollout(HORIZON, break_when_any_done=False)
    dose, space = rollout["next", "dose"], env.space
    assert ((dose >= space.low) & (dose <= space.high)).all()
    sizes = (dose / (space.high - space.low)).abs()
    assert ((sizes == 0) | (sizes > 0.3)).all()
    assert (dose != 0).any()
    used = (dose != 0).any(1)
    assert (used.sum(-1) <= space.max_perturbations).all()
    assert torch.equal(rollout["next", "used"][:, -1], used)


def test_rewards_telescope(twin, task):
    rollout = make_env(twin, task).rollout(HORIZON, break_when_any_done=False)
    goal, dose = rollout["goal_state"][:, 0], rollout["next", "dose"]
    way = task.distance(twin.place(rollout["cell_state"][:, 0]), goal)
    left = task.distance(twin.place(rollout["next", "cell_state"][:, -1]), goal)
    price = (
        task.cost_l1 * dose.abs().sum((1, 2))
        + task.cost_l2 * dose.square().sum((1, 2))
        + task.cost_per_perturbation * (dose != 0).any(1).sum(-1)
    )
    total = rollout["next", "reward"].sum((1, 2))
    assert torch.allclose(total, way - left - price, atol=1e-4)


def test_values_are_finite_and_flags_have_one_value_per_cell(twin, task):
    env = make_env(twin, task)
    rollout = env.rollout(2 * HORIZON, break_when_any_done=False)
    for key, value in rollout.items(include_nested=True, leaves_only=True):
        assert torch.isfinite(value.float()).all(), key
    state = env.twin.place(rollout["next", "cell_state"][:, -1])
    success = env.task.is_success(state, env.task.goal_state(state))
    assert success.shape == (N_CELLS,)
    assert success.dtype is torch.bool


def test_a_reset_may_be_given_the_cells(twin, task):
    env = make_env(twin, task)
    state = twin.start_cells[:1].expand(N_CELLS, -1) + 0.0
    reset = env.reset(TensorDict({"cell_state": state}, batch_size=[N_CELLS]))
    assert torch.equal(reset["cell_state"], state)
