import pytest
import torch
from shared_models import facts
from torch import Generator

from perturbrl.errors import ConfigurationError
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin
from perturbrl.twins.task_suite import TASK_SUITE, ladder_task, reprogramming_task

PUBLISHED_NAMES = {"L2m4": "L2", "L4m6": "L4", "L4m6t": "L4t"}


def test_tasks_are_the_published_ones() -> None:
    known = {task["id"]: task for task in facts("benchmark_tasks")["tasks"]}
    assert {PUBLISHED_NAMES.get(name, name) for name in TASK_SUITE} == known.keys()
    for name, task in TASK_SUITE.items():
        other = known[PUBLISHED_NAMES.get(name, name)]
        allowed = "all" if task.controllable is None else list(task.controllable)
        assert (task.network, task.source, task.target) == (other["model"], other["source"], other["target"])
        assert allowed == other["allowed_genes"]
        assert task.horizon >= other["min_horizon_escape_is_optimal_under_per_step_distance_reward"]
        assert (other["p_greedy"] > 0.99) is (task.kind == "easy")


@pytest.mark.parametrize("name", TASK_SUITE)
def test_twins_start_at_the_source_and_know_the_target(name: str) -> None:
    task = reprogramming_task(name)
    for twin in (task.boolean_twin(), task.continuous_twin()):
        assert twin.nearest_attractor(twin.start_cells) == [task.source]
        assert task.target in twin.attractors()
        assert twin.perturbations.names == (task.controllable or twin.network.genes)


@pytest.mark.parametrize(("rungs", "readouts"), [(2, 2), (3, 5), (6, 8)])
def test_ladders_of_any_size_need_one_action_per_rung(rungs: int, readouts: int) -> None:
    task = ladder_task(rungs, readouts)
    assert task.best_success()[: rungs + 1] == [0.0] * (rungs - 1) + [pytest.approx(1.0)] * 2
    mdp = task.mdp
    path, node = [], mdp.node("source_A")
    for actions in mdp.optimal_policy("target_B", rungs)[::-1]:
        path.append(mdp.actions[actions[node]])
        node = int(mdp.outcome[node, actions[node]].argmax())
    assert path == [f"+c{i}" for i in range(1, rungs + 1)]
    trapped = ladder_task(rungs, readouts, trapped=True)
    assert trapped.mdp.expected_interventions("target_B")[trapped.mdp.node("trap_D")] == pytest.approx(
        rungs + 1
    )


def test_the_first_step_of_a_ladder_leads_away_and_the_decoy_closer() -> None:
    mdp = ladder_task(4, 6).mdp
    distance = mdp.distance[mdp.node("target_B")]
    assert distance[mdp.node("rung_1")] == distance[mdp.node("source_A")] + 1
    assert distance[mdp.node("trap_D")] == distance[mdp.node("source_A")] - 2
    assert mdp.actions[mdp.greedy_policy("target_B")[mdp.node("source_A")]] == "+d"


def test_minimal_sets_respect_the_allowed_genes() -> None:
    assert reprogramming_task("S4").minimal_interventions() == [{"Nkx22": 1}]
    assert reprogramming_task("D1").minimal_interventions(max_genes=2) == []
    assert reprogramming_task("L2m4").minimal_interventions() == [{"c1": 1, "c2": 1}]


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"no task 'D7'; choose one of D1, D2"):
        reprogramming_task("D7")


@pytest.mark.parametrize("name", ["D1", "D8", "L4m6t"])
def test_the_exact_optimum_also_works_on_the_differential_equations(name: str) -> None:
    task, n = reprogramming_task(name), 64
    twin = RegulatoryNetworkTwin(
        task.network, task.controllable, task.source, steps_per_action=50, release_steps=50
    )
    policy, generator = task.mdp.optimal_policy(task.target, task.horizon), Generator().manual_seed(0)
    state, nothing = twin.initial_state(n, generator), torch.zeros(1, twin.perturbations.n_perturbations)
    doses = torch.cat((nothing, torch.eye(nothing.shape[1]), -torch.eye(nothing.shape[1])))
    for actions in policy[::-1]:
        nodes = [task.mdp.node(attractor) for attractor in twin.nearest_attractor(state)]
        dose = doses[torch.from_numpy(actions[nodes])]
        state = twin.transition(state, dose, twin.draw_noise(n, generator))
    assert twin.nearest_attractor(state).count(task.target) >= 0.95 * n


def test_ladders_of_any_size_have_names() -> None:
    assert reprogramming_task("L4") == reprogramming_task("L4m6")
    trapped = reprogramming_task("L5m3t")
    assert trapped.source == "trap_D"
    assert trapped.boolean_network.genes.count("c5") == 1
    assert sum(gene.startswith("q") for gene in trapped.boolean_network.genes) == 3
    with pytest.raises(ConfigurationError, match="no task 'L4x'"):
        reprogramming_task("L4x")
