"""A training perturbation is foretold by what is left when it, and all that contains it, is taken away."""

import sys

import numpy as np
import pytest

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.responses.baselines import Additive
from perturbrl.responses.inner_split import Foretold, InnerSplit, foretold, leaving, measured_conditions, only
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells

LABELS = ("control", "A", "B", "C", "D", "E", "A+B", "C+D")


def cells(labels=LABELS, types=("",), changed=(), n=6):
    rng = np.random.default_rng(0)
    rows = [(label, kind) for label in labels for kind in types for _ in range(n)]
    values = rng.normal(size=(len(rows), 5)) + [[len(label)] * 5 for label, _ in rows]
    values[[label in changed for label, _ in rows]] += 9.0
    of_types = None if types == ("",) else [kind for _, kind in rows]
    return TrainingCells(values, [label for label, _ in rows], tuple("vwxyz"), of_types)


def names(conditions):
    return {str(label) for label, _ in conditions}


def test_what_contains_a_unit_leaves_with_it():
    conditions = measured_conditions(cells())
    assert names(leaving(conditions, [Label.parse("A")])) == {"A", "A+B"}
    assert names(leaving(conditions, [Label.parse("A+B")])) == {"A+B"}


def test_contexts_are_the_units_of_one_perturbation():
    conditions = measured_conditions(cells(("control", "A"), ("t", "u", "v", "w")))
    assert leaving(conditions, ["u"]) == [(Label.parse("A"), "u")]
    split = InnerSplit.of(conditions, 0.3, 0)
    assert len(split.deciding) == 1
    assert len(split.learned) == 3


@pytest.mark.parametrize("seed", range(5))
def test_nothing_that_is_learned_contains_what_decides(seed):
    split = InnerSplit.of(measured_conditions(cells()), 0.34, seed)
    assert split.deciding
    assert names(split.learned) | names(split.deciding) == set(LABELS) - {"control"}
    units = [label for label, _ in split.deciding]
    assert not any(one.contains(unit) for one, _ in split.learned for unit in units)


def test_a_perturbation_counts_once_in_all_contexts_and_with_all_that_contains_it():
    for types in (("",), tuple("tuvwxy")):
        split = InnerSplit.of(measured_conditions(cells(("control", *"ABCD", "A+B", "A+C"), types)), 0.2, 0)
        units = dict(zip(split.deciding, split.units, strict=True))
        assert len(units) >= len(types)
        assert set(units.values()) == {0}
    split = InnerSplit.of(measured_conditions(cells()), 0.34, 0)
    assert len(set(split.units)) > 1


def test_doses_of_a_perturbation_count_once_and_are_told_apart_where_it_is_the_only_one():
    several = measured_conditions(
        cells(("control", *(f"{name}:{dose}" for name in "ABCD" for dose in (1, 10))))
    )
    split = InnerSplit.of(several, 0.6, 0)
    number_of = {label.names: unit for (label, _), unit in zip(split.deciding, split.units, strict=True)}
    assert len(split.deciding) == 5
    assert len(number_of) == len(set(split.units)) < 5
    for (label, _), unit in zip(split.deciding, split.units, strict=True):
        assert unit == number_of[label.names]
    alone = measured_conditions(cells(("control", *(f"A:{dose}" for dose in range(1, 9)))))
    assert len(set(InnerSplit.of(alone, 0.6, 0).units)) == 5


def calls(work):
    """How many functions and generators are entered: more than time, it is the same every day."""
    found = 0

    def count(frame, event, argument):
        nonlocal found
        found += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


def test_work_grows_with_the_number_of_conditions_and_not_with_its_square():
    few, many = (
        [(Label.parse(f"P{i}" if i % 3 else f"P{i + 1}+P{i + 2}"), "") for i in range(n)] for n in (300, 1200)
    )

    def work(conditions):
        split = InnerSplit.of(conditions, 0.34, 0)
        assert len(split.deciding) > len(conditions) / 4
        assert leaving(conditions, [label for label, _ in conditions[::5]])

    work(few), work(many)  # labels are read once
    assert calls(lambda: work(many)) < 6 * calls(lambda: work(few))


def test_few_perturbations_decide_nothing():
    conditions = measured_conditions(cells(("control", "A", "B", "C")))
    assert InnerSplit.of(conditions, 0.5, 0) == InnerSplit(tuple(conditions), (), ())


def test_each_is_foretold_by_a_model_of_the_others():
    data = cells()
    conditions = measured_conditions(data)
    told = foretold(data, conditions, Additive, n_folds=len(conditions), seed=0)
    assert set(told.conditions) == set(conditions)
    for i, condition in enumerate(told.conditions):
        rest = [one for one in conditions if one not in leaving(conditions, [condition[0]])]
        alone = Foretold.by(Additive().fit(only(data, rest)), [condition])
        assert np.allclose(told.mean[i], alone.mean[0])


@pytest.mark.parametrize("changed", ["A", "C+D"])
def test_its_own_cells_do_not_matter(changed):
    told = [
        foretold(data, measured_conditions(data), Kriging, n_folds=3, seed=0)
        for data in (cells(), cells(changed=(changed,)))
    ]
    row = names_of(told[0]).index(changed)
    assert np.array_equal(told[0].mean[row], told[1].mean[row])
    assert np.array_equal(told[0].sd[row], told[1].sd[row])
    assert not np.array_equal(told[0].mean, told[1].mean)  # others learn from it


def test_what_is_not_asked_about_is_not_learned_from():
    conditions = [one for one in measured_conditions(cells()) if str(one[0]) != "E"]
    told = [foretold(cells(changed=c), conditions, Kriging, n_folds=3, seed=0) for c in ((), ("E",))]
    assert np.array_equal(told[0].mean, told[1].mean)


def test_one_perturbation_tells_nothing_of_others():
    data = cells(("control", "A"))
    with pytest.raises(
        DataError, match=r"^A is all that was measured beside control, in one context, .* at least 2$"
    ):
        foretold(data, measured_conditions(data), Kriging, n_folds=2, seed=0)


def names_of(told):
    return [str(label) for label, _ in told.conditions]
