from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from perturbrl.errors import ConfigurationError, DataError
from perturbrl.networks.bnet import parse_bnet
from perturbrl.networks.boolean_network import BooleanNetwork
from perturbrl.pl.landscape import BANDWIDTH, DEPTH, plot_landscape, wandering_states
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin


def two_wells(n: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.array([[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])[random.integers(0, 2, n)]
    return centres + random.normal(0.0, [0.4, 0.2, 0.1], (n, 3))


WELLS = {"left": np.array([[-2.0, 0.0, 0.0]]), "right": np.array([[2.0, 0.0, 0.0]])}


def test_the_potential_is_minus_the_log_density_of_the_states() -> None:
    paths = np.linspace(WELLS["left"], WELLS["right"], 5).transpose(1, 0, 2)
    plot = plot_landscape(two_wells(6000), WELLS, paths, target="right")
    grid = plot.data[plot.data.kind == "potential"]
    x, y = grid.x.to_numpy(), grid.y.to_numpy()
    kernel = (BANDWIDTH * 6000 ** (-1 / 6)) ** 2 * np.array([4.16, 0.04])
    spread = np.diag(np.array([0.16, 0.04]) + kernel)
    p = sum(multivariate_normal([m, 0.0], spread).pdf(np.stack([x, y], 1)) for m in (-2, 2))
    exact = -np.log(np.maximum(p / p.max(), 1e-12))
    inside = exact < 2.5
    # The plane's axes may point either way; the landscape is symmetric.
    assert inside.sum() > 100
    assert np.abs(grid.value.to_numpy() - exact)[inside].mean() < 0.15
    assert grid.value.min() == 0.0
    assert grid.value.max() <= 2 * DEPTH + 1e-9


def test_marks_are_in_the_table_and_files_are_written(tmp_path: Path) -> None:
    paths = np.linspace(WELLS["left"][0], WELLS["right"][0], 4)[None].repeat(3, 0)
    plot = plot_landscape(two_wells(500), WELLS, paths)
    table = plot.data
    assert set(table.kind) == {"attractor", "path", "potential"}
    wells = table[table.kind == "attractor"].set_index("name")
    assert abs(wells.x["right"] - wells.x["left"]) == pytest.approx(4.0, abs=0.05)
    walked = table[table.kind == "path"]
    assert len(walked) == 12
    last = walked[(walked.cell == 1) & (walked.step == 3)].iloc[0]
    assert (last.x, last.y) == pytest.approx((wells.x["right"], wells.y["right"]), abs=1e-6)
    png = plot.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg", ".csv"}
    assert png.stat().st_size > 10_000


def test_undosed_cells_end_in_the_wells() -> None:
    twin = RegulatoryNetworkTwin("vsc")
    states = wandering_states(twin, n_cells=200, transitions=4)
    assert states.shape == (800, 8)
    distance = torch.cdist(torch.from_numpy(states[600:]), twin.steady_states).min(dim=1).values
    assert float(distance.quantile(0.9)) < 0.4
    assert np.array_equal(states, wandering_states(twin, n_cells=200, transitions=4))
    assert not np.array_equal(states, wandering_states(twin, n_cells=200, transitions=4, seed=1))


def test_one_well_makes_no_landscape() -> None:
    twin = RegulatoryNetworkTwin(BooleanNetwork("one", parse_bnet("a, 1\nb, a\n").rules))
    with pytest.raises(ConfigurationError, match="has 1 attractors"):
        wandering_states(twin)


ON_A_LINE = np.linspace(0.0, 1.0, 50)[:, None]


@pytest.mark.parametrize(
    "states", [ON_A_LINE, np.repeat(ON_A_LINE, 3, axis=1), np.ones((50, 3)), ON_A_LINE[:1].repeat(2, axis=1)]
)
def test_states_without_area_make_no_landscape(states: np.ndarray) -> None:
    wells = {"low": np.zeros_like(states[:1]), "high": np.ones_like(states[:1])}
    with pytest.raises(DataError, match="in a point or on a line"):
        plot_landscape(states, wells, states[None, :4])
