from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_models import NAMES, facts

from perturbrl.errors import NetworkError
from perturbrl.networks import symbolic
from perturbrl.networks.attractors import (
    attractors,
    basins,
    closure,
    name_attractors,
    named_attractors,
    steady_states,
)
from perturbrl.networks.bnet import parse_bnet
from perturbrl.networks.boolean_network import BooleanNetwork, StateSpace, load_network


def network(text: str) -> BooleanNetwork:
    parsed = parse_bnet(text)
    return BooleanNetwork("test", parsed.rules, parsed.markers)


def as_sets(found: list[np.ndarray]) -> set[frozenset[bytes]]:
    return {frozenset(s.tobytes() for s in states) for states in found}


@pytest.mark.parametrize("name", NAMES)
def test_steady_states_are_the_published_ones_under_their_names(name: str) -> None:
    published, net = facts(name), load_network(name)
    states = steady_states(net)
    expected = {
        attractor: net.state(s)
        for attractor, s in zip(published["attractor_names"], published["steady_states"], strict=True)
    }
    named = name_attractors(net, list(states[:, None]))
    assert named.keys() == expected.keys()
    for attractor, state in expected.items():
        assert (named[attractor][0] == state).all()


@pytest.mark.parametrize("name", ["krumsiek11", "mcad", "vsc", "emt_switch12", "synthetic_trap_ladder_L4_m6"])
def test_steady_states_by_trying_every_state_one_by_one(name: str) -> None:
    net = load_network(name)
    found = {s.tobytes() for s in steady_states(net)}
    for state in product((0, 1), repeat=len(net.genes)):
        values = {g: np.array(bool(v)) for g, v in zip(net.genes, state, strict=True)}
        fixed = all(
            int(rule.evaluate(values)) == v for rule, v in zip(net.rules.values(), state, strict=True)
        )
        assert fixed is (np.array(state, dtype=np.uint8).tobytes() in found)


def test_cyclic_attractors_are_the_published_ones() -> None:
    published, net = facts("tlgl_saadatpour2011"), load_network("tlgl_saadatpour2011")
    named = named_attractors(net)
    assert list(named) == ["apoptosis", "T_LGL_leukaemia_P2_on", "T_LGL_leukaemia_P2_off"]
    for cycle in published["complex_attractors"]:
        expected = {net.state(s).tobytes() for s in cycle["states"]}
        assert {s.tobytes() for s in named[cycle["name"]]} == expected


def phenotypes(published: Any, net: BooleanNetwork, states: np.ndarray) -> list[str]:
    def holds(markers: dict[str, int]) -> bool:
        return all((states[:, net.genes.index(g)] == v).all() for g, v in markers.items())

    return [name for name, markers in published["phenotypes"].items() if holds(markers)]


def start_of(published: Any, net: BooleanNetwork, name: str) -> np.ndarray:
    if name in published["initial_states"]:
        return net.state(published["initial_states"][name])[None]
    named = named_attractors(net)
    if name in named:
        return named[name]
    return np.concatenate([s for s in named.values() if name in phenotypes(published, net, s)])


@pytest.mark.parametrize("name", NAMES)
def test_known_perturbations_do_what_the_model_is_said_to_do(name: str) -> None:
    published, net = facts(name), load_network(name)
    for known in published["known_perturbations"]:
        check = known["check"]
        clamp = check["context"] | {gene: int(known["kind"] == "overexpression") for gene in known["genes"]}
        start = start_of(published, net, check["start"]) if check["mode"] == "from" else None
        found = [phenotypes(published, net, states) for states in attractors(net, clamp, start)]
        reached = {phenotype for names in found for phenotype in names}
        agrees = reached >= set(check["present"]) and not reached & set(check["lost"])
        agrees &= check["only"] is None or reached == set(check["only"])
        assert agrees is known["model_agrees"], known
        assert sorted(reached) == known["model_prediction"]["phenotypes_reached"]
        assert found.count([]) == known["model_prediction"]["unclassified_attractors"]


rules = st.lists(st.integers(0, 2**8 - 1), min_size=5, max_size=5)
regulators = st.lists(st.permutations(range(5)).map(lambda p: p[:3]), min_size=5, max_size=5)


@settings(max_examples=60, deadline=None)
@given(rules, regulators)
def test_random_networks_agree_with_a_symbolic_library(tables: list[int], chosen: list[list[int]]) -> None:
    lines = []
    for gene, (table, names) in enumerate(zip(tables, chosen, strict=True)):
        rows = [s for s in range(8) if table >> s & 1]
        terms = [" & ".join(f"{'' if s >> j & 1 else '!'}g{r}" for j, r in enumerate(names)) for s in rows]
        lines.append(f"g{gene}, {' | '.join(terms) or '0'}")
    net = network("\n".join(lines))
    assert as_sets(attractors(net)) == as_sets(symbolic.symbolic_attractors(net))
    assert {s.tobytes() for s in steady_states(net)} == {
        s.tobytes() for s in symbolic.symbolic_steady_states(net)
    }
    start = np.array([[1, 0, 1, 0, 0]], dtype=np.uint8)
    assert as_sets(attractors(net, {"g1": 1}, start)) == as_sets(
        symbolic.symbolic_attractors(net.clamp({"g1": 1}), np.array([[1, 1, 1, 0, 0]], dtype=np.uint8))
    )


def test_a_toggle_and_a_ring_by_hand() -> None:
    toggle = network("# @attractor A: a\na, !b\nb, !a\n")
    assert {name: s.tolist() for name, s in named_attractors(toggle).items()} == {
        "A": [[1, 0]],
        "state_2": [[0, 1]],
    }
    share = basins(toggle)
    assert (share["A"].weak, share["A"].strong) == (0.75, 0.25)
    ring = network("a, !b\nb, a\n")
    assert list(named_attractors(ring)) == ["cycle_1"]
    assert len(named_attractors(ring)["cycle_1"]) == 4
    assert basins(ring)["cycle_1"].strong == 1.0


def test_repeated_names_are_numbered() -> None:
    net = network("# @attractor on: a\na, a\nb, b\n")
    assert list(named_attractors(net)) == ["on", "state_1", "state_3", "on__2"]


@pytest.mark.parametrize(
    "name", ["mcad", "vsc", "krumsiek11", "emt_switch12", "tlgl_saadatpour2011", "hsc_boolode"]
)
def test_strong_basins_are_the_published_shares(name: str) -> None:
    published = next(m for m in facts("minimal_interventions")["models"] if m["model"] == name)
    strong = {attractor: basin.strong for attractor, basin in basins(load_network(name)).items()}
    assert strong == pytest.approx(published["strong_basin_fraction"])


def test_basins_of_too_many_genes_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"31 changing genes and basins are counted"):
        basins(load_network("bcell_macrophage_collombet2017"))


def test_too_many_reachable_states_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perturbrl.networks.attractors.MAX_CLOSURE", 100)
    free = network("\n".join(f"g{i}, !g{i}" for i in range(8)))
    with pytest.raises(NetworkError, match="more than 100 states"):
        closure(StateSpace(free), np.zeros(1, dtype=np.int64))
