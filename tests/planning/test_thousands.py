"""Every planner among thousands: it plans within the limits or says why not, and holds no matrix of all pairs."""

from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from linear_twin import normal
from wide_twins import LATENT, Allocations, problem_on, wide_linear_twin, wide_response_twin

from perturbrl.evaluation import simulation
from perturbrl.evaluation.simulation import Simulation, simulate
from perturbrl.planning.best_sets import fitted_pairs
from perturbrl.planning.bound import highest_return
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.planners import certifying_planners, default_planners, search_planners
from perturbrl.planning.set_scores import SetScores
from perturbrl.planning.shortlist import among_few, promising, too_many

N = 5_000
EVERY = [type(planner) for planner in (*default_planners(), *search_planners(), *certifying_planners())]
KINDS = list(dict.fromkeys(EVERY))
TWINS = {
    "linear": lambda: wide_linear_twin(N),
    "response": lambda: wide_response_twin(N, combinations=((0, 1), (17, 4000))),
}


@dataclass(eq=False)
class Tried:
    """A planner, what it allocates, and what its design does to start cells if there is one."""

    planner: Planner
    problem: DesignProblem

    @cached_property
    def done(self) -> tuple[Simulation | None, int]:
        with Allocations() as made:
            able = self.planner.plan(self.problem)
            found = simulate(self.problem, self.planner, self.problem.twin.start_cells) if able else None
        return found, made.largest


@pytest.fixture(scope="module", params=TWINS)
def tried(request):
    problem = problem_on(TWINS[request.param](), normal(LATENT, seed=3))
    return {kind: Tried(kind(), problem) for kind in KINDS}


def problem_of(tried):
    return next(iter(tried.values())).problem


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_plans_within_the_limits_or_says_why_not(kind, tried):
    found, largest = tried[kind].done
    planner, is_linear = tried[kind].planner, problem_of(tried).linear_effects is not None
    assert largest <= N * N // 4  # a matrix of all pairs has four times as many numbers
    if found is None:
        silent = kind.__name__ in ("RandomActions", "GreedyActions") or not is_linear
        assert planner.reason or silent
        assert planner.name in {"lookahead_3", "mpc", "optimum", "nnls"} or silent
        return
    assert not planner.reason
    assert int((found.given != 0).any(1).sum(1).max()) <= 3
    assert float(found.returns.mean()) >= -1e-5 or planner.name in ("random", "nnls")


def test_the_searches_find_what_the_bound_allows(tried):
    done = {one.planner.name: one.done[0] for one in tried.values() if one.done[0] is not None}
    returns = {name: float(own.returns.mean()) for name, own in done.items()}
    assert max(returns.values()) == returns["beam"]
    assert (
        min(returns["exhaustive"], returns["greedy"], returns["cem"]) > returns["nearest_perturbation"] - 1e-6
    )
    assert returns["beam"] <= highest_return(problem_of(tried)) + 1e-4


def test_schedules_are_simulated_as_on_the_whole_twin(monkeypatch, tried):
    planner = next(one.planner for one in tried.values() if one.planner.name == "beam")
    problem = problem_of(tried)
    assert planner.plan(problem)
    start = problem.twin.start_cells[:7]
    few = simulate(problem, planner, start)
    monkeypatch.setattr(simulation, "_WIDE", N)
    monkeypatch.setattr(simulation, "_NUMBERS", 3 * N)  # three cells at a time
    whole = simulate(problem, planner, start)
    for name in ("start", "final", "path", "returns", "doses"):
        torch.testing.assert_close(getattr(few, name), getattr(whole, name), atol=1e-5, rtol=1e-5)
    assert torch.equal(few.columns, whole.columns)


def test_the_most_promising_hold_the_best_pair(tried):
    problem = problem_of(tried)
    few = promising(problem, 120)
    assert len(few) <= 120
    scores = SetScores.of(problem)
    best = fitted_pairs(scores, 500).with_fitted_doses(scores).columns[0]
    assert set(best.tolist()) <= set(few.tolist())


def test_what_a_twin_does_not_tell_is_searched_whole_or_not_at_all(monkeypatch):
    twin = wide_linear_twin(30)
    problem = problem_on(twin, normal(LATENT))
    monkeypatch.setattr(type(twin), "part_effects", lambda self, n_parts: None)
    assert torch.equal(among_few(problem, 10, lambda found: found.no_dose()), problem.no_dose())
    monkeypatch.setattr("perturbrl.planning.shortlist.MOST_SIMULATED", 20)
    assert among_few(problem, 10, lambda found: found.no_dose()) is None
    assert "30 perturbations" in too_many(problem)
    assert "GeneEffectTwin does not tell" in too_many(problem)
