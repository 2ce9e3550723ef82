from typing import Any

import pytest
from shared_models import facts

from perturbrl.networks.attractors import named_attractors
from perturbrl.networks.boolean_network import load_network
from perturbrl.networks.interventions import is_certain, minimal_interventions


def sets(found: list[dict[str, int]]) -> set[frozenset[tuple[str, int]]]:
    return {frozenset(clamp.items()) for clamp in found}


def published(name: str) -> Any:
    tables = facts("minimal_interventions")
    return next(m for m in tables["models"] + tables["symbolic_models"] if m["model"] == name)


def check(name: str, pairs: slice, largest: int) -> int:
    model, net = published(name), load_network(name)
    named, checked = named_attractors(net), 0
    for pair in model["pairs"][pairs]:
        for duration in ("permanent", "temporary", "instantaneous"):
            known = pair[duration]
            if (known["min_size"] or 3) > largest:
                continue
            found = minimal_interventions(
                net,
                named[pair["source"]],
                named[pair["target"]],
                controllable=model["control_genes"],
                duration=duration,
                max_genes=largest,
            )
            assert sets(found) == sets(known["min_sets"]), (pair["source"], pair["target"], duration)
            checked += 1
    return checked


def test_small_networks_have_the_published_sets() -> None:
    assert check("mcad", slice(None), 3) == 6
    assert check("vsc", slice(0, 4), 2) >= 8
    assert check("krumsiek11", slice(0, 30, 10), 2) >= 3
    assert check("tlgl_saadatpour2011", slice(0, 2), 1) >= 2


@pytest.mark.slow
def test_more_pairs_have_the_published_sets() -> None:
    assert check("vsc", slice(0, 10), 3) == 30
    assert check("krumsiek11", slice(0, 6), 2) > 8
    assert check("thelper_mendoza2006", slice(None), 1) > 5
    assert check("emt_switch12", slice(0, 2), 2) >= 2
    assert check("gsd", slice(0, 6, 3), 1) >= 2


def test_nothing_is_found_where_no_allowed_gene_helps() -> None:
    net = load_network("krumsiek11")
    named = named_attractors(net)
    monocyte, erythrocyte = named["monocyte"], named["erythrocyte"]
    assert minimal_interventions(net, monocyte, erythrocyte, controllable=["cJun"], max_genes=1) == []
    assert is_certain(net, monocyte, monocyte, {"cJun": 1}, "temporary")
    assert not is_certain(net, monocyte, erythrocyte, {"Gata1": 1}, "temporary")
    assert is_certain(net, monocyte, erythrocyte, {"Gata1": 1, "EKLF": 1}, "temporary")
