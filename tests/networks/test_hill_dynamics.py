from math import exp, sqrt

import numpy as np
import pytest
import torch
from torch import Generator

from perturbrl.errors import ConfigurationError
from perturbrl.networks import hill_cubes
from perturbrl.networks.attractors import steady_states
from perturbrl.networks.bnet import parse_bnet
from perturbrl.networks.boolean_network import BooleanNetwork, load_network
from perturbrl.networks.hill_cubes import HillCubes
from perturbrl.networks.hill_dynamics import HillDynamics


def dynamics(
    network: BooleanNetwork,
    n: float = 3.0,
    k: float = 0.5,
    dt: float = 0.1,
    noise: float = 0.0,
    tau: float = 1.0,
) -> HillDynamics:
    genes = len(network.genes)
    return HillDynamics(
        HillCubes(network),
        torch.full((1, genes), n),
        torch.full((1, genes), k),
        torch.full((genes,), tau),
        dt,
        noise,
    )


def network(text: str) -> BooleanNetwork:
    return BooleanNetwork("test", parse_bnet(text).rules)


def written_out(x: np.ndarray, n: float, k: float) -> np.ndarray:
    """The drift of the three-gene network below, by hand."""
    h = (1 + k**n) * np.clip(x, 0, 1) ** n / (np.clip(x, 0, 1) ** n + k**n)
    a, b, c = h.T
    return np.stack([a * (1 - b), 1 - (1 - a) * (1 - c), np.ones_like(a)], axis=1) - x


def test_drift_by_hand() -> None:
    net = network("a, a & !b\nb, a | c\nc, 1\n")
    x = torch.randn(40, 3, generator=Generator().manual_seed(0)) * 0.7 + 0.5
    for n, k in ((3.0, 0.5), (2.5, 0.4)):
        expected = torch.from_numpy(written_out(x.double().numpy(), n, k)).float()
        assert torch.allclose(dynamics(net, n, k).drift(x), expected, atol=1e-5)
        assert torch.allclose(dynamics(net, n, k, tau=4.0).drift(x), expected / 4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["krumsiek11", "gsd", "vsc", "thelper_mendoza2006", "arabidopsis_flower_chaos2006"]
)
def test_boolean_steady_states_are_fixed_points(name: str) -> None:
    net = load_network(name)
    states = torch.from_numpy(steady_states(net)).float()
    for n, k in ((3.0, 0.5), (2.2, 0.35), (4.0, 0.6)):
        assert dynamics(net, n, k).drift(states).abs().max() <= 1e-6


def test_decay_converges_to_the_exact_solution_with_order_one() -> None:
    net = network("a, 0\n")
    errors = []
    for dt in (0.1, 0.05, 0.025):
        end = dynamics(net, dt=dt, tau=2.0).advance(torch.ones(1, 1), round(3.0 / dt))
        errors.append(abs(float(end) - exp(-1.5)))
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(2.0, abs=0.1)


def test_trajectories_agree_with_scipy() -> None:
    from scipy.integrate import solve_ivp

    net = load_network("krumsiek11")
    fine = dynamics(net, dt=0.001)
    x0 = torch.rand(3, 11, generator=Generator().manual_seed(3))
    end = fine.advance(x0, 5000)
    for row, start in zip(end, x0, strict=True):
        solution = solve_ivp(
            lambda t, y: fine.drift(torch.from_numpy(y).float()[None])[0].double().numpy(),
            (0, 5), start.double().numpy(), rtol=1e-5, atol=1e-7,
        )  # fmt: skip
        assert torch.allclose(row.double(), torch.from_numpy(solution.y[:, -1]), atol=5e-3)


@pytest.mark.parametrize(("dose", "end"), [(-1.0, 0.0), (-0.5, 0.5), (0.0, 1.0), (0.5, 1.0), (1.0, 1.0)])
def test_doses_scale_or_lift_production_that_is_on(dose: float, end: float) -> None:
    on = dynamics(network("a, 1\n")).advance(torch.zeros(1, 1), 400, torch.tensor([[dose]]))
    assert float(on) == pytest.approx(end, abs=1e-5)


@pytest.mark.parametrize(("dose", "end"), [(-1.0, 0.0), (0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_doses_scale_or_lift_production_that_is_off(dose: float, end: float) -> None:
    off = dynamics(network("a, 0\n")).advance(torch.ones(1, 1), 400, torch.tensor([[dose]]))
    assert float(off) == pytest.approx(end, abs=1e-5)


def test_noise_has_the_stationary_spread_of_an_ornstein_uhlenbeck_process() -> None:
    sigma, dt, generator = 0.2, 0.05, Generator().manual_seed(0)
    process = dynamics(network("a, 0\n"), dt=dt, noise=sigma)

    def drawn(rows: slice, step: int) -> torch.Tensor:
        return torch.randn(1, rows.stop - rows.start, generator=generator)

    end = process.advance(torch.zeros(20_000, 1), 300, None, drawn)
    exact = sigma * sqrt(dt / (1 - (1 - dt) ** 2))
    assert float(end.std()) == pytest.approx(exact, rel=0.03)
    assert float(end.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(end.min()) < 0.0, "the state itself is not clipped"


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    net = load_network("krumsiek11")
    x, dose = torch.rand(1000, 11), torch.rand(1000, 11) * 2 - 1
    whole = dynamics(net).advance(x, 10, dose)
    monkeypatch.setattr(hill_cubes, "VALUES_BY_NODE", 1)
    assert torch.allclose(dynamics(net).advance(x, 10, dose), whole, atol=1e-6)


def test_members_of_an_ensemble_have_their_own_constants() -> None:
    net = load_network("vsc")
    n, k = torch.tensor([[2.0], [4.0]]).expand(2, 8), torch.tensor([[0.3], [0.6]]).expand(2, 8)
    both = HillDynamics(HillCubes(net), n, k, torch.ones(8), 0.1, 0.0)
    x = torch.rand(600, 8)
    ends = [dynamics(net, 2.0, 0.3).advance(x, 5), dynamics(net, 4.0, 0.6).advance(x, 5)]
    member = torch.randint(2, (600,), generator=Generator().manual_seed(0))
    found = both.advance(x, 5, member=member)
    for one, end in enumerate(ends):
        assert torch.allclose(found[member == one], end[member == one], atol=1e-5)
    with pytest.raises(ConfigurationError, match="could live in any of 2 members"):
        both.advance(x, 5)


def test_a_lone_cell_is_left_as_it_was() -> None:
    x = torch.rand(1, 11)
    before = x.clone()
    end = dynamics(load_network("krumsiek11")).advance(x, 5)
    assert torch.equal(x, before)
    assert not torch.equal(end, before)


def test_time_constants_per_gene() -> None:
    net = network("a, 0\nb, 0\n")
    tau = torch.tensor([1.0, 2.0])
    slow = HillDynamics(HillCubes(net), torch.full((1, 2), 3.0), torch.full((1, 2), 0.5), tau, 0.01, 0.0)
    end = slow.advance(torch.ones(1, 2), 100)
    assert end[0].tolist() == pytest.approx([0.99**100, 0.995**100], rel=1e-4)


@pytest.mark.parametrize("name", ["krumsiek11", "emt_switch12", "gsd"])
def test_jacobians_are_the_derivative_of_the_drift(name: str) -> None:
    net = load_network(name)
    flow = dynamics(net, 3.0, 0.4, tau=2.0)
    states = torch.from_numpy(steady_states(net)).float()
    step = 1e-3
    inward = states[:, None] + torch.diag(torch.ones(len(net.genes))) * step * (1 - 2 * states[:, None])
    flat = flow.drift(inward.reshape(-1, len(net.genes))).reshape(*inward.shape)
    numeric = ((flat - flow.drift(states)[:, None]) / (step * (1 - 2 * states[:, None].mT))).mT
    assert torch.allclose(flow.jacobians(states)[0], numeric, atol=2e-2)


def test_stability_of_self_activation_by_hand() -> None:
    # The slope at 1 is n k^n / (1 + k^n): 0.33 for the first, 1.25 for the second.
    on = torch.ones(1, 1)
    assert dynamics(network("a, a\n"), 3.0, 0.5).is_stable(on).tolist() == [[True]]
    assert dynamics(network("a, a\n"), 6.0, 0.8).is_stable(on).tolist() == [[False]]


@pytest.mark.parametrize("name", ["emt_switch12", "mcad", "krumsiek11", "gsd"])
def test_steady_states_are_held_up_to_the_step_limit_and_left_beyond(name: str) -> None:
    net = load_network(name)
    states = torch.from_numpy(steady_states(net)).float()

    def farthest(share: float) -> float:
        dt = share * dynamics(net, tau=0.5).step_limit
        flow = dynamics(net, dt=dt, tau=0.5)
        return max(float((flow.advance(states + off, 400) - states).abs().max()) for off in (-0.01, 0.01))

    assert farthest(1.0) < 1e-3
    assert name not in ("emt_switch12", "mcad") or farthest(1.9) > 0.5
    assert farthest(2.05) > 1e3
