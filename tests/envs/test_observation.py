"""Equal observations are followed by the same: the policy sees which perturbations are used up, in few columns."""

import numpy as np
import pytest
import torch
from linear_twin import linear_twin, normal
from response_screen import response_twin
from torchrl.envs.utils import step_mdp

from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.envs.observation import ObservationFunction
from perturbrl.envs.tasks import ReachCellState
from perturbrl.twins.perturbations import PerturbationSpace
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin

TIME, LEFT = 1, 1


def aimed(latent=3, **options):
    task = ReachCellState(**options)
    start = normal(30, latent)
    task.aim(start, start + 1.0)
    return task


def view(n, horizon=4, limit=2, **options):
    space = PerturbationSpace([f"P{i}" for i in range(n)], max_perturbations=limit)
    return ObservationFunction(aimed(**options), space, horizon)


@pytest.mark.parametrize(("n", "columns"), [(11, 11), (64, 64), (65, 64), (5000, 64)])
def test_the_width_does_not_grow_with_thousands_of_perturbations(n, columns):
    assert view(n).width == 6 + LEFT + columns + TIME
    used = torch.zeros(7, n, dtype=torch.bool)
    seen = view(n)(normal(7, 3), normal(7, 3), used, torch.zeros(7, 1, dtype=torch.long))
    assert seen.shape == (7, view(n).width)


@pytest.mark.parametrize(
    ("options", "remembers"),
    [
        ({}, True),
        ({"horizon": 1}, False),
        ({"limit": None}, False),
        ({"limit": 5}, False),
        ({"limit": None, "cost_per_perturbation": 0.1}, True),
        ({"limit": None, "cost_l1": 0.1}, False),
        ({"horizon": 1, "cost_per_perturbation": 0.1}, False),
    ],
)
def test_it_says_what_is_used_only_where_that_matters(options, remembers):
    assert view(5, **options).remembers is remembers
    assert view(5, **options).width == 7 + (6 if remembers else 0)


def test_what_is_left_and_what_is_used_are_said_as_they_are():
    used = torch.zeros(3, 5, dtype=torch.bool)
    used[1, 2] = used[2, 0] = used[2, 4] = True
    seen = view(5)(normal(3, 3), normal(3, 3), used, torch.full((3, 1), 3))
    assert seen[:, 6].tolist() == [1.0, 0.5, 0.0]
    assert torch.equal(seen[:, 7:12], used.float())
    assert seen[:, 12].tolist() == [0.25, 0.25, 0.25]


def images_of(n):
    """What is added to the observation by each perturbation alone."""
    seen = view(n, limit=3)(
        torch.zeros(n, 3), torch.zeros(n, 3), torch.eye(n).bool(), torch.zeros(n, 1).long()
    )
    return seen[:, 7:71]


def test_an_image_is_a_sum_to_the_last_bit():
    images, used = images_of(5000), torch.zeros(1, 5000, dtype=torch.bool)
    rows = torch.arange(0, 5000, 7)
    used[0, rows] = True
    seen = view(5000, limit=4000)(torch.zeros(1, 3), torch.zeros(1, 3), used, torch.zeros(1, 1).long())
    assert torch.equal(seen[0, 7:71], images[rows].double().sum(0).float())
    assert torch.equal(images, images_of(5000))


def test_images_are_as_long_as_one_hot_rows_and_nearly_at_right_angles():
    images = images_of(5000)
    assert torch.allclose(images.norm(dim=1), torch.ones(5000))
    cosine = images @ images.T - torch.eye(5000)
    assert float(cosine.abs().max()) < 0.85
    assert float(cosine.square().mean().sqrt()) == pytest.approx(1 / 8, rel=0.02)


def numbers_of(n):
    """Two whole numbers per perturbation whose sums over a set say the set's image, while it has at most three."""
    bits = (images_of(n) > 0).numpy().astype(np.uint64)
    weights = np.uint64(4) ** np.arange(32, dtype=np.uint64)
    return bits[:, :32] @ weights, bits[:, 32:] @ weights


def different(first, second):
    """Whether all pairs of numbers differ; equal ones would certainly collide in this mixture."""
    mixed = np.sort(first * np.uint64(0x9E3779B97F4A7C15) + second)
    return bool((mixed[1:] != mixed[:-1]).all())


def test_no_two_sets_of_two_among_thousands_look_alike():
    a, b = numbers_of(5000)
    i, j = np.triu_indices(5000, 1)
    assert different(a[i] + a[j], b[i] + b[j])
    assert different(a, b)


def test_no_two_sets_of_three_among_two_hundred_look_alike():
    a, b = numbers_of(200)
    i, j, k = np.array([(i, j, k) for i in range(200) for j in range(i) for k in range(j)]).T
    assert different(a[i] + a[j] + a[k], b[i] + b[j] + b[k])


def test_sets_that_differ_lie_apart():
    images = images_of(5000)
    generator = torch.Generator().manual_seed(0)
    sets = torch.rand(400, 5000, generator=generator).topk(3).indices
    apart = torch.pdist(images[sets].sum(1))
    # One-hot, sets of three without a common member would lie 2.45 apart.
    assert float(apart.min()) > 1.0


@pytest.mark.parametrize("n", [5, 70])
def test_equal_observations_are_followed_by_the_same(n):
    # All perturbations do the same, so the state says nothing about which were given.
    effect, n_cells = normal(1, 3).expand(n, 3), 300
    twin = linear_twin(effect, start=torch.zeros(1, 3), discrete=True, max_perturbations=2)
    task = aimed(goal="centroid", cost_per_perturbation=0.2)
    env = CellStateEnv(twin, task, horizon=4, n_cells=n_cells)
    state, generator = env.reset(), torch.Generator().manual_seed(1)
    for _ in range(2):
        state["action"] = torch.randint(min(n, 5) + 1, (n_cells,), generator=generator)
        state = step_mdp(env.step(state))
    _, group = state["observation"].unique(dim=0, return_inverse=True)
    assert int(group.max()) < n_cells / 2
    for action in range(7 if n > 6 else n + 1):
        state["action"] = torch.full((n_cells,), action)
        after = env.step(state.clone())["next"]
        for key in ("reward", "observation", "done"):
            outcome = after[key].float()
            first = torch.stack([outcome[group == g][0] for g in range(int(group.max()) + 1)])
            torch.testing.assert_close(outcome, first[group], msg=f"{key} after action {action}")


def test_the_quickstart_shows_which_genes_are_used_up():
    twin = RegulatoryNetworkTwin("krumsiek11", noise=0.0)
    start = twin.attractors()["monocyte"]
    twin.start_from(start)
    task = ReachCellState(goal="centroid", success="radius", cost_l1=0.01)
    task.aim(start.expand(2, -1), twin.attractors()["erythrocyte"].expand(2, -1))
    space = twin.perturbations.restrict(max_perturbations=2)
    env = CellStateEnv(twin, task, space=space, horizon=4, n_cells=2)
    off = (start[0] == 0).nonzero()[:4, 0]
    state = env.reset()
    # Knock-outs of genes that are off change no state, but use up what may be dosed.
    state["action"] = torch.zeros(2, 11).scatter(1, off.view(2, 2), -1.0)
    state = step_mdp(env.step(state))
    assert torch.equal(state["cell_state"][0], state["cell_state"][1])
    seen = state["observation"].clone()
    state["action"] = torch.zeros(2, 11).index_fill(1, off[:1], 1.0)
    reward = env.step(state)["next", "reward"]
    assert abs(float(reward[0] - reward[1])) > 0.1
    assert not torch.equal(seen[0], seen[1])


def test_doses_are_seen_where_what_follows_depends_on_them():
    twin = response_twin()
    task, start = ReachCellState(), twin.place(twin.start_cells)
    task.aim(start, start + 1.0)
    env = CellStateEnv(twin, task, horizon=3, n_cells=2)
    env.set_seed(0)
    state = env.reset()
    for given in ([0.3, 0, 0, 0, 0.9], [0.2, 0, 0.5, 0, 0]):
        state["action"] = torch.tensor([given, [0.0] * 5])
        state = step_mdp(env.step(state))
    received = state["observation"][:, task.observation_dim + LEFT : -TIME]
    assert torch.allclose(received, torch.tensor([[0.3, 0, 0.5, 0, 0.9], [0.0] * 5]))
