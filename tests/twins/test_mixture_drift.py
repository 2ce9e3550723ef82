"""The drift of a mixture against what is known in closed form."""

import numpy as np
import pytest
import torch
from torch import Generator

from perturbrl.twins import mixture_drift
from perturbrl.twins.mixture_drift import DriftComponents, MixtureDrift
from perturbrl.twins.state_mixture import StateMixture

FACTOR = np.array([[1.0, 0.0], [0.5, 0.8]])


def drift_of(means, kinds, *, pull=0.1, sharpness=8.0, ridge=0.0, velocity=0.0, resting=1.0, mature=None):
    """Components with one covariance, of equal weight."""
    means, kinds = np.array(means, dtype=float), np.array(kinds)
    n = len(means)
    mixture = StateMixture(means, kinds, np.full(n, 1 / n), np.ones(n), FACTOR, np.zeros((0, n)))
    component = DriftComponents(mixture, np.zeros_like(means) + velocity, np.full(n, resting), np.zeros(n))
    drift = MixtureDrift(pull, sharpness, ridge)
    drift.assemble([component], np.ones(kinds.max() + 1, dtype=bool) if mature is None else np.array(mature))
    return drift


def run(drift, state, steps, seed=0, push=None):
    noise = torch.randn(len(state), steps, 2, generator=Generator().manual_seed(seed))
    push = torch.zeros_like(state) if push is None else push
    return drift.advance(state, push, noise, torch.zeros(len(state), dtype=torch.long))


def normal(n, seed=0):
    return torch.randn(n, 2, generator=Generator().manual_seed(seed))


def test_one_component_is_an_ornstein_uhlenbeck_process():
    drift, state = drift_of([[2.0, -1.0]], [0]), normal(50)
    assert torch.allclose(drift.drift(state), 0.1 * (torch.tensor([2.0, -1.0]) - state), atol=1e-5)
    rested = run(drift, state.repeat(100, 1), 80)
    assert torch.allclose(rested.mean(0), torch.tensor([2.0, -1.0]), atol=0.08)
    assert np.allclose(np.cov(rested.numpy().T), FACTOR @ FACTOR.T, atol=0.08)


def test_without_flow_and_ridge_it_descends_the_potential():
    drift = drift_of([[0.0, 0.0], [2.0, 1.0], [1.0, -2.0]], [0, 0, 0])
    state = normal(20).requires_grad_()
    slope = torch.autograd.grad(drift.potential(state).sum(), state)[0]
    covariance = torch.from_numpy(FACTOR @ FACTOR.T).float()
    assert torch.allclose(drift.drift(state), -0.1 * slope @ covariance, atol=1e-5)


@pytest.mark.parametrize("apart", [2.5, 3.5])
def test_a_ridge_keeps_both_wells(apart):
    wells = [[0.0, 0.0], [apart, apart * 0.5]]
    kept = {}
    for ridge in (0.0, 1.5):
        drift = drift_of(wells, [0, 1], ridge=ridge)
        starts = torch.tensor(wells).repeat_interleave(500, 0)
        ends = drift.responsibilities(run(drift, starts, 100)).argmax(1)
        kept[ridge] = [
            float((ends[part] == i).float().mean()) for i, part in enumerate((slice(500), slice(500, 1000)))
        ]
    assert min(kept[1.5]) > 0.95
    assert min(kept[0.0]) < 0.9


def test_no_ridge_stands_between_progenitors():
    wells, kinds = [[0.0, 0.0], [2.5, 1.25]], [0, 1]
    state = normal(50)
    plain, ridged = (drift_of(wells, kinds, ridge=r, mature=[False, False]).drift(state) for r in (0.0, 1.5))
    assert torch.equal(plain, ridged)


def test_cells_that_move_on_are_held_across_their_way_only():
    way = torch.tensor([0.2, 0.1])
    drift = drift_of([[0.0, 0.0]], [0], velocity=way.numpy(), resting=0.0)
    along = torch.stack((way, -2 * way)) * 3
    assert torch.allclose(drift.drift(along), way.expand(2, -1), atol=1e-5)


def test_a_push_adds_up_over_steps():
    drift, state = drift_of([[0.0, 0.0]], [0], pull=1e-6), normal(5)
    push = torch.tensor([[0.3, 0.0]]).expand(5, -1)
    assert torch.allclose(run(drift, state, 4, push=push) - run(drift, state, 4), 4 * push, atol=1e-4)


def test_pieces_do_not_matter(monkeypatch):
    drift, state = drift_of([[0.0, 0.0], [3.0, 0.0]], [0, 1], ridge=1.0), normal(40)
    whole = run(drift, state, 5)
    monkeypatch.setattr(mixture_drift, "MOST_AT_ONCE", 7)
    assert torch.allclose(run(drift, state, 5), whole, atol=1e-6)


def test_far_away_cells_come_back():
    drift = drift_of([[0.0, 0.0], [3.0, 0.0]], [0, 1], ridge=1.5)
    assert run(drift, 1e3 * normal(50), 100).abs().max() < 20
