import numpy as np
import pytest
import torch

from perturbrl.errors import DataError
from perturbrl.responses.training_cells import TrainingCells


def test_centroids_pool_labels_that_differ_in_order_only():
    cells = TrainingCells(np.array([[0.0], [1.0], [3.0], [5.0]]), ["control", "A+B", "B+A", "A"], ["g"])
    assert {label: float(mean[0]) for label, mean in cells.centroids().items()} == {
        "control": 0.0,
        "A+B": 2.0,
        "A": 5.0,
    }
    some = cells.centroids(among=np.array([True, True, False, False]))
    assert {label: float(mean[0]) for label, mean in some.items()} == {
        "control": 0.0,
        "A+B": 1.0,
    }


def test_tensors_are_welcome():
    expression = torch.tensor([[0.0, 2.0], [1.0, 4.0]])
    centroids = TrainingCells(expression, ["control", "A"], ["g", "h"]).centroids()
    np.testing.assert_array_equal(centroids["A"], [1.0, 4.0])


def test_bad_training_cells_are_named():
    x = np.ones((2, 3))
    with pytest.raises(DataError, match="1 labels, 3 gene names and 2 cell types"):
        TrainingCells(x, ["control"], list("abc"))
    with pytest.raises(DataError, match=r"not the labels \['A', 'B'\]"):
        TrainingCells(x, ["A", "B"], list("abc"))
    with pytest.raises(DataError, match=r"not the labels \['control'\]"):
        TrainingCells(x, ["control", "control"], list("abc"))
    with pytest.raises(DataError, match="not finite"):
        TrainingCells(x * np.nan, ["control", "A"], list("abc"))
