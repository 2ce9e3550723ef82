import numpy as np
import pytest
import torch

from perturbrl.errors import DataError
from perturbrl.responses.training_cells import TrainingCells, parts_of


def test_parts_have_no_order():
    assert parts_of("A+B") == parts_of("B+A") == {"A", "B"}
    assert parts_of("control") == {"control"}


def test_centroids_pool_labels_that_differ_in_order_only():
    cells = TrainingCells(np.array([[0.0], [1.0], [3.0], [5.0]]), ["control", "A+B", "B+A", "A"], ["g"])
    assert {parts: float(mean[0]) for parts, mean in cells.centroids().items()} == {
        frozenset({"control"}): 0.0,
        frozenset({"A", "B"}): 2.0,
        frozenset({"A"}): 5.0,
    }
    some = cells.centroids(among=np.array([True, True, False, False]))
    assert {parts: float(mean[0]) for parts, mean in some.items()} == {
        frozenset({"control"}): 0.0,
        frozenset({"A", "B"}): 1.0,
    }


def test_tensors_are_welcome():
    expression = torch.tensor([[0.0, 2.0], [1.0, 4.0]])
    centroids = TrainingCells(expression, ["control", "A"], ["g", "h"]).centroids()
    np.testing.assert_array_equal(centroids[frozenset({"A"})], [1.0, 4.0])


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
