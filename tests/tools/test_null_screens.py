"""Where no effect is, none is called detectable more often than the test says; where one is, it is found."""

import pandas as pd
import pytest
from scipy.stats import binom
from studies.null_screens import COMPARISONS, EFFECTS, LEVEL, SHAPES, one_screen, summary

SMALL = "4x40-control120-genes200"
WIDE = "4x40-control120-genes1000"


def p_values(shape: str, effect: float, n: int) -> pd.DataFrame:
    return pd.DataFrame([one_screen({"shape": shape, "effect": effect, "seed": seed}) for seed in range(n)])


@pytest.fixture(scope="module")
def wide() -> pd.DataFrame:
    return p_values(WIDE, 0.0, 12)


def test_training_cells_are_told_from_unseen_ones_though_nothing_differs(wide: pd.DataFrame) -> None:
    """Why they are not compared: principal components were fitted on them."""
    assert (wide["training"] <= LEVEL).all()


@pytest.mark.parametrize("comparison", ["unseen", "goal"])
def test_unseen_cells_are_not_told_apart_where_nothing_differs(wide: pd.DataFrame, comparison: str) -> None:
    assert (wide[comparison] <= LEVEL).sum() <= binom.ppf(0.999, len(wide), LEVEL)
    assert wide[comparison].median() > 0.2


def test_an_effect_is_found() -> None:
    found = p_values(SMALL, 0.6, 6)
    assert (found[["unseen", "goal"]] <= LEVEL).all(axis=None)


@pytest.mark.slow
@pytest.mark.parametrize("shape", list(SHAPES))
def test_false_alarms_are_as_rare_as_the_level_says(shape: str) -> None:
    n = 60
    alarms = (p_values(shape, 0.0, n)[["unseen", "goal"]] <= LEVEL).sum()
    assert (alarms <= binom.ppf(0.999, n, LEVEL)).all()


def test_the_summary_has_the_share_of_every_shape_and_effect() -> None:
    rows = [
        {"shape": shape, "effect": effect, "seed": seed}
        | dict.fromkeys(COMPARISONS, 0.01 if effect or not seed else 0.5)
        for shape in SHAPES
        for effect in EFFECTS
        for seed in range(2)
    ]
    found = summary(pd.DataFrame(rows))
    assert found["null_screens"] == 8
    assert found["false_alarms"] == 0.5
    low, high = found["false_alarms_interval"]
    assert low < 0.5 < high
    of_shape = found[SMALL]
    assert of_shape["false_alarms"] == dict.fromkeys(COMPARISONS, 0.5)
    assert of_shape["power"] == {str(effect): dict.fromkeys(COMPARISONS, 1.0) for effect in EFFECTS[1:]}
