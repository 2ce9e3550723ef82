import numpy as np
import pytest
import torch
from judged_designs import PAIR, Fixed, held_out, problem_of
from linear_twin import normal

from perturbrl.evaluation.hits import rank_hits, recall_of_components
from perturbrl.evaluation.simulation import simulate


def test_recall_of_the_targets_components():
    names = ("A", "B", "C", "D")
    doses = torch.tensor([[0.9, 0.1, -0.95, 0.0]]).expand(6, 1, 4)
    assert recall_of_components(names, doses, "A+C") == 1.0
    assert recall_of_components(names, doses, "A+B") == 0.5
    assert recall_of_components(names, doses, "C") == 1.0
    assert recall_of_components(names, doses, "B+D") == 0.0
    assert np.isnan(recall_of_components(names, doses, "A+X"))
    assert recall_of_components(names, torch.zeros(6, 1, 4), "A+B") == 0.0
    over_time = torch.tensor([[0.3, 0.0, 0.0, 0.0], [0.3, 0.4, 0.0, 0.0]]).expand(2, 2, 4)
    assert recall_of_components(names, over_time, "A") == 1.0


def test_hits_are_ranked_by_the_size_of_their_mean_dose():
    problem, (start, _) = problem_of(low=-1.0), held_out()
    hits = rank_hits(problem, simulate(problem, Fixed("policy", [0.3, -0.8, 0.0, 0.5, 0.0]), start))
    assert [(hit.perturbation, hit.direction) for hit in hits[:3]] == [
        ("G1", "down"),
        ("G3", "up"),
        ("G0", "up"),
    ]
    assert {hit.direction for hit in hits[3:]} == {"none"}
    assert hits[0].dose.estimate == pytest.approx(-0.8)
    assert [hit.share_of_cells for hit in hits] == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_hit_intervals_are_those_of_the_mean():
    class Half(Fixed):
        def action(self, observed, step):
            dose = super().action(observed, step).clone()
            dose[::2] = 0.0
            return dose

    problem = problem_of()
    hits = rank_hits(problem, simulate(problem, Half("policy", PAIR), normal(400, 4)))
    assert hits[0].dose.estimate == 0.5
    assert hits[0].share_of_cells == 0.5
    assert (hits[0].dose.high - hits[0].dose.low) / 2 == pytest.approx(1.96 * 0.5 / 20, rel=0.1)
