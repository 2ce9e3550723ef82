"""Singles and pairs are searched where there are too many perturbations for everything."""

import pytest
import torch
from design_problems import LockAndKey, lock_problem, planned, shift_problem

from perturbrl.errors import ConfigurationError
from perturbrl.planning.exhaustive import ExhaustiveSearch
from perturbrl.planning.pairs import PairSearch

EFFECTS = torch.eye(6)


def test_the_best_pair_is_found_among_the_best_singles():
    shift = torch.tensor([1.0, 0.0, 0.9, 0.0, 0.4, 0.0])
    problem = shift_problem(EFFECTS, shift, max_perturbations=2)
    best = planned(PairSearch(3), problem)
    assert best[0].nonzero()[:, 0].tolist() == [0, 2]
    assert torch.equal(best, planned(ExhaustiveSearch(), problem))


def test_one_perturbation_where_only_one_is_allowed():
    problem = shift_problem(EFFECTS, torch.tensor([1.0, 0.0, 0.9, 0.0, 0.0, 0.0]), max_perturbations=1)
    assert planned(PairSearch(), problem)[0].nonzero()[:, 0].tolist() == [0]


def test_a_dose_is_held_as_long_as_it_helps():
    problem = shift_problem(EFFECTS, torch.tensor([2.0, 0.0, 1.0, 0.0, 0.0, 0.0]), horizon=3)
    schedule = planned(PairSearch(), problem)
    assert (schedule != 0).any(1).tolist() in ([True, True, False], [True, False, False])


def test_a_pair_neither_of_which_helps_alone_is_found_where_all_are_paired():
    schedule = planned(PairSearch(), lock_problem())
    assert isinstance(lock_problem().twin, LockAndKey)
    assert schedule.sum(0).gt(0).all()


def test_nonsense_is_refused():
    with pytest.raises(ConfigurationError, match="n_best at least 2"):
        PairSearch(1)
