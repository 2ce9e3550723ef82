import numpy as np
import pytest

from perturbrl.responses.grid_shrinkage import GridShrinkage

POINTS = np.linspace(0.0, 4.0, 9)


def told(values, sd):
    return -0.5 * np.square((np.asarray(values)[:, None] - POINTS) / sd)


def test_what_data_tell_clearly_stays():
    shrunk = GridShrinkage.of(told([0.0, 1.0, 3.0], 0.05))
    np.testing.assert_allclose(shrunk.afterwards @ POINTS, [0.0, 1.0, 3.0], atol=1e-3)


def test_noisy_items_go_to_where_the_others_are():
    rng = np.random.default_rng(0)
    shrunk = GridShrinkage.of(told(2.0 + rng.normal(size=200), 1.0))
    found = shrunk.afterwards @ POINTS
    assert np.abs(found - 2.0).mean() < 0.3
    assert shrunk.beforehand @ POINTS == pytest.approx(2.0, abs=0.2)


def test_where_nothing_is_known_nothing_is_claimed():
    for items in (0, 3):
        shrunk = GridShrinkage.of(np.zeros((items, len(POINTS))))
        assert shrunk.beforehand @ POINTS == pytest.approx(0.0, abs=0.05)
