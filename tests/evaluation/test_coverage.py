import numpy as np
import pytest

from perturbrl.evaluation.coverage import held_share


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_share_of_shifts_that_an_interval_holds(level):
    rng = np.random.default_rng(0)
    truth, error, noise = 0.5 * rng.normal(size=(3, 20000)) * [[1.0], [1.0], [0.4]]
    share = held_share(truth + error, np.full(20000, 0.5), truth + noise, np.full(20000, 0.04), level)
    assert share == pytest.approx(level, abs=0.01)


def test_a_gene_that_nobody_expresses_is_no_success():
    nothing = np.zeros(5)
    assert held_share(nothing, nothing, np.array([0, 0, 0, 0, 1.0]), nothing, 0.9) == 0.0
    assert np.isnan(held_share(nothing, nothing + 1, nothing, nothing, 0.9))


def test_a_model_that_does_not_tell_how_sure_it_is_holds_nothing():
    some = np.ones(5)
    assert np.isnan(held_share(some, np.full(5, np.nan), some, some, 0.9))
