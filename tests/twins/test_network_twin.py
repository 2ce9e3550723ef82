import pytest
import torch
from torchrl.envs.utils import check_env_specs

from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError, NetworkError
from perturbrl.networks.bnet import parse_bnet
from perturbrl.networks.boolean_network import BooleanNetwork
from perturbrl.twins import check_twin
from perturbrl.twins.boolean import BooleanNetworkTwin
from perturbrl.twins.network_twin import NetworkTwin
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin

TWINS = pytest.mark.parametrize("make", [BooleanNetworkTwin, RegulatoryNetworkTwin])


def network(text: str) -> BooleanNetwork:
    parsed = parse_bnet(text)
    return BooleanNetwork("test", parsed.rules, parsed.markers)


@TWINS
def test_attractors_are_named_states_of_the_network(make: type[NetworkTwin]) -> None:
    twin = make("vsc")
    found = twin.attractors()
    assert found.keys() == {"p0", "p1", "p2", "p3", "pMN"}
    assert found["p3"].tolist() == [[1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    assert twin.nearest_attractor(torch.cat([found["p0"] * 0.8, found["p2"] * 0.9 + 0.1])) == ["p0", "p2"]


@TWINS
def test_start_and_controllable_genes(make: type[NetworkTwin]) -> None:
    twin = make("krumsiek11", controllable=["Gata1", "Pu1"], start="monocyte")
    assert torch.equal(twin.start_cells, twin.attractors()["monocyte"])
    assert torch.equal(twin.initial_state(3), twin.start_cells.expand(3, -1))
    assert twin.perturbations.names == ("Gata1", "Pu1")
    dose = twin.by_gene(torch.tensor([[0.5, -1.0]]))
    assert dose[0].nonzero().ravel().tolist() == [1, 7]
    assert dose[0, [1, 7]].tolist() == [0.5, -1.0]


@TWINS
def test_every_steady_state_is_a_start_by_default(make: type[NetworkTwin]) -> None:
    twin = make("mcad")
    assert twin.start_cells.shape == (2, 5)


@TWINS
def test_a_network_without_rest_names_its_cycles(make: type[NetworkTwin]) -> None:
    with pytest.raises(NetworkError, match=r"no steady state, only cycles: spin \(4 states\)"):
        make(network("# @attractor spin: a | !a\na, !b\nb, a\n"))


@TWINS
def test_unknown_names_are_errors(make: type[NetworkTwin]) -> None:
    with pytest.raises(NetworkError, match="no gene 'GATA1'"):
        make("krumsiek11", controllable=["GATA1"])
    with pytest.raises(ConfigurationError, match=r"no attractor 'neuron'; choose one of all_off"):
        make("krumsiek11", start="neuron")


@TWINS
def test_doses_outside_the_range_are_errors(make: type[NetworkTwin]) -> None:
    twin = make("mcad")
    for wrong in (1.01, -2.0, float("nan")):
        dose = torch.zeros(2, 5)
        dose[1, 3] = wrong
        with pytest.raises(ConfigurationError, match=r"outside \[-1, 1\]"):
            twin.transition(twin.start_cells, dose, twin.draw_noise(2))


@TWINS
def test_the_contract_of_a_twin_is_kept(make: type[NetworkTwin]) -> None:
    check_twin(make("krumsiek11"))
    check_twin(make("vsc", controllable=["Nkx22", "Pax6"]))


@TWINS
def test_the_environment_accepts_the_twin_and_its_random_numbers_do_not_depend_on_the_split(
    make: type[NetworkTwin],
) -> None:
    def environment(first: int, n: int) -> CellStateEnv:
        twin, task = make("mcad", start="posterior"), ReachCellState(goal="centroid", success="radius")
        task.aim(twin.start_cells.repeat(2, 1), twin.attractors()["anterior"].repeat(2, 1))
        return CellStateEnv(twin, task, horizon=3, n_cells=n, first_cell=first, total_cells=8)

    check_env_specs(environment(0, 8))
    whole, half = environment(0, 8), environment(4, 4)
    for env in (whole, half):
        env.set_seed(1)
    start = whole.reset(), half.reset()
    action = whole.action_spec.rand()
    ends = [
        e.step(s.set("action", a))["next"]
        for e, s, a in zip((whole, half), start, (action, action[4:]), strict=True)
    ]
    assert torch.allclose(ends[0]["cell_state"][4:], ends[1]["cell_state"], atol=1e-6)


@TWINS
def test_a_state_dict_restores_the_start(make: type[NetworkTwin]) -> None:
    trained = make("krumsiek11", start="monocyte")
    trained.start_from(torch.rand(17, 11))
    fresh = make("krumsiek11")
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.start_cells, trained.start_cells)
