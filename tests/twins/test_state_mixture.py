"""A mixture of cell states on cells drawn from a known one."""

import numpy as np
import pytest

from perturbrl.errors import DataError
from perturbrl.twins.state_mixture import fit_mixture

COVARIANCE = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 0.25]])
CENTRES = np.array([[0.0, 0.0, 0.0], [8.0, 0.0, 0.0], [0.0, 8.0, 0.0]])


@pytest.fixture(scope="module")
def cells():
    """Two types; the first has two groups."""
    rng = np.random.default_rng(0)
    group = rng.choice(3, 900, p=[0.5, 0.2, 0.3])
    noise = rng.multivariate_normal(np.zeros(3), COVARIANCE, 900)
    return CENTRES[group] + noise, (group == 2).astype(int)


def fitted(latent, kinds, weights=None, each=200):
    return fit_mixture(latent, kinds, np.ones(len(latent)) if weights is None else weights, each, 0)


def test_the_covariance_within_components_is_found(cells):
    mixture = fitted(*cells)
    assert np.allclose(mixture.factor @ mixture.factor.T, COVARIANCE, atol=0.12)
    white = cells[0] @ mixture.whitening
    within = white - (mixture.memberships @ (mixture.means @ mixture.whitening))
    assert np.allclose(np.cov(within.T), np.eye(3), atol=0.15)


def test_cells_belong_to_components_of_their_type(cells):
    mixture = fitted(*cells)
    assert mixture.kinds.tolist() == [0, 0, 0, 1]
    assert np.allclose(mixture.memberships.sum(1), 1)
    for kind in (0, 1):
        assert (mixture.memberships[cells[1] == kind][:, mixture.kinds != kind] == 0).all()
        assert np.isclose(mixture.shares[mixture.kinds == kind].sum(), 1)


def test_a_component_may_spread_wider_than_others(cells):
    latent, kinds = cells[0].copy(), cells[1]
    latent[kinds == 1] = CENTRES[2] + 3 * (latent[kinds == 1] - CENTRES[2])
    scales = fitted(latent, kinds).scales
    assert scales[3] > 4 * scales[:3].max()


def test_cells_without_weight_do_not_count(cells):
    latent, kinds = cells
    weights = np.ones(len(latent))
    weights[::3] = 0
    moved = latent.copy()
    moved[::3] += 1
    first, other = (fitted(states, kinds, weights, each=1000) for states in (latent, moved))
    assert np.allclose(first.means, other.means)
    assert np.allclose(first.factor, other.factor)


def test_a_type_of_one_cell_is_a_component(cells):
    mixture = fitted(np.vstack((cells[0], [[40.0, 0, 0]])), np.append(cells[1], 2))
    assert np.allclose(mixture.means[mixture.kinds == 2], [[40.0, 0, 0]])


def test_cells_that_do_not_differ_are_refused():
    with pytest.raises(DataError, match="the 5 cells to learn a landscape from do not differ"):
        fitted(np.ones((5, 2)), np.zeros(5, dtype=int))


def test_a_type_of_one_cell_gets_the_common_spread_and_no_infinite_precision() -> None:
    """Seen on LARRY: of two Neu_Mon cells one was drawn twice, its variance was 0 and every cell became NaN."""
    rng = np.random.default_rng(0)
    latent = np.concatenate([rng.normal(size=(200, 3)), rng.normal(5.0, 1.0, (1, 3))])
    kinds = np.repeat([0, 1], [200, 1])
    mixture = fit_mixture(latent, kinds, np.ones(201), 50, seed=0)
    assert (mixture.scales > 0.3).all()
    assert (mixture.scales < 3.0).all()
    assert np.allclose(mixture.means[mixture.kinds == 1], latent[-1])
