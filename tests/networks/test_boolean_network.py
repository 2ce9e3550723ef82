from pathlib import Path

import numpy as np
import pytest
from shared_models import NAMES, facts

from perturbrl.errors import NetworkError
from perturbrl.networks import boolean_network
from perturbrl.networks.bnet import parse_bnet
from perturbrl.networks.boolean_network import (
    BooleanNetwork,
    StateSpace,
    load_network,
    shipped_networks,
    trap_ladder,
    trap_ladder_text,
)


def network(text: str) -> BooleanNetwork:
    parsed = parse_bnet(text)
    return BooleanNetwork("test", parsed.rules, parsed.markers)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_rules_are_the_published_ones(name: str) -> None:
    published, ours = facts(name), load_network(name)
    assert list(ours.genes) == published["genes"]
    for gene, rule in ours.rules.items():
        table = [
            bool(eval(published["rules"][gene], {}, {r: s >> j & 1 for j, r in enumerate(rule.regulators)}))
            for s in range(2 ** len(rule.regulators))
        ]
        assert rule.truth_table.tolist() == table, gene


def test_every_shipped_network_is_covered_by_the_facts() -> None:
    assert set(shipped_networks()) == set(NAMES)


def test_loads_a_file_by_path(tmp_path: Path) -> None:
    path = tmp_path / "toggle.bnet"
    path.write_text("a, !b\nb, !a\n")
    assert load_network(path).genes == ("a", "b")
    assert load_network(str(path)).name == "toggle"


def test_an_unknown_network_lists_the_shipped_ones() -> None:
    with pytest.raises(NetworkError, match=r"no network 'krumsiek'.*krumsiek11"):
        load_network("krumsiek")
    with pytest.raises(NetworkError, match=r"no network 'missing.bnet'"):
        load_network("missing.bnet")


def test_a_binary_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.bnet"
    path.write_bytes(b"a, \xff\xfe\n")
    with pytest.raises(NetworkError, match="not a text file"):
        load_network(path)


@pytest.mark.parametrize(("rungs", "readouts"), [(2, 4), (4, 6)])
def test_shipped_ladders_are_the_generated_ones(rungs: int, readouts: int) -> None:
    name = f"synthetic_trap_ladder_L{rungs}_m{readouts}"
    shipped = Path(boolean_network.__file__).parent / "files" / f"{name}.bnet"
    assert shipped.read_text() == trap_ladder_text(rungs, readouts)
    assert load_network(name) == trap_ladder(rungs, readouts)


def test_ladders_of_any_size_load_by_name_and_tiny_ones_are_refused() -> None:
    assert len(load_network("synthetic_trap_ladder_L7_m3").genes) == 7 + 2 + 3
    with pytest.raises(NetworkError, match="at least 2 rungs"):
        trap_ladder_text(1, 4)


def test_clamping_replaces_rules_and_checks_names_and_values() -> None:
    toggle = network("a, !b\nb, !a\n")
    assert toggle.clamp({"a": 1}).rules["a"].truth_table.tolist() == [True]
    assert toggle.rules["a"].regulators == ("b",)
    with pytest.raises(NetworkError, match="no gene 'c'"):
        toggle.clamp({"c": 1})
    with pytest.raises(NetworkError, match="clamped to 2"):
        toggle.clamp({"a": 2})
    assert toggle.state({"b": 1}).tolist() == [0, 1]


def naive_image(network: BooleanNetwork, state: np.ndarray) -> list[int]:
    values = {g: np.array(bool(v)) for g, v in zip(network.genes, state, strict=True)}
    return [int(rule.evaluate(values)) for rule in network.rules.values()]


@pytest.mark.parametrize("name", ["krumsiek11", "emt_switch12", "cd4_martinez2015", "tlgl_saadatpour2011"])
def test_images_and_successors_agree_with_evaluating_each_rule(name: str) -> None:
    net = load_network(name)
    states = np.random.default_rng(0).integers(0, 2, (20, len(net.genes))).astype(np.uint8)
    space = StateSpace(net, states)
    codes = space.compress(states)
    assert (space.expand(codes) == states).all()
    images = space.expand(space.image(codes))
    assert images.tolist() == [naive_image(net, s) for s in states]
    following = space.expand(space.successors(codes).ravel()).reshape(20, space.n_bits, -1)
    for state, image, after in zip(states, images, following, strict=True):
        for bit, gene in enumerate(space.free):
            expected = state.copy()
            expected[gene] = image[gene]
            assert (after[bit] == expected).all()


def test_constant_genes_are_left_out_only_where_the_start_agrees() -> None:
    net = network("a, 1\nb, a & b\n")
    assert StateSpace(net).n_bits == 1
    assert StateSpace(net, np.array([[1, 0]], dtype=np.uint8)).n_bits == 1
    off = StateSpace(net, np.array([[0, 1]], dtype=np.uint8))
    assert off.n_bits == 2
    assert off.expand(off.image(np.array([2]))).tolist() == [[1, 0]]


def test_too_many_genes_to_code_is_an_error() -> None:
    with pytest.raises(NetworkError, match="63 genes that can change"):
        StateSpace(network("\n".join(f"g{i}, g{i}" for i in range(63))))
