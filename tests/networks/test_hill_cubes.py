import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from perturbrl.networks import hill_cubes
from perturbrl.networks.bnet import parse_bnet
from perturbrl.networks.boolean_network import BooleanNetwork, load_network
from perturbrl.networks.hill_cubes import HillCubes, hill_

NETWORKS = ["krumsiek11", "gsd", "cd4_martinez2015", "bcell_macrophage_collombet2017", "emt_steinway2014"]


def corner_sum(network: BooleanNetwork, activity: Tensor) -> Tensor:
    """The interpolation as it is defined: the sum of the true corners, each with its product weight."""
    rows = []
    for rule in network.rules.values():
        x = activity[[network.genes.index(name) for name in rule.regulators]].double()
        value = torch.zeros(activity.shape[1], dtype=torch.float64)
        for corner in np.flatnonzero(rule.truth_table):
            weight = torch.ones_like(value)
            for j, xj in enumerate(x):
                weight = weight * (xj if corner >> j & 1 else 1 - xj)
            value += weight
        rows.append(value)
    return torch.stack(rows)


@pytest.mark.parametrize("by_node", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_values_are_the_multi_affine_interpolation(
    name: str, by_node: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hill_cubes, "MAX_ROWS_BY_NODE", 10**6 if by_node else 0)
    network = load_network(name)
    activity = torch.rand(len(network.genes), 7, generator=Generator().manual_seed(0))
    assert torch.allclose(
        HillCubes(network).value_at(activity).double(), corner_sum(network, activity), atol=1e-6
    )


def test_corners_give_the_rules_themselves() -> None:
    network = load_network("krumsiek11")
    states = torch.randint(0, 2, (11, 50), generator=Generator().manual_seed(0))
    image = HillCubes(network).value_at(states.float())
    for i, rule in enumerate(network.rules.values()):
        columns = {g: states[network.genes.index(g)].numpy().astype(bool) for g in rule.regulators}
        assert image[i].bool().tolist() == rule.evaluate(columns).tolist()


def test_constants_tautologies_and_single_regulators() -> None:
    rules = parse_bnet("a, 1\nb, 0\nc, a | !a\nd, a\ne, !a\nf, a & b & !a\n").rules
    activity = torch.tensor([[0.3], [0.6], [0.0], [0.0], [0.0], [0.0]])
    value = HillCubes(BooleanNetwork("test", rules)).value_at(activity)
    assert torch.allclose(value[:, 0], torch.tensor([1.0, 0.0, 1.0, 0.3, 0.7, 0.0]))


@pytest.mark.parametrize(("n", "k"), [(3.0, 0.5), (2.0, 0.3), (4.0, 0.6)])
def test_the_hill_function_is_normalised(n: float, k: float) -> None:
    x = torch.linspace(0.0, 1.0, 11)[None].repeat(2, 1)
    expected = (1 + k**n) * x**n / (x**n + k**n)
    activity = x.clone()
    hill_(activity, n, k, torch.empty_like(x))
    assert torch.allclose(activity, expected, atol=1e-6)
    assert activity[0, 0] == 0.0
    assert activity[0, -1] == pytest.approx(1.0, abs=1e-7)
    per_gene = x.clone()
    hill_(per_gene, torch.full((2, 11), n), torch.full((2, 11), k), torch.empty_like(x))
    assert torch.allclose(per_gene, expected, atol=1e-6)


def test_chunks_are_powers_of_two_and_never_tiny() -> None:
    size = HillCubes(load_network("krumsiek11")).chunk_size(torch.device("cpu"))
    assert size & (size - 1) == 0
    assert size >= hill_cubes.MIN_CHUNK
