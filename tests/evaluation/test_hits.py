import pytest
from judged_designs import PAIR, Fixed, held_out, problem_of
from linear_twin import normal

from perturbrl.evaluation.hits import rank_hits
from perturbrl.evaluation.simulation import simulate


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
    assert {hit.evidence for hit in hits} == {""}
    problem.twin.evidence = ("measured", "prior", "measured", "prior", "none")
    told = rank_hits(problem, simulate(problem, Fixed("policy", [0.3, -0.8, 0.0, 0.5, 0.0]), start))
    assert [(hit.perturbation, hit.evidence) for hit in told[:2]] == [("G1", "prior"), ("G3", "prior")]


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
