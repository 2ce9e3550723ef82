import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_twin import normal

from perturbrl.errors import ConfigurationError
from perturbrl.twins.perturbations import PerturbationSpace

NAMES = ("A", "B", "C", "D")


def unused(cells, n=4):
    return torch.zeros(cells, n, dtype=torch.bool)


def test_doses_are_cut_to_the_box_and_small_ones_dropped():
    space = PerturbationSpace(NAMES, -1.0, 2.0, min_dose=0.1)
    dose, used = space.project(torch.tensor([[-5.0, 0.3, 0.31, 9.0]]), unused(1))
    assert torch.allclose(dose, torch.tensor([[-1.0, 0.0, 0.31, 2.0]]))
    assert used.tolist() == [[True, False, True, True]]


def test_a_dose_of_exactly_the_least_size_is_not_given():
    space = PerturbationSpace(("A",), min_dose=0.25)
    assert space.project(torch.tensor([[0.25]]), unused(1, 1))[0].item() == 0.0
    assert space.project(torch.tensor([[0.2501]]), unused(1, 1))[0].item() > 0


def test_the_strongest_are_kept_where_their_number_is_limited():
    space = PerturbationSpace(NAMES, max_perturbations=2)
    dose, used = space.project(torch.tensor([[0.5, 0.9, 0.7, 0.1]]), unused(1))
    assert dose.tolist() == [[0.0, pytest.approx(0.9), pytest.approx(0.7), 0.0]]
    assert used.sum() == 2


def test_what_was_used_before_keeps_its_place():
    space = PerturbationSpace(NAMES, max_perturbations=2)
    used = torch.tensor([[True, False, False, False]])
    dose, now = space.project(torch.tensor([[0.1, 0.9, 0.7, 0.0]]), used)
    assert dose.tolist() == [[pytest.approx(0.1), pytest.approx(0.9), 0.0, 0.0]]
    dose, now = space.project(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), now)
    assert dose.abs().sum() == 0
    assert now.tolist() == [[True, True, False, False]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(0.0, 0.9))
def test_limits_hold_over_any_episode(seed, limit, min_dose):
    space = PerturbationSpace(
        NAMES, [-1.0, 0.0, -2.0, -0.5], [1.0, 3.0, 0.5, 0.0], min_dose=min_dose, max_perturbations=limit
    )
    used, given_before = unused(5), unused(5)
    for step in range(4):
        action = 3 * normal(5, 4, seed=seed + step)
        dose, used = space.project(action, used)
        assert ((dose >= space.low) & (dose <= space.high)).all()
        share = dose.abs() / (space.high - space.low)
        assert ((dose == 0) | (share > min_dose)).all()
        given_before |= dose != 0
        assert torch.equal(given_before, used)
        assert (used.sum(1) <= limit).all()
        again, _ = space.project(dose, used)
        assert torch.equal(again, dose)


def test_not_a_number_is_not_taken_for_nothing():
    dose, _ = PerturbationSpace(("A", "B")).project(torch.tensor([[float("nan"), 1.0]]), unused(1, 2))
    assert dose[0].isnan().tolist() == [True, False]


def test_integer_actions_one_by_one():
    space = PerturbationSpace(("A", "B"), [-1.0, -0.5], [1.0, 2.0], discrete=True)
    assert space.n_actions == 5
    dose, _ = space.project(torch.arange(5), unused(5, 2))
    assert dose.tolist() == [[0, 0], [1, 0], [0, 2], [-1, 0], [0, -0.5]]
    assert space.action_spec(3).is_in(torch.tensor([0, 4, 2]))
    assert not space.action_spec(1).is_in(torch.tensor([5]))
    assert space.project(space.no_action().expand(2), unused(2, 2))[0].abs().sum() == 0


def test_a_menu_offers_equal_steps_up_to_both_bounds_and_none_that_counts_as_unused() -> None:
    space = PerturbationSpace(["a", "b"], [-1.0, 0.0], [1.0, 0.5], min_dose=0.15, max_perturbations=1)
    menu = space.menu(4)
    assert menu.discrete
    assert menu.levels == (0.25, 0.5, 0.75, 1.0)  # of b, whose range is shorter, a quarter is given, too
    doses, _ = menu.project(torch.arange(menu.n_actions), torch.zeros(menu.n_actions, 2, dtype=torch.bool))
    ups = [
        [0.0, 0.0],
        [0.0, 0.0],
        [0.0, 0.125],
        [0.5, 0.0],
        [0.0, 0.25],
        [0.75, 0.0],
        [0.0, 0.375],
        [1.0, 0.0],
    ]
    downs = [[0.0, 0.0], [-0.5, 0.0], [-0.75, 0.0], [-1.0, 0.0]]
    assert doses.tolist() == [*ups, [0.0, 0.5], *(x for down in downs for x in (down, [0.0, 0.0]))]
    few = space.restrict(["b"])
    assert few.menu(2).columns.tolist() == [1]
    assert PerturbationSpace(["a"], min_dose=0.3).menu(4).levels == (0.5, 0.75, 1.0)


def test_choices_are_no_menu() -> None:
    with pytest.raises(ConfigurationError, match="choices already"):
        PerturbationSpace(["a"], discrete=True).menu(2)


def test_without_negative_doses_there_are_fewer_choices():
    space = PerturbationSpace(("A", "B"), discrete=True)
    assert space.n_actions == 3
    assert space.project(torch.tensor([2]), unused(1, 2))[0].tolist() == [[0, 1]]


def test_continuous_actions_have_the_box_as_spec():
    space = PerturbationSpace(("A", "B"), -1.0, [1.0, 2.0])
    spec = space.action_spec(3)
    assert spec.shape == (3, 2)
    assert spec.is_in(torch.tensor([[1.0, 2.0]] * 3))
    assert not spec.is_in(torch.tensor([[1.0, 2.1]] * 3))
    assert space.no_action().tolist() == [0, 0]


def test_restricting_keeps_doses_in_the_twins_columns():
    space = PerturbationSpace(NAMES, [-1, -2, -3, -4], [1, 2, 3, 4], min_dose=0.2, max_perturbations=3)
    small = space.restrict(["D", "B"])
    assert small.high.tolist() == [4, 2]
    assert (small.min_dose, small.max_perturbations) == (0.2, 3)
    assert small.expand(torch.tensor([[7.0, 5.0]])).tolist() == [[0, 5, 0, 7]]
    smaller = small.restrict(["B"], min_dose=0.0, max_perturbations=1)
    assert smaller.expand(torch.tensor([[5.0]])).tolist() == [[0, 5, 0, 0]]
    assert (smaller.min_dose, smaller.max_perturbations) == (0.0, 1)


def test_another_order_is_undone():
    space = PerturbationSpace(NAMES).restrict(["C", "A", "D", "B"])
    assert space.expand(torch.tensor([[3.0, 1.0, 4.0, 2.0]])).tolist() == [[1, 2, 3, 4]]


def test_restricting_to_nothing_new_changes_nothing():
    dose = torch.rand(3, 4)
    assert torch.equal(PerturbationSpace(NAMES).restrict().expand(dose), dose)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ()}, "allow at least one"),
        ({"names": ("A", "B", "A")}, r"\['A'\] are listed twice"),
        ({"low": 0.5}, "leaves out 0"),
        ({"high": 0.0}, "empty"),
        ({"low": [0.0, 0.0]}, "low has 2 doses for 4 perturbations"),
        ({"max_perturbations": 0}, "max_perturbations is 0"),
        ({"min_dose": 1.0}, "min_dose is 1"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        PerturbationSpace(**{"names": NAMES} | options)


def test_unknown_perturbations_are_named():
    with pytest.raises(
        ConfigurationError, match=r"\['X'\] are not among the 4 available ones \(A, B, C and D\)"
    ):
        PerturbationSpace(NAMES).restrict(["A", "X"])
    with pytest.raises(ConfigurationError, match="allow at least one"):
        PerturbationSpace(NAMES).restrict([])


def test_thousands_of_perturbations_are_quick():
    space = PerturbationSpace([f"G{i}" for i in range(20_000)])
    assert space.restrict(space.names[::2]).n_perturbations == 10_000
