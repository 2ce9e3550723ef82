import time

import numpy as np
import pytest
import torch
from torch import Generator

from perturbrl.errors import ConfigurationError
from perturbrl.networks.boolean_network import StateSpace, load_network
from perturbrl.networks.macro_mdp import StateDistribution, macro_mdp, settle
from perturbrl.twins.boolean import BooleanNetworkTwin, RuleTables, uniform_pair


def dose_of(twin: BooleanNetworkTwin, action: int, n_cells: int) -> torch.Tensor:
    used = torch.zeros(n_cells, twin.perturbations.n_perturbations, dtype=torch.bool)
    return twin.perturbations.project(torch.full((n_cells,), action), used)[0]


def shares(states: torch.Tensor) -> dict[bytes, float]:
    rows, counts = np.unique(states.numpy().astype(np.uint8), axis=0, return_counts=True)
    return {row.tobytes(): count / len(states) for row, count in zip(rows, counts, strict=True)}


def agrees(share: float, probability: float, n: int) -> bool:
    spread = np.sqrt(max(0.0, probability * (1 - probability)) / n)
    return abs(share - probability) <= 4.5 * spread + 1e-9


@pytest.mark.parametrize("name", ["krumsiek11", "vsc", "arabidopsis_flower_chaos2006"])
def test_outcomes_have_the_exact_probabilities(name: str) -> None:
    twin, generator, n = BooleanNetworkTwin(name), Generator().manual_seed(0), 4000
    mdp = macro_mdp(twin.network)
    assert mdp.actions[1:] == tuple(f"{s}{g}" for s in "+-" for g in twin.perturbations.names)
    source = mdp.node(list(twin.attractors())[2])
    state = twin.attractors()[mdp.attractors[source]].expand(n, -1)
    for action in range(len(mdp.actions)):
        following = twin.transition(state, dose_of(twin, action, n), twin.draw_noise(n, generator))
        found = shares(following)
        for node, attractor in enumerate(mdp.attractors):
            p = mdp.outcome[source, action, node]
            share = found.pop(twin.attractors()[attractor].numpy().astype(np.uint8).tobytes(), 0.0)
            assert abs(share - p) <= 4.5 * np.sqrt(p * (1 - p) / n), (mdp.actions[action], attractor)
        assert not found, "a cell did not settle in an attractor"


def test_any_state_and_several_clamps_at_once_settle_exactly() -> None:
    twin, n = BooleanNetworkTwin("emt_switch12"), 4000
    random = np.random.default_rng(1)
    for seed in range(5):
        start = random.integers(0, 2, (1, 12)).astype(np.uint8)
        clamp = {str(g): int(random.integers(2)) for g in random.choice(twin.network.genes, 2, replace=False)}
        dose = torch.zeros(n, 12)
        for gene, value in clamp.items():
            dose[:, twin.network.genes.index(gene)] = 1.0 if value else -1.0
        noise = twin.draw_noise(n, Generator().manual_seed(seed))
        found = shares(twin.transition(torch.from_numpy(start).float().expand(n, -1), dose, noise))
        held = settle(twin.network, StateDistribution(start, np.ones(1)), clamp)
        exact = settle(twin.network, held)
        for state, p in zip(exact.states, exact.probabilities, strict=True):
            assert agrees(found.pop(state.tobytes(), 0.0), p, n)
        assert not found


def test_a_cycle_ends_in_its_stationary_distribution() -> None:
    net, n = load_network("tlgl_saadatpour2011"), 8000
    twin = BooleanNetworkTwin(net, start="T_LGL_leukaemia_P2_on")
    assert twin.start_cells.shape == (4, 18)
    state = twin.start_cells[:1].expand(n, -1)
    noise = twin.draw_noise(n, Generator().manual_seed(0))
    found = shares(twin.transition(state, torch.zeros(n, 18), noise))
    exact = settle(net, StateDistribution(twin.start_cells[:1].numpy().astype(np.uint8), np.ones(1)))
    assert len(exact.states) == 4
    for s, p in zip(exact.states, exact.probabilities, strict=True):
        assert agrees(found[s.tobytes()], p, n)


def test_equal_noise_gives_equal_states_and_cells_do_not_touch_each_other() -> None:
    twin = BooleanNetworkTwin("krumsiek11")
    state = torch.randint(0, 2, (64, 11), generator=Generator().manual_seed(0)).float()
    dose, noise = dose_of(twin, 2, 64), twin.draw_noise(64, Generator().manual_seed(1))
    together = twin.transition(state, dose, noise)
    assert torch.equal(together, twin.transition(state, dose, noise))
    half = twin.transition(state[32:], dose[32:], noise[32:])
    assert torch.equal(together[32:], half)


def test_attractors_stay_where_they_are() -> None:
    twin = BooleanNetworkTwin("cd4_martinez2015")
    for state in twin.attractors().values():
        assert torch.equal(twin.transition(state, torch.zeros(1, 18), twin.draw_noise(1)), state)


def test_look_up_tables_agree_with_the_state_space() -> None:
    for name in ("gsd", "cd4_martinez2015", "tlgl_saadatpour2011"):
        net = load_network(name)
        states = np.random.default_rng(0).integers(0, 2, (200, len(net.genes))).astype(np.uint8)
        space = StateSpace(net, states)
        expected = space.expand(space.image(space.compress(states)))
        image = RuleTables(net).image(torch.from_numpy(states.T.astype(bool)))
        assert (image.T.numpy() == expected).all()


def test_the_random_stream_is_splitmix64() -> None:
    # Seed 0 of the reference implementation begins e220a8397b1dcdaf, 6e789e6aa1b965f4, 06c45d188009454f.
    for draw, word in enumerate((0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)):
        first, second = uniform_pair(torch.zeros(1, dtype=torch.int64), draw)
        assert float(first) == (word >> 40) / 2**24
        assert float(second) == (word & (2**24 - 1)) / 2**24


def test_thousands_of_cells_and_a_dozen_actions_take_well_under_a_second() -> None:
    twin = BooleanNetworkTwin("krumsiek11")
    state = twin.initial_state(4096, Generator().manual_seed(0))
    noise = twin.draw_noise(4096)
    start = time.process_time()
    for action in range(12):
        state = twin.transition(state, dose_of(twin, action, 4096), noise)
    assert time.process_time() - start < 1.0


def test_options_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="max_sweeps is 0"):
        BooleanNetworkTwin("mcad", max_sweeps=0)
    twin = BooleanNetworkTwin("mcad")
    with pytest.raises(ConfigurationError, match=r"a dose of 1\.5"):
        twin.transition(twin.start_cells[:1], torch.full((1, 5), 1.5), twin.draw_noise(1))
