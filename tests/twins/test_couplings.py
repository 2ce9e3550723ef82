"""Couplings against closed forms, against known births, and against a known way."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.stats import norm

from perturbrl.data.cell_order import CellOrder
from perturbrl.errors import DataError
from perturbrl.twins.couplings import BLUR, Couplings, couple, transport


def at_times(*populations: np.ndarray) -> tuple[torch.Tensor, CellOrder]:
    states = torch.from_numpy(np.concatenate(populations)).float()
    times = np.repeat(2.0 * np.arange(len(populations)), [len(population) for population in populations])
    return states, CellOrder(torch.from_numpy(times).float(), "time")


def mean_later(couplings: Couplings, states: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(couplings.later @ states.numpy()).float()


def gaussian(scale: float, shift: float, n: int = 400) -> np.ndarray:
    """Cells at the quantiles of a normal distribution, so that no chance of a sample enters."""
    return norm.ppf((np.arange(n) + 0.5) / n)[:, None] * scale + shift


def clusters(*sizes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return np.concatenate([corners[i] + rng.normal(size=(n, 2)) for i, n in enumerate(sizes)])


def test_cells_of_a_gaussian_move_as_entropic_transport_between_gaussians_says() -> None:
    early, late = gaussian(1.0, 0.0), gaussian(2.0, 3.0)
    states, order = at_times(early, late)
    moved = mean_later(couple(states, order, None), states)[: len(early), 0].numpy()
    blur = BLUR * np.median(np.square(early - late.T))
    # The minimum of E|x-y|^2 + blur KL over Gaussians with these margins.
    covariance = np.sqrt(blur**2 / 16 + 1.0 * 2.0**2) - blur / 4
    inner = np.abs(early[:, 0]) < 1.5
    slope, shift = np.polyfit(early[inner, 0], moved[inner], 1)
    # What growth may explain, more early cells near the late ones, is not movement.
    assert slope == pytest.approx(covariance, rel=0.05)
    assert shift == pytest.approx(3.0, abs=0.5)


def test_identical_populations_couple_to_themselves() -> None:
    cells = clusters(60, 60, 60)
    states, order = at_times(cells, cells)
    couplings = couple(states, order, None)
    own = sp.block_diag([np.ones((60, 60))] * 3).toarray().astype(bool)
    plan = couplings.later[: len(cells), len(cells) :].toarray()
    assert plan[own].sum() / plan.sum() > 0.999
    assert plan == pytest.approx(plan.T, abs=2e-3)  # a stationary population is as likely to go back
    stay = mean_later(couplings, states)[: len(cells)] - states[: len(cells)]
    assert stay.mean(0).abs().max() < 0.05
    assert multiplied(transport(cells, cells)) == pytest.approx(1.0, abs=0.05)


def test_rows_are_distributions_over_the_next_time_point_only_and_last_cells_have_none() -> None:
    states, order = at_times(clusters(30, 30), clusters(20, 40), clusters(10, 50))
    couplings = couple(states, order, None)
    sums = couplings.later.sum(axis=1)
    assert sums[:120] == pytest.approx(1.0)
    assert not sums[120:].any()
    assert couplings.duration.tolist() == [2.0] * 120 + [0.0] * 60
    entries = sp.coo_array(couplings.later)
    assert (order.values[entries.col] - order.values[entries.row] == 2).all()


def multiplied(plan: np.ndarray) -> np.ndarray:
    """Descendants of each early cell, 1 on average."""
    return plan.sum(axis=1) * len(plan) / plan.sum()


def test_births_are_found_where_cells_multiplied() -> None:
    """Cells near the first corner have three daughters, others one."""
    plan = transport(clusters(60, 60), clusters(180, 60))
    growth = multiplied(plan)
    assert growth[:60].mean() == pytest.approx(1.5, abs=0.2)
    assert growth[60:120].mean() == pytest.approx(0.5, abs=0.2)
    # Without freedom to grow a quarter of the cells would have to cross over.
    assert plan[60:, :180].sum() < 0.08 * plan.sum()


def test_what_goes_both_ways_between_types_alike_is_dropped_and_one_way_is_kept() -> None:
    """Type b swaps half its cells with type c, and type a goes to b."""
    states, order = at_times(clusters(40, 40, 40), clusters(0, 80, 40))
    early, late = ["a"] * 40 + ["b"] * 40 + ["c"] * 40, ["b"] * 40 + ["c"] * 40 + ["c"] * 20 + ["b"] * 20
    couplings = couple(states, order, early + late)
    types = np.array(early + late)
    flow = {
        pair: couplings.later[types == pair[0]][:, types == pair[1]].sum()
        for pair in ("ab", "bc", "cb", "cc")
    }
    plain = couple(states, order, None).later
    assert min(plain[types == "b"][:, types == "c"].sum(), plain[types == "c"][:, types == "b"].sum()) > 5
    assert min(flow["bc"], flow["cb"]) == 0
    assert flow["ab"] > 5


def arm(angle: float, n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    place = np.linspace(0.0, 1.0, n)
    direction = np.array([np.cos(angle), np.sin(angle)])
    noise = np.random.default_rng(int(10 * angle)).normal(0.0, 0.02, (n, 2))
    return 5.0 * place[:, None] * direction + noise, place


def test_pseudotime_couples_along_each_arm_and_its_end_is_at_rest() -> None:
    (one, when), (other, _) = arm(0.0), arm(2.0)
    states = torch.from_numpy(np.concatenate([one, other])).float()
    times = np.tile(when, 2)
    couplings = couple(states, CellOrder(torch.from_numpy(times).float(), "pseudotime"), None)
    entries = sp.coo_array(couplings.later)
    assert (times[entries.col] > times[entries.row]).all()
    along = (entries.row < 100) == (entries.col < 100)
    assert along[times[entries.row] > 0.3].all()
    known = couplings.duration.numpy() > 0
    assert not known[[99, 199]].any()
    assert known[:90].all()
    mean = couplings.later @ times
    assert couplings.duration.numpy()[known] == pytest.approx(mean[known] - times[known], abs=1e-5)


def test_in_pseudotime_mixing_at_a_border_is_no_development() -> None:
    """Two types side by side along the same way: neighbours of both, as often earlier as later."""
    one, when = arm(0.0, 200)
    states = torch.from_numpy(one).float()
    order = CellOrder(torch.from_numpy(when).float(), "pseudotime")
    types = np.where(np.arange(200) % 2, "odd", "even")
    across = couple(states, order, None).later[types == "odd"][:, types == "even"].sum()
    kept = couple(states, order, tuple(types)).later[types == "odd"][:, types == "even"].sum()
    assert across > 30
    assert kept < 0.1 * across


def test_one_time_point_is_refused() -> None:
    states, order = at_times(clusters(20, 20))
    with pytest.raises(
        DataError, match="all cells are at time 0, and what moves is seen between two time points"
    ):
        couple(states, order, None)
