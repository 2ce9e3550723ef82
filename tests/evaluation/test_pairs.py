import numpy as np
import pytest

from perturbrl.errors import DataError
from perturbrl.evaluation.pairs import CellsOnDemand, MeasuredResponses, PredictedResponses, ResponsePair

GENES = ("g1", "g2", "g3")
CONTROL = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
A, B = np.arange(12.0).reshape(4, 3), np.arange(15.0).reshape(5, 3)


def judges(**cells):
    return MeasuredResponses(GENES, CONTROL, cells or {"A": A, "B": B})


def test_rows_are_the_perturbations_as_given():
    measured = judges(B=B, A=A)
    shifts = {"A": np.ones(3), "B": np.zeros(3)}
    means = ResponsePair(measured, PredictedResponses(shifts, np.full(3, 7.0)), np.zeros(3)).means
    np.testing.assert_allclose(means.real, [B.mean(axis=0), A.mean(axis=0)])
    np.testing.assert_allclose(means.predicted, [[7.0] * 3, [8.0] * 3])
    np.testing.assert_allclose(means.real_shift, means.real - 1.0)


def test_cells_are_made_when_they_are_asked_for():
    made = []

    def make(label):
        made.append(label)
        return {"A": A, "B": B}[label]

    cells = CellsOnDemand(["A", "B"], make)
    measured = MeasuredResponses(GENES, CONTROL, cells)
    assert (measured.perturbations, len(cells)) == (("A", "B"), 2)
    assert "B" not in made  # the shape checker of the tests looks at the first one
    assert measured.means.keys() == {"A", "B"} == set(made)
    with pytest.raises(KeyError, match="C"):
        cells["C"]


@pytest.mark.parametrize(
    ("cells", "control", "message"),
    [
        ({"A": A[:3]}, CONTROL, "3 held-out cells of A cannot judge"),
        ({"A": A}, CONTROL[:1], "1 held-out cells of control cannot judge"),
        ({"B": B, "A": A[:, :2]}, CONTROL, "A has 2 genes and 3 have names"),
        ({}, CONTROL, "only control cells"),
    ],
)
def test_too_few_cells_judge_nothing(cells, control, message):
    with pytest.raises(DataError, match=message):
        _ = MeasuredResponses(GENES, control, cells).means


@pytest.mark.parametrize(
    ("shifts", "message"),
    [
        ({"A": np.ones(3)}, r"\['B'\] were measured and not predicted"),
        ({"A": np.ones(3), "B": np.ones(3), "C": np.ones(3)}, r"\['C'\] predicted and not measured"),
        ({"A": np.ones(3), "B": np.ones(2)}, "shift of B has 2 values"),
        ({"A": np.array([0, np.nan, np.inf]), "B": np.ones(3)}, "A has 3 values, 1 of them finite"),
    ],
)
def test_a_prediction_that_does_not_fit_is_refused(shifts, message):
    with pytest.raises(DataError, match=message):
        ResponsePair(judges(), PredictedResponses(shifts, np.zeros(3)), np.zeros(3))


def test_cells_are_predicted_of_the_same_perturbations():
    predicted = PredictedResponses({"A": np.ones(3), "B": np.ones(3)}, np.zeros(3), {"A": A})
    with pytest.raises(DataError, match=r"\['B'\] were measured and not predicted"):
        ResponsePair(judges(), predicted, np.zeros(3))


def test_a_prediction_without_cells_has_no_populations():
    shifts = {"A": np.ones(3), "B": np.ones(3)}
    assert ResponsePair(judges(), PredictedResponses(shifts, np.zeros(3)), np.zeros(3)).cells("A") is None
