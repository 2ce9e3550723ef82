import importlib.util

import numpy as np
import pytest
from places import TOOLS

from perturbrl.networks.boolean_network import load_network

PATH = TOOLS / "benchmarks" / "simulator.py"
spec = importlib.util.spec_from_file_location("simulator", PATH)
assert spec is not None
assert spec.loader is not None
simulator = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulator)


@pytest.mark.parametrize("tuned", [False, True])
def test_boolode_equations_are_the_published_ones(tuned: bool) -> None:
    network, random = load_network("krumsiek11"), np.random.default_rng(0)
    derivative = simulator.boolode_right_hand_side(network, tuned)
    y = np.concatenate([2 * random.random(11), 20 * random.random(11)])
    x, p = y[:11], y[11:]
    expected = []
    for i, rule in enumerate(network.rules.values()):
        hill = [(p[network.genes.index(name)] / 10) ** 10 for name in rule.regulators]
        # alpha_S is 1 where the rule is true; S runs over the sets of bound regulators.
        numerator = sum(
            float(value) * np.prod([h for j, h in enumerate(hill) if s >> j & 1])
            for s, value in enumerate(rule.truth_table)
        )
        expected.append(20 * numerator / np.prod([1 + h for h in hill]) - 10 * x[i])
    expected += list(10 * x - p)
    assert derivative(y, 0.0) == pytest.approx(expected)


def test_rates_count_cells_genes_and_steps() -> None:
    network = load_network("mcad")
    assert simulator.twin_rate(network, 0.0, 64, 3) > 0
    assert simulator.twin_rate(network, 0.1, 64, 3) > 0
    assert simulator.boolode_rate(False, 1) > 0


def test_random_networks_have_the_asked_size() -> None:
    network = simulator.random_network(40, regulators=3, seed=1)
    assert len(network.genes) == 40
    assert max(len(rule.regulators) for rule in network.rules.values()) <= 3
    assert simulator.random_network(40, seed=1).rules == simulator.random_network(40, seed=1).rules
    assert simulator.random_network(40, seed=2).rules != network.rules


def test_a_doubling_of_time_with_size_is_exponent_one() -> None:
    assert simulator._exponent([10, 20, 40], [1.0, 2.0, 4.0]) == pytest.approx(1.0)
