from collections import Counter

import pytest
import torch
from torch import Generator

from perturbrl.errors import ConfigurationError, NetworkError
from perturbrl.networks.boolean_network import shipped_networks
from perturbrl.schema import CellState
from perturbrl.twins.regulatory_network import HILL_K_RANGE, HILL_N_RANGE, RegulatoryNetworkTwin


def relax(twin: RegulatoryNetworkTwin, state: CellState, generator: Generator) -> CellState:
    still = torch.zeros(len(state), twin.perturbations.n_perturbations)
    for _ in range(twin.relaxation_steps):
        state = twin.transition(state, still, twin.draw_noise(len(state), generator))
    return state


@pytest.mark.parametrize("name", shipped_networks())
def test_attractors_stay_the_nearest_under_small_noise(name: str) -> None:
    if name in ("bcell_macrophage_collombet2017", "emt_steinway2014"):
        pytest.importorskip("biodivine_aeon")
    twin = RegulatoryNetworkTwin(name)
    names = [attractor for attractor in twin.attractors() for _ in range(20)]
    start = torch.cat([state.expand(20, -1) for state in twin.attractors().values()])
    end = relax(twin, start, Generator().manual_seed(0))
    assert twin.nearest_attractor(end) == names
    assert twin.dynamics.drift(torch.cat(list(twin.attractors().values()))).abs().max() <= 1e-6


def reprogram(twin: RegulatoryNetworkTwin, actions: int, **dose: float) -> Counter[str]:
    generator = Generator().manual_seed(0)
    state = twin.initial_state(200, generator)
    given = torch.tensor([[dose.get(name, 0.0) for name in twin.perturbations.names]]).expand(200, -1)
    for _ in range(actions):
        state = twin.transition(state, given, twin.draw_noise(200, generator))
    return Counter(twin.nearest_attractor(relax(twin, state, generator)))


def test_gata1_turns_monocytes_into_the_two_gata1_fates_and_eklf_decides() -> None:
    twin = RegulatoryNetworkTwin("krumsiek11", start="monocyte")
    both = reprogram(twin, 2, Gata1=1.0)
    assert both.keys() == {"erythrocyte", "megakaryocyte"}
    assert min(both.values()) > 50
    assert reprogram(twin, 2, Gata1=1.0, EKLF=1.0) == {"erythrocyte": 200}
    assert reprogram(twin, 2, Gata1=1.0, Fli1=1.0) == {"megakaryocyte": 200}
    assert reprogram(twin, 2, cJun=-1.0) != reprogram(twin, 2)
    assert reprogram(twin, 2) == {"monocyte": 200}


def test_a_transition_is_deterministic_and_cells_are_independent() -> None:
    twin = RegulatoryNetworkTwin("krumsiek11", release_steps=5)
    state, dose = torch.rand(64, 11), torch.rand(64, 11) * 2 - 1
    noise = twin.draw_noise(64, Generator().manual_seed(0))
    assert noise.shape == (64, 30, 11)
    whole = twin.transition(state, dose, noise)
    assert torch.equal(whole, twin.transition(state, dose, noise))
    assert torch.allclose(whole[40:], twin.transition(state[40:], dose[40:], noise[40:]), atol=1e-6)


def test_a_released_dose_is_a_held_one_followed_by_none() -> None:
    held = RegulatoryNetworkTwin("krumsiek11", noise=0.0, steps_per_action=10)
    released = RegulatoryNetworkTwin("krumsiek11", noise=0.0, steps_per_action=10, release_steps=10)
    state, dose = torch.rand(8, 11), torch.rand(8, 11)
    nothing = held.draw_noise(8)
    assert nothing.shape == (8, 0, 11)
    expected = held.transition(held.transition(state, dose, nothing), torch.zeros(8, 11), nothing)
    assert torch.allclose(released.transition(state, dose, nothing), expected, atol=1e-6)


def test_simulate_without_noise_is_the_transition() -> None:
    twin = RegulatoryNetworkTwin("gsd", noise=0.0)
    state, dose = torch.rand(8, 19), torch.rand(8, 19)
    expected = twin.transition(state, dose, twin.draw_noise(8))
    assert torch.allclose(twin.simulate(state, twin.steps_per_action, dose), expected, atol=1e-6)


def test_simulated_noise_follows_the_generator() -> None:
    twin = RegulatoryNetworkTwin("vsc")
    ends = [twin.simulate(twin.start_cells, 20, generator=Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_relaxation_lasts_as_long_as_asked() -> None:
    assert (
        RegulatoryNetworkTwin("mcad", dt=0.2, steps_per_action=25, relaxation_time=20.0).relaxation_steps == 4
    )
    assert (
        RegulatoryNetworkTwin("mcad", dt=0.1, steps_per_action=3, relaxation_time=1.0).relaxation_steps == 4
    )


def test_an_ensemble_keeps_every_steady_state_stable() -> None:
    twin = RegulatoryNetworkTwin("emt_switch12", n_members=8, seed=3)
    dynamics = twin.dynamics
    assert dynamics.hill_n.shape == dynamics.hill_k.shape == (8, 12)
    assert HILL_N_RANGE[0] <= float(dynamics.hill_n.min()) < float(dynamics.hill_n.max()) <= HILL_N_RANGE[1]
    assert HILL_K_RANGE[0] <= float(dynamics.hill_k.min()) < float(dynamics.hill_k.max()) <= HILL_K_RANGE[1]
    assert bool(dynamics.is_stable(twin.steady_states).all())
    again = RegulatoryNetworkTwin("emt_switch12", n_members=8, seed=3).dynamics.hill_n
    assert torch.equal(again, dynamics.hill_n)
    other = RegulatoryNetworkTwin("emt_switch12", n_members=8, seed=4).dynamics.hill_n
    assert not torch.equal(other, dynamics.hill_n)


def test_time_constants_by_name() -> None:
    twin = RegulatoryNetworkTwin("mcad", tau={"Fgf8": 2.0})
    assert twin.dynamics.rate.tolist() == [0.5, 1.0, 1.0, 1.0, 1.0]
    with pytest.raises(NetworkError, match="no gene 'Fgf9'"):
        RegulatoryNetworkTwin("mcad", tau={"Fgf9": 2.0})


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("noise", -0.1, "noise is -0.1"),
        ("hill_n", 1.0, "hill_n is 1"),
        ("hill_k", 0.0, "hill_k is 0"),
        ("dt", 0.0, "dt is 0"),
        ("dt", 1.1, r"dt is 1.1, above the smallest time constant 1 of network 'mcad'"),
        ("tau", 0.0, "tau is 0"),
        ("tau", 0.05, r"dt is 0.2, above the smallest time constant 0.05"),
        ("steps_per_action", 0, "steps_per_action is 0"),
        ("release_steps", -1, "release_steps is -1"),
        ("n_members", 0, "n_members is 0"),
    ],
)
def test_options_are_checked(option: str, value: float, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        RegulatoryNetworkTwin("mcad", **{option: value})


def test_hill_constants_that_lose_a_steady_state_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"hill_n 4 and hill_k 0.8 the steady states .* are not stable"
    ):
        RegulatoryNetworkTwin("emt_switch12", hill_n=4.0, hill_k=0.8)
