from functools import cache
from typing import Any

import numpy as np
import pytest
from shared_models import facts

from perturbrl.errors import ConfigurationError
from perturbrl.networks.bnet import parse_bnet
from perturbrl.networks.boolean_network import BooleanNetwork, load_network
from perturbrl.networks.macro_mdp import MacroMDP, StateDistribution, macro_mdp, settle

TASKS = ["D1", "D2", "D3", "D4", "D5", "D8", "D9", "D10", "D11", "L2", "L4", "L4t", "S1", "S2", "S3", "S4"]


def network(text: str) -> BooleanNetwork:
    parsed = parse_bnet(text)
    return BooleanNetwork("test", parsed.rules, parsed.markers)


@cache
def mdp_of(name: str, *genes: str) -> MacroMDP:
    return macro_mdp(load_network(name), genes or None)


def published(task: str) -> Any:
    return next(t for t in facts("benchmark_tasks")["tasks"] if t["id"] == task)


@pytest.mark.parametrize("task", TASKS)
def test_values_are_the_published_ones(task: str) -> None:
    known = published(task)
    allowed = () if known["allowed_genes"] == "all" else known["allowed_genes"]
    mdp = mdp_of(known["model"], *allowed)
    source, target = mdp.node(known["source"]), known["target"]
    assert len(mdp.actions) == 1 + known["n_actions"]
    assert mdp.distance[source, mdp.node(target)] == known["distance"]
    assert mdp.outcome.sum(axis=2) == pytest.approx(1.0)
    optimal = mdp.optimal_values(target, 12)[1:, source]
    assert optimal == pytest.approx(known["p_opt_within"], abs=1e-6)
    assert mdp.random_values(target, 12)[1:, source] == pytest.approx(known["p_random_within"], abs=1e-6)
    greedy = mdp.policy_values(mdp.greedy_policy(target), target, 12)[-1, source]
    assert greedy == pytest.approx(known["p_greedy"], abs=1e-9)
    expected = mdp.expected_interventions(target)[source]
    assert expected == pytest.approx(known["min_expected_interventions"], abs=1e-6)
    for step in known["optimal_most_likely_path"]:
        row = mdp.outcome[mdp.node(step["at"]), mdp.actions.index(step["action"])]
        for outcome, probability in step["outcomes"].items():
            assert row[mdp.node(outcome)] == pytest.approx(probability, abs=1e-6)


@pytest.mark.parametrize("name", ["mcad", "vsc", "krumsiek11"])
def test_values_of_all_pairs_are_the_published_ones(name: str) -> None:
    model = next(m for m in facts("minimal_interventions")["models"] if m["model"] == name)
    mdp = mdp_of(name)
    for pair in model["pairs"]:
        known, source = pair["single_gene_macro_mdp"], mdp.node(pair["source"])
        values = mdp.optimal_values(pair["target"], 6)[1:, source]
        assert values == pytest.approx(known["p_opt_by_steps"], abs=1e-6)


def follow(mdp: MacroMDP, policy: np.ndarray, source: int, target: str) -> float:
    mass = np.eye(len(mdp.attractors))[source]
    for actions in policy[::-1]:
        mass = mass @ mdp.outcome[np.arange(len(mass)), actions]
    return float(mass[mdp.node(target)])


@pytest.mark.parametrize("name", ["krumsiek11", "emt_switch12"])
def test_the_optimal_policy_attains_the_optimal_value_and_no_other_beats_it(name: str) -> None:
    mdp, random = mdp_of(name), np.random.default_rng(0)
    for target in mdp.attractors:
        best = mdp.optimal_values(target, 4)[-1]
        for source in range(len(mdp.attractors)):
            attained = follow(mdp, mdp.optimal_policy(target, 4), source, target)
            assert attained == pytest.approx(best[source], abs=1e-9)
            other = random.integers(0, len(mdp.actions), (4, len(mdp.attractors)))
            assert follow(mdp, other, source, target) <= best[source] + 1e-9


def test_settling_by_hand() -> None:
    # From (0, 0) either gene of a toggle may switch on first.
    toggle = network("a, !b\nb, !a\n")
    start = StateDistribution(np.array([[0, 0]], dtype=np.uint8), np.ones(1))
    settled = settle(toggle, start)
    assert dict(
        zip(map(tuple, settled.states.tolist()), settled.probabilities, strict=True)
    ) == pytest.approx({(1, 0): 0.5, (0, 1): 0.5})
    assert settle(toggle, start, {"a": 1}).states.tolist() == [[1, 0]]


def test_a_cycle_is_left_in_its_stationary_distribution() -> None:
    # c waits on (off only when both are on) a and b, which flip for ever.
    net = network("a, !a\nb, a\n")
    settled = settle(net, StateDistribution(np.array([[0, 0]], dtype=np.uint8), np.ones(1)))
    chain = np.zeros((4, 4))
    for code in range(4):
        a, b = code & 1, code >> 1
        chain[code, (1 - a) + 2 * b] += 0.5
        chain[code, a + 2 * a] += 0.5
    power = np.linalg.matrix_power(chain, 200)[0]
    found = np.zeros(4)
    found[settled.states @ [1, 2]] = settled.probabilities
    assert found == pytest.approx(power)


def test_an_unreachable_target_costs_infinitely_much_and_an_unknown_one_is_an_error() -> None:
    mdp = mdp_of("krumsiek11", "cJun")
    assert np.isinf(mdp.expected_interventions("erythrocyte")[mdp.node("monocyte")])
    assert mdp.expected_interventions("erythrocyte")[mdp.node("erythrocyte")] == 0.0
    with pytest.raises(ConfigurationError, match="no attractor 'neuron'"):
        mdp.node("neuron")


@pytest.mark.parametrize("task", TASKS)
def test_lookahead_planners_do_as_published(task: str) -> None:
    known = published(task)
    mdp = mdp_of(known["model"], *(() if known["allowed_genes"] == "all" else known["allowed_genes"]))
    source, target = mdp.node(known["source"]), known["target"]
    for depth, success in known["p_lookahead_by_depth"].items():
        policy = mdp.lookahead_policy(target, int(depth))
        assert mdp.policy_values(policy, target, 12)[-1, source] == pytest.approx(success, abs=1e-6)
