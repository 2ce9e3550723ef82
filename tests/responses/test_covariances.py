"""Covariances between conditions: by hand, of any rows with any others, and in little memory."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.covariances import Covariances
from perturbrl.responses.moments import Moments
from perturbrl.responses.training_cells import TrainingCells

TOLD = PriorKnowledge("told", ("A", "B", "F"), csr_matrix([[1.0, 0.0], [0.6, 0.8], [0.0, 0.0]]))
ONE = {"": np.zeros(3)}


def conditions(*texts, contexts=("",)):
    return [(Label.parse(text), context) for text in texts for context in contexts]


def test_treatments_by_hand():
    a, b = conditions("A", "A+B", "D:1", "F"), conditions("A+B", "D:10", "F", "A")
    found = Covariances((TOLD,), ONE, {"D": (1.0, 10.0)}, True).over_treatments(a, b)
    grown = np.log(2.0) / np.log(11.0)  # of D:1, on the way from dose 0 to D:10
    common, own, told = found.sums
    np.testing.assert_allclose(
        common, [[2, 1, 1, 1], [4, 2, 2, 2], [2 * grown, grown, grown, grown], [2, 1, 1, 1]]
    )
    np.testing.assert_allclose(own, [[1, 0, 0, 1], [2, 0, 0, 1], [0, grown, 0, 0], [0, 0, 1, 0]])
    # A name of which nothing is told is like itself alone.
    np.testing.assert_allclose(told, [[1.6, 0, 0, 1], [3.2, 0, 0, 1.6], [0, grown, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(found.interaction, [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found.by_strength, found.sums)


def test_a_point_of_the_net_by_hand():
    covariances = Covariances((), ONE, {}, True, {"A": 4.0, "B": 0.25})
    found = covariances.over_treatments(conditions("A", "A+B"), conditions("A", "A+B", "C"))
    weights = np.array([0.25, 0.5, 0.25])
    added = found.at(weights, strong=False, saturation=0.0)
    np.testing.assert_allclose(added, [[0.75, 1.0, 0.25], [1.0, 2.25, 0.5]])
    # A is twice as strong as a perturbation of which nothing was measured, B half as strong.
    strong = found.at(weights, strong=True, saturation=0.0)
    np.testing.assert_allclose(strong, [[2.25, 2.5, 0.25], [2.5, 1.0 + 2.125 + 0.25, 0.5]])
    mean = found.at(weights, strong=False, saturation=1.0)
    np.testing.assert_allclose(mean, [[0.75, 0.5, 0.25], [0.5, 0.5 + 0.25, 0.25]])


def test_strengths_are_squared_effects_in_units_of_their_mean():
    rng = np.random.default_rng(0)
    shift = {"A": 3.0, "B": 1.0, "A+C": 2.0, "D": 0.0}
    blocks = [rng.normal(size=(4000, 5)), *(s + rng.normal(size=(4000, 5)) for s in shift.values())]
    labels = [label for label in ("control", *shift) for _ in range(4000)]
    cells = TrainingCells(np.concatenate(blocks), labels, tuple("vwxyz"))
    found = Covariances.of(Moments.of(cells), ()).strengths
    sizes = {"A": (9.0 + 2.0) / 2, "B": 1.0, "C": 2.0, "D": 0.0}
    assert set(found) == set(sizes)
    for name, size in sizes.items():
        assert found[name] == pytest.approx(size / np.mean(list(sizes.values())), abs=0.05)


def test_a_prior_tells_the_strength_of_what_was_not_measured():
    """B is like A by 0.6; what is missing to 1 counts as the mean strength."""
    found = Covariances((TOLD,), ONE, {}, False, {"A": 6.0, "D": 0.5}).over_treatments(
        conditions("B"), conditions("A")
    )
    likened = 0.6 * 6.0 + 0.4
    np.testing.assert_allclose(found.by_strength[:, 0, 0], [1.0, 0.0, 0.6 * np.sqrt(6.0 * likened)])


def test_what_much_is_said_of_varies_more():
    told = PriorKnowledge("told", ("A", "B"), csr_matrix([[4.0, 0.0], [1.0, 1.0]]))
    rows = conditions("A", "B", "C")
    found = Covariances((told,), ONE, {}, False).over_treatments(rows, rows).sums[2]
    typical, length = (4.0 + np.sqrt(2.0)) / 2, np.array([4.0, np.sqrt(2.0)])
    alike = np.array([[1.0, np.sqrt(0.5)], [np.sqrt(0.5), 1.0]]) * np.sqrt(np.outer(length, length)) / typical
    np.testing.assert_allclose(found, [[*alike[0], 0.0], [*alike[1], 0.0], [0.0, 0.0, 1.0]])


def test_effects_without_any_signal_are_equally_strong():
    rng = np.random.default_rng(1)
    labels = np.repeat(["control", *"ABCDEFGH"], 50).tolist()
    cells = TrainingCells(rng.normal(size=(450, 200)), labels, tuple(f"g{i}" for i in range(200)))
    found = Covariances.of(Moments.of(cells), ()).strengths
    assert all(0.7 < strength < 1.5 for strength in found.values())


def test_contexts_by_hand():
    profiles = {"x": np.array([0.0, 0.0]), "y": np.array([2.0, 0.0]), "z": np.array([4.0, 0.0])}
    rows = conditions("A", contexts="xyz")
    everywhere, along, here = Covariances((), profiles, {}, False).over_contexts(rows, rows)
    np.testing.assert_array_equal(everywhere, np.ones((3, 3)))
    np.testing.assert_allclose(along, 1.5 * np.outer([-1, 0, 1], [-1, 0, 1]))
    np.testing.assert_array_equal(here, np.eye(3))


def test_some_rows_have_their_part_of_all_covariances():
    profiles = {"x": np.array([0.0, 1.0]), "y": np.array([1.0, 1.0]), "z": np.array([3.0, 0.0])}
    rows = conditions("A", "A+F", "D:1", "D:10", "B", "Q", contexts="xyz")
    found = Covariances((TOLD,), profiles, {"D": (1.0, 10.0)}, True, {"A": 3.0})
    some, others = [1, 5, 7], [0, 3, 4, 17]
    part, whole = found.over([rows[i] for i in some], [rows[i] for i in others]), found.over(rows, rows)
    np.testing.assert_allclose(part[1], whole[1][:, some][:, :, others], atol=1e-15)
    for name in ("sums", "by_strength"):
        these, all_of_them = getattr(part[0], name), getattr(whole[0], name)
        np.testing.assert_allclose(these, all_of_them[:, some][:, :, others], atol=1e-15)


def test_many_rows_take_memory_for_those_asked_about_alone():
    rows = conditions(*(f"p{i}" for i in range(6000)))
    tracemalloc.start()
    found = Covariances((TOLD,), ONE, {}, False).over_treatments(rows, rows[:4])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.sums.shape == (3, 6000, 4)
    assert peak < 50 * 6000 * 4 * 8
