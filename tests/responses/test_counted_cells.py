import numpy as np
import pytest
from scipy.sparse import csr_array

from perturbrl.errors import DataError
from perturbrl.responses.counted_cells import CountedCells, join

CELLS = CountedCells(csr_array(np.array([[1.0, 0.0], [2.0, 5.0], [0.0, 0.0]])), np.array([10.0, 100.0, 7.0]))


def test_log_expression_is_normalised_by_the_size_factor():
    np.testing.assert_allclose(CELLS.log_expression, np.log1p([[1000.0, 0.0], [200.0, 500.0], [0.0, 0.0]]))
    np.testing.assert_allclose(CELLS.log_mean, CELLS.log_expression.mean(axis=0))


def test_some_cells_and_cells_one_after_the_other():
    again = join([CELLS[np.array([0])], CELLS[np.array([1, 2])]])
    np.testing.assert_array_equal(again.counts.toarray(), CELLS.counts.toarray())
    np.testing.assert_array_equal(again.size_factors, CELLS.size_factors)


@pytest.mark.parametrize("wrong", [0.5, -1.0])
def test_counts_are_whole(wrong):
    with pytest.raises(DataError, match="give raw counts"):
        CountedCells(csr_array(np.array([[wrong]])), np.ones(1))
