"""Covariances between conditions: by hand, of any rows with any others, and in little memory."""

import tracemalloc

import numpy as np
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.covariances import Covariances

TOLD = PriorKnowledge("told", ("A", "B", "F"), csr_matrix([[1.0, 0.0], [0.6, 0.8], [0.0, 0.0]]))
ONE = {"": np.zeros(3)}


def conditions(*texts, contexts=("",)):
    return [(Label.parse(text), context) for text in texts for context in contexts]


def test_treatments_by_hand():
    found = Covariances((TOLD,), ONE, {"D": 10.0}, True).over_treatments(
        conditions("A", "A+B", "D:1", "F"), conditions("A+B", "D:10", "F", "A")
    )
    near = np.exp(-0.5)
    np.testing.assert_allclose(found[0], [[2, 1, 1, 1], [4, 2, 2, 2], [2, 1, 1, 1], [2, 1, 1, 1]])
    np.testing.assert_allclose(found[1], [[1, 0, 0, 1], [2, 0, 0, 1], [0, near, 0, 0], [0, 0, 1, 0]])
    # A name of which nothing is told is like itself alone.
    np.testing.assert_allclose(found[2], [[1.6, 0, 0, 1], [3.2, 0, 0, 1.6], [0, near, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(found[3], [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_some_rows_have_their_part_of_all_covariances():
    profiles = {"x": np.array([0.0, 1.0]), "y": np.array([1.0, 1.0]), "z": np.array([3.0, 0.0])}
    rows = conditions("A", "A+F", "D:1", "D:10", "B", "Q", contexts="xyz")
    found = Covariances((TOLD,), profiles, {"D": 10.0}, True)
    some, others = [1, 5, 7], [0, 3, 4, 17]
    for over in (found.over_treatments, found.over_contexts):
        parts = over([rows[i] for i in some], [rows[i] for i in others])
        np.testing.assert_allclose(parts, over(rows, rows)[:, some][:, :, others], atol=1e-15)


def test_many_rows_take_memory_for_those_asked_about_alone():
    rows = conditions(*(f"p{i}" for i in range(6000)))
    tracemalloc.start()
    found = Covariances((TOLD,), ONE, {}, False).over_treatments(rows, rows[:4])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (3, 6000, 4)
    assert peak < 50 * 6000 * 4 * 8
