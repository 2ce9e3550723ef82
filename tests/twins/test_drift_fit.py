"""Velocities of components, and cells as unseen ones are spread."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from perturbrl.twins.couplings import Couplings
from perturbrl.twins.drift_fit import as_unseen, caught_up, fit_member
from perturbrl.twins.lineages import Lineages, LineageSteps


def test_types_keep_their_means_and_lose_the_noise_of_the_encoder():
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1], 50)
    latent = rng.normal(size=(100, 3)) + 5 * kinds[:, None]
    found = as_unseen(latent, kinds, np.array([1.0, 0.5, 0.0]))
    for kind in (0, 1):
        own, before = found[kinds == kind], latent[kinds == kind]
        assert np.allclose(own.mean(0), before.mean(0))
        assert np.allclose(own.std(0), before.std(0) * [1.0, 0.5, 0.0])


def two_times(lag, n=4000, seed=0):
    """Cells on their way from 0 to (6, 2, 0), the later ones short of it by an exponential share, and noise."""
    rng = np.random.default_rng(seed)
    way, noise = np.array([6.0, 2.0, 0.0]), np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 2.0]])
    done = np.concatenate((np.zeros(n), 1 - lag * rng.exponential(size=n)))
    return done[:, None] * way + rng.normal(size=(2 * n, 3)) @ noise.T, np.repeat([0, 1], n), way


@pytest.mark.parametrize("lag", [0.1, 0.3])
def test_cells_measured_last_catch_up(lag):
    latent, times, way = two_times(lag)
    found = caught_up(latent, times)
    assert np.array_equal(found[times == 0], latent[times == 0])
    assert np.allclose(found[times == 1].mean(0), way, atol=0.25)
    ahead = (found - latent)[times == 1] @ way
    assert ahead.min() >= 0
    assert np.corrcoef(ahead, latent[times == 1] @ way)[0, 1] < -0.5


def test_cells_that_vary_no_more_than_before_stay():
    latent, times, _ = two_times(0.0)
    latent[times == 1] = latent[times == 1].mean(0) + 0.9 * (latent[times == 1] - latent[times == 1].mean(0))
    assert np.array_equal(caught_up(latent, times), latent)


def chain(bootstrap=False, seed=0, duration=0.5):
    """Progenitors around 0 go to cells around (4, 0), which rest, in ``duration``."""
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1], 100)
    latent = rng.normal(0, 0.3, (200, 2)) + np.array([[0.0, 0.0], [4.0, 0.0]])[kinds]
    later = sp.csr_array(np.where(kinds[:, None] == 0, (kinds == 1) / 100, 0.0))
    moving = torch.from_numpy(kinds == 0)
    steps = LineageSteps(later, kinds.astype(float))
    couplings = Couplings(later, duration * moving.float())
    lineages = Lineages(("stem", "end"), kinds, np.array([False, True]))
    return fit_member(
        latent,
        lineages,
        steps,
        couplings,
        pace=0.025,
        cells_per_component=100,
        bootstrap=bootstrap,
        seed=seed,
    )


def test_a_component_moves_to_where_its_cells_go_in_the_time_that_takes():
    member = chain()
    assert np.allclose(member.velocity[0], [4 / 20, 0], atol=0.02)  # half of the order at 0.025 a step
    assert np.allclose(member.velocity[1], 0)
    assert member.resting.tolist() == [0.0, 1.0]
    assert np.allclose(np.exp(member.log_priors), 0.5)


def test_nothing_jumps():
    assert np.allclose(chain(duration=1e-6).velocity[0], [0.5, 0], atol=0.05)


def test_members_are_drawn_anew():
    first, again, other = (chain(True, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.mixture.means, again.mixture.means)
    assert not np.array_equal(first.mixture.means, other.mixture.means)
    assert not np.array_equal(first.mixture.means, chain().mixture.means)
