"""A policy is used where it is certainly better on what it was not trained on."""

import pytest
import torch

from perturbrl.envs.base import Gains
from perturbrl.training.decision import decide as decide_by_unit
from perturbrl.training.decision import untrained


def gains(*parts):
    return Gains(torch.tensor(parts), torch.tensor([0.5, 0.5]))


def decide(found):
    return decide_by_unit(found, torch.arange(0 if found is None else len(found.parts)))


def test_a_sure_gain_is_kept():
    found = decide(gains([0.2, 0.3], [0.25, 0.2], [0.3, 0.25], [0.2, 0.2], [0.25, 0.225]))
    assert found.kept
    assert found.gain == pytest.approx(0.2375)
    assert 0 < found.at_least < found.gain
    assert "Tried on 5 perturbations or cell types kept from its training" in found.sentence
    assert "made their error 24 % smaller: predictions include it." in found.sentence


def test_the_bound_is_students():
    found = decide(gains(*([value, value] for value in (1.0, 2.0, 3.0, 4.0, 5.0))))
    assert found.at_least == pytest.approx(3.0 - 2.1318 * 2.5**0.5 / 5**0.5, abs=1e-3)


def test_a_gain_that_may_be_chance_is_not():
    found = decide(gains([0.9, 0.9], [-0.1, -0.1], [0.1, 0.0], [-0.1, 0.1], [0.0, 0.0]))
    assert not found.kept
    assert "smaller, which may be chance: predictions are kriging's alone." in found.sentence


def test_a_loss_is_not():
    found = decide(gains(*[[-0.2, -0.1], [-0.1, -0.2]] * 3))
    assert not found.kept
    assert "15 % larger: predictions are kriging's alone." in found.sentence


def test_a_kind_of_error_that_grows_is_not():
    found = decide(gains(*[[0.9, -0.1], [0.8, -0.1], [0.85, -0.1]] * 2))
    assert found.at_least > 0
    assert not found.kept
    assert (
        "smaller, but that of the mean or that of the spread larger: predictions are kriging's"
        in found.sentence
    )


@pytest.mark.parametrize("few", [None, gains(*[[0.5, 0.5]] * 4)])
def test_too_few_decide_nothing(few):
    found = decide(few)
    assert not found.kept
    assert "5 are needed; predictions are kriging's alone." in found.sentence


def test_without_training_there_is_only_the_start():
    assert not untrained().kept
    assert "No policy was trained" in untrained().sentence


def test_conditions_of_one_perturbation_count_once():
    """One in eight cell types is one observation, not eight."""
    sure = gains(*[[0.2, 0.3], [0.25, 0.2]] * 4)
    assert decide(sure).kept
    found = decide_by_unit(sure, torch.zeros(8, dtype=torch.long))
    assert not found.kept
    assert "cannot be tried out: 1 perturbation or cell type was kept from its training" in found.sentence
    uneven = gains(*[[0.1, 0.1]] * 4, *[[0.7, 0.5]] * 2, *[[value, value] for value in (0.2, 0.3, 0.4)])
    found = decide_by_unit(uneven, torch.tensor([4, 4, 4, 4, 9, 9, 0, 1, 2]))
    assert found.gain == pytest.approx((0.1 + 0.6 + 0.2 + 0.3 + 0.4) / 5)
    assert found.n_units == 5
