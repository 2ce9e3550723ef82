import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.twins.dose_response import DoseResponse

LOW, MIDDLE, FULL = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, -2.0]])
ALONE = torch.tensor([10.0, 20.0])


def response() -> DoseResponse:
    learned = DoseResponse()
    learned.learn([[1.0], [0.01, 0.1, 1.0]], [ALONE[None], torch.stack([LOW, MIDDLE, FULL])])
    return learned


def effect_of(dose: float) -> torch.Tensor:
    return response()(torch.tensor([[0.0, dose]]))[0]


@pytest.mark.parametrize(
    ("dose", "expected"),
    [
        (0.0, 0 * LOW),
        (0.01, LOW),
        (0.1, MIDDLE),
        (1.0, FULL),
        # Below the lowest measured dose linear in the dose.
        (0.0025, LOW / 4),
        # Between measured doses linear in the logarithm: the geometric mean is half way.
        (10**-1.5, (LOW + MIDDLE) / 2),
        (10**-0.5, (MIDDLE + FULL) / 2),
        (10**-0.25, 0.25 * MIDDLE + 0.75 * FULL),
        # Above the largest measured dose nothing is known to be added.
        (3.0, FULL),
        (-0.1, -MIDDLE),
        (-(10**-1.5), -(LOW + MIDDLE) / 2),
    ],
)
def test_effects_between_measured_doses(dose: float, expected: torch.Tensor) -> None:
    assert torch.allclose(effect_of(dose), expected, atol=1e-5)


def test_effects_of_different_perturbations_add_up_and_a_single_dose_is_linear() -> None:
    doses = torch.tensor([[0.5, 0.1], [2.0, 0.0], [-1.0, 1.0]])
    expected = torch.stack([0.5 * ALONE + MIDDLE, 2 * ALONE, FULL - ALONE])
    assert torch.allclose(response()(doses), expected, atol=1e-5)


def test_without_several_doses_nothing_is_kept() -> None:
    learned = response()
    assert not learned.is_linear
    learned.learn([[1.0], [1.0]], [ALONE[None], FULL[None]])
    assert learned.is_linear
    assert all(buffer.numel() == 0 for buffer in learned.buffers())


def test_doses_too_close_for_single_precision_stay_finite() -> None:
    learned = DoseResponse()
    learned.learn([[0.1, 0.1 + 1e-12, 1.0]], [torch.stack([LOW, MIDDLE, FULL])])
    assert learned(torch.tensor([[0.0], [0.1], [0.2], [1.0]])).isfinite().all()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True), st.data())
def test_an_effect_lies_between_those_of_its_neighbouring_doses(levels: list[int], data) -> None:
    doses = [*sorted(10 ** (-level / 10) for level in levels), 1.0]
    learned, effects = DoseResponse(), torch.randn(len(doses), 3, generator=torch.Generator().manual_seed(0))
    learned.learn([doses], [effects])
    assert torch.allclose(learned(torch.tensor(doses)[:, None]), effects, atol=1e-4)
    place = data.draw(st.integers(0, len(doses) - 1))
    below = 0.0 if place == 0 else doses[place - 1]
    dose = data.draw(st.floats(below, doses[place]))
    ends = torch.stack([torch.zeros(3) if place == 0 else effects[place - 1], effects[place]])
    found = learned(torch.tensor([[dose]]))[0]
    assert (found >= ends.min(0).values - 1e-4).all()
    assert (found <= ends.max(0).values + 1e-4).all()
