"""A twin of some of the perturbations does what the whole one does with these, and parts add up to what it does."""

import pytest
import torch
from response_screen import response_twin
from wide_twins import LATENT, started, wide_linear_twin, wide_response_twin

from perturbrl.twins.gene_effect import GeneEffectTwin
from perturbrl.twins.macro import MacroTwin
from perturbrl.twins.perturbations import PerturbationSpace

KEPT = torch.tensor([7, 0, 4, 1])


def of_two_doses():
    twin = GeneEffectTwin()
    twin.latent_dim = LATENT
    effects = [torch.randn(1 + i % 2, LATENT, generator=torch.Generator().manual_seed(i)) for i in range(9)]
    twin.dose_response.learn([[0.3, 1.0][-len(own) :] for own in effects], effects)
    twin.set_buffers(effects=torch.stack([own[-1] for own in effects]))
    twin.perturbations = PerturbationSpace([f"G{i}" for i in range(9)])
    twin.start_from(torch.zeros(3, LATENT))
    return twin


TWINS = {
    "linear": lambda: wide_linear_twin(9),
    "linear of several doses": of_two_doses,
    "response": lambda: wide_response_twin(9, combinations=((0, 1), (4, 7), (0, 4, 7), (2, 3))),
    "response of several doses": lambda: wide_response_twin(9, several_doses=True),
    "response of several members": lambda: wide_response_twin(9, n_members=3),
    "response of several contexts": lambda: wide_response_twin(9, n_contexts=2),
    "response that forgets": lambda: started(wide_response_twin(9), remembered=0),
}


def moved(twin, doses):
    """Places after each of the doses in turn."""
    state, found = twin.start_cells[: len(doses[0])], []
    member = torch.arange(len(state)) % twin.n_members
    for dose in doses:
        state = twin.next_state(state, dose, twin.draw_noise(len(state)), member)
        found.append(twin.place(state))
    return torch.stack(found)


@pytest.mark.parametrize("name", TWINS)
def test_a_narrowed_twin_does_the_same(name):
    twin = TWINS[name]()
    small = twin.narrowed(KEPT)
    assert small.perturbations.names == tuple(twin.perturbations.names[i] for i in KEPT)
    assert list(small.evidence) == [twin.evidence[i] for i in KEPT if twin.evidence]
    doses = torch.rand(2, 3, len(KEPT), generator=torch.Generator().manual_seed(3))
    doses[:, 0] = torch.tensor([0.0, 1.0, 0.0, 1.0])  # measured together in some
    wide = torch.zeros(2, 3, 9).index_copy(2, KEPT, doses)
    torch.testing.assert_close(moved(small, doses), moved(twin, wide), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", TWINS)
def test_the_whole_twin_stays_as_it_is(name):
    twin = TWINS[name]()
    before = {key: value.clone() for key, value in twin.state_dict().items()}
    twin.narrowed(KEPT)
    after = twin.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert twin.perturbations.n_perturbations == 9


def test_cells_that_have_received_something_keep_the_whole_twin():
    twin = wide_response_twin(9)
    dose = torch.zeros(len(twin.start_cells), 9).index_fill(1, torch.tensor([8]), 1.0)
    twin.start_from(twin.transition(twin.start_cells, dose, torch.empty(len(dose), 0)))
    assert twin.narrowed(KEPT) is twin


@pytest.mark.parametrize(
    "name", ["linear", "linear of several doses", "response", "response of several doses"]
)
@pytest.mark.parametrize("columns", [[3], [3, 5], [0, 1], [2, 5, 8], [0, 4, 7]])
def test_parts_add_up_to_what_the_twin_does_at_full_doses(name, columns):
    twin = TWINS[name]()
    told = twin.part_effects(len(columns))
    beside = [
        told.corrections[i] for i, own in enumerate(told.combinations.tolist()) if _set(own) == set(columns)
    ]
    expected = told.shifts[columns].sum(0) + sum(beside)
    dose = torch.zeros(3, 9).index_fill(1, torch.tensor(columns), 1.0)
    shift = moved(twin, dose[None])[0] - twin.place(twin.start_cells[:3])
    torch.testing.assert_close(shift, expected.expand(3, -1), atol=2e-6, rtol=1e-5)
    assert told.exact == ("several" not in name)
    assert not told.variances.any()


def _set(columns):
    return {column for column in columns if column >= 0}


def test_parts_of_several_members_and_contexts_are_their_mean():
    twin = wide_response_twin(9, n_members=2, n_contexts=2)
    told, n = twin.part_effects(1), 60
    dose = torch.zeros(n, 9)
    dose[:, 5] = 1.0
    start = twin.start_cells[:n]
    ends = [
        twin.place(twin.transition(start, dose, twin.draw_noise(n), torch.full((n,), member)))
        for member in (0, 1)
    ]
    shift = torch.stack(ends) - twin.place(start)
    torch.testing.assert_close(told.shifts[5], shift.mean((0, 1)), atol=1e-5, rtol=1e-4)
    assert float(told.variances[5]) == pytest.approx(
        float(shift.var(0, correction=0).sum(1).mean()), rel=1e-3
    )
    assert not told.exact


def test_members_that_judge_are_no_part_of_what_is_expected():
    twin = wide_response_twin(9, n_members=3)
    twin.judging_members = 1
    expected = twin.shifts.of_parts(1)[0] + twin.shifts.errors[:2, 0].mean(0)
    torch.testing.assert_close(twin.part_effects(1).shifts, expected)
    judged = twin.shifts.of_parts(1)[0] + twin.shifts.errors[2, 0]
    torch.testing.assert_close(twin.in_judging_members().part_effects(1).shifts, judged)


def test_a_fitted_twin_tells_its_parts():
    twin = response_twin()
    told = twin.part_effects(2)
    measured = [tuple(c for c in own if c >= 0) for own in told.combinations.tolist()]
    assert measured
    for pair, beside in zip(measured, told.corrections, strict=True):
        dose = torch.zeros(1, twin.perturbations.n_perturbations).index_fill(1, torch.tensor(pair), 1.0)
        found = twin.shift(twin.place(twin.start_cells[:1]), dose)[0]
        torch.testing.assert_close(found, told.shifts[list(pair)].sum(0) + beside, atol=1e-5, rtol=1e-4)


def test_twins_that_are_no_sum_of_parts_tell_none():
    assert MacroTwin.part_effects(object.__new__(MacroTwin), 1) is None
