import biodivine_aeon as aeon
import numpy as np
import pytest

from perturbrl.errors import NetworkError
from perturbrl.networks import symbolic
from perturbrl.networks.attractors import attractors, steady_states
from perturbrl.networks.bnet import parse_bnet
from perturbrl.networks.boolean_network import BooleanNetwork, load_network


def network(text: str) -> BooleanNetwork:
    return BooleanNetwork("test", parse_bnet(text).rules)


def test_names_and_constants_that_the_library_would_not_accept() -> None:
    net = network("a.1-x, (a.1-x & 1) | 0\nb, 0\nc, 1\n")
    assert sorted(symbolic.symbolic_steady_states(net).tolist()) == [[0, 0, 1], [1, 0, 1]]


def test_more_than_twenty_genes_are_handed_to_the_library() -> None:
    chain = network("g0, g0\n" + "\n".join(f"g{i}, g{i - 1}" for i in range(1, 30)))
    assert sorted(steady_states(chain).sum(axis=1).tolist()) == [0, 30]
    off = np.zeros((1, 30), dtype=np.uint8)
    assert [s.sum() for s in attractors(chain, {"g4": 1}, off)] == [26]


def test_attractors_with_too_many_states_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolic, "MAX_LISTED_STATES", 7)
    with pytest.raises(NetworkError, match="8 states, more than the 7"):
        symbolic.symbolic_attractors(network("a, !a\nb, !b\nc, !c\n"))


@pytest.mark.parametrize("name", ["krumsiek11", "cd4_martinez2015", "bcell_macrophage_collombet2017"])
def test_what_the_library_writes_is_read_back_as_the_same_functions(name: str) -> None:
    net = load_network(name)
    lines = [f"{gene}, {rule.text()}" for gene, rule in net.rules.items()]
    written = aeon.BooleanNetwork.from_bnet("targets, factors\n" + "\n".join(lines) + "\n").to_bnet()
    again = parse_bnet(written).rules
    random = np.random.default_rng(0)
    values = {gene: random.integers(0, 2, 500).astype(bool) for gene in net.genes}
    for gene, rule in net.rules.items():
        same = np.broadcast_to(rule.evaluate(values), 500) == np.broadcast_to(
            again[gene].evaluate(values), 500
        )
        assert same.all(), gene
