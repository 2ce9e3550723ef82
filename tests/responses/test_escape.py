"""Cells that escape, where their share is known."""

import numpy as np
import pytest
from spread_screen import SpreadScreen

from perturbrl.data.labels import Label
from perturbrl.responses.spread_model import SpreadModel
from perturbrl.responses.training_cells import ONE_CONTEXT


def escaped(screen, *names, seed=0):
    asked = [(Label.parse(name), ONE_CONTEXT) for name in names]
    return [one.escaped for one in SpreadModel().fit(*screen.training(seed)).predict(asked)]


@pytest.mark.parametrize(("share", "dispersion"), [(0.15, 1.0), (0.35, 0.0)])
def test_a_known_share_is_recovered_with_its_interval(share, dispersion):
    screen = SpreadScreen(escaped=share, dispersion=dispersion)
    found = escaped(screen, *screen.perturbations, seed=1)
    assert np.mean([one.estimate for one in found]) == pytest.approx(share, abs=0.04)
    # Of 95 % intervals of eight perturbations.
    assert sum(one.low <= share <= one.high for one in found) >= 7
    assert max(one.high - one.low for one in found) < 0.25


def test_a_perturbation_not_measured_has_what_the_others_have():
    (found,) = escaped(SpreadScreen(escaped=0.3), "nobody")
    assert found.estimate == pytest.approx(0.3, abs=0.08)
    assert found.low <= 0.3 <= found.high


@pytest.mark.parametrize(
    "screen",
    [
        SpreadScreen(),
        SpreadScreen(dispersion=1.5),
        SpreadScreen(depth=0.6),
        SpreadScreen(strength=0.0),
        SpreadScreen(strength=4.0),
    ],
    ids=["even", "dispersed", "shallow", "null", "weak"],
)
def test_nothing_escapes_where_nothing_says_so(screen):
    found = escaped(screen, *screen.perturbations, "nobody")
    assert max(one.estimate for one in found) < 0.06
    assert all(one.low == 0.0 for one in found)
