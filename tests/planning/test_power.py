"""As many cells as are said to be needed show the effect as often as is said."""

import numpy as np
import pytest
from scipy.stats import norm

from perturbrl.planning.power import LEVEL, POWER, needed


@pytest.mark.parametrize(("effect", "sd", "n_controls"), [(0.5, 1.0, 200), (0.2, 0.7, 5000), (1.0, 2.0, 400)])
def test_a_simulated_test_has_the_power_that_was_asked_for(effect: float, sd: float, n_controls: int) -> None:
    (n,) = needed(np.array([effect]), np.array([sd**2]), np.array([sd**2 / n_controls]))
    rng = np.random.default_rng(0)
    se = sd * np.sqrt(1.0 / n + 1.0 / n_controls)
    estimates = effect + sd * rng.standard_normal((20_000, 1)) / np.sqrt(n)
    estimates = estimates[:, 0] + sd * rng.standard_normal(20_000) / np.sqrt(n_controls)
    seen = np.mean(np.abs(estimates) / se > norm.isf(LEVEL / 2))
    assert POWER - 0.01 <= seen <= POWER + 0.06


def test_one_cell_fewer_is_too_few() -> None:
    (n,) = needed(np.array([0.3]), np.array([1.0]), np.array([0.0]))
    reach = norm.isf(LEVEL / 2) + norm.ppf(POWER)
    assert 0.3 / np.sqrt(1.0 / n) >= reach > 0.3 / np.sqrt(1.0 / (n - 1))


def test_what_control_cells_blur_more_than_the_effect_no_number_shows() -> None:
    found = needed(np.array([0.1, 0.0]), np.array([1.0, 1.0]), np.array([0.01, 0.0]))
    assert np.isinf(found).all()
