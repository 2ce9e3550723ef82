import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from judged_designs import EFFECTS, NOTHING, PAIR, Fixed, evaluate, held_out, problem_of
from linear_twin import linear_twin, normal

from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.design import (
    PolicyDesign,
    evaluate_designs,
    rank_hits,
    recall_of_components,
    simulate,
)
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.planning.planners import default_planners
from perturbrl.rl.policies import categorical_actor, gaussian_actor


def test_a_simulated_design_moves_cells_by_its_doses():
    start, _ = held_out()
    result = simulate(problem_of(horizon=2), Fixed("pair", PAIR), start)
    assert result.path.shape == (50, 3, 4)
    assert torch.allclose(result.final, start + EFFECTS[0] + EFFECTS[1], atol=1e-5)
    assert torch.allclose(result.path[:, 1], result.final)
    assert torch.equal(result.doses[:, 0], torch.tensor(PAIR).expand(50, -1))
    assert not result.doses[:, 1].any()
    assert result.success.float().mean() > 0.9


def test_cells_relax_before_they_are_judged():
    class Decaying(type(linear_twin(EFFECTS))):
        relaxation_steps = 3

        def transition(self, state, dose, noise):
            return 0.5 * super().transition(state, dose, noise)

    problem = problem_of()
    problem.twin.__class__ = Decaying
    result = simulate(problem, Fixed("none", NOTHING), torch.ones(3, 4))
    assert torch.allclose(result.path[:, -1], torch.full((3, 4), 0.5))
    assert torch.allclose(result.final, torch.full((3, 4), 0.5**4))


def test_a_cell_whose_episode_ended_early_is_left_alone():
    class UntilFar(ReachCellState):
        def is_terminal(self, state, goal):
            return state[:, 0] > 100

    class Always(Fixed):
        def action(self, observed, step):
            return self.dose.expand(observed.batch_size[0], -1)

    start = torch.zeros(2, 4)
    start[1, 0] = 200.0
    result = simulate(problem_of(horizon=3, task=UntilFar()), Always("pair", PAIR), start)
    assert (result.doses[0] != 0).any(1).sum() == 3
    assert (result.doses[1] != 0).any(1).sum() == 1
    assert torch.equal(result.path[1, 1], result.path[1, 3])
    assert torch.allclose(result.final[0], 3 * (EFFECTS[0] + EFFECTS[1]), atol=1e-4)


def test_simulating_twice_gives_the_same():
    problem, (start, _) = problem_of(noise_scale=0.3), held_out()
    first, again = (simulate(problem, Fixed("pair", PAIR), start) for _ in range(2))
    assert torch.equal(first.final, again.final)


@pytest.mark.parametrize("discrete", [False, True])
def test_a_policy_acts_by_its_best_action(discrete):
    problem = problem_of(discrete=discrete)
    torch.manual_seed(0)
    actor = (
        categorical_actor(9, 6)
        if discrete
        else gaussian_actor(9, torch.zeros(5), torch.ones(5), init_log_std=2.0)
    )
    start, target = held_out()
    first, again = (simulate(problem, PolicyDesign(actor), start) for _ in range(2))
    assert torch.equal(first.doses, again.doses)
    evaluation = evaluate_designs(problem, (PolicyDesign(actor), *default_planners()), start, target, "G0+G1")
    assert {"policy", "no_op"} <= {row.name for row in evaluation.rows}


def test_the_row_of_a_perfect_design():
    row = evaluate([Fixed("policy", PAIR)]).row("policy")
    assert row.observed_distance < 0.2
    assert row.distance.low == 0
    assert row.relative_energy_distance == pytest.approx(1.0, abs=0.3)
    assert row.success.estimate > 0.9
    assert (row.dose, row.n_perturbations, row.recall) == (2.0, 2.0, 1.0)


def test_doing_nothing_scores_best_only_against_the_start():
    rows = {row.name: row for row in evaluate([Fixed("policy", PAIR), *default_planners()]).rows}
    assert rows["no_op"].displacement_from_start == 1.0
    assert rows["policy"].displacement_from_start < 0.5
    assert rows["no_op"].recall == rows["no_op"].dose == 0.0
    assert rows["no_op"].observed_distance > 5 * rows["policy"].observed_distance


def test_regret_is_relative_to_the_closed_form():
    shift = EFFECTS[0] + 2.0 * EFFECTS[1]  # beyond the box
    evaluation = evaluate([Fixed("policy", [0.5, 0.5, 0, 0, 0]), *default_planners()], shift=shift)
    problem = problem_of(shift=shift)
    reached = problem.twin.start_cells + 0.5 * (EFFECTS[0] + EFFECTS[1])
    distance = float((reached.mean(0) - problem.goal_cells.mean(0)).norm())
    assert evaluation.row("policy").training_distance == pytest.approx(distance, rel=1e-4)
    assert evaluation.row("policy").regret == pytest.approx(distance / problem.optimal_distance - 1, rel=1e-3)
    assert all(row.regret > -1e-4 for row in evaluation.rows)


def test_an_optimum_that_is_too_small_to_be_given_does_not_lower_the_bar():
    """Regret counts from the bound itself, not from what is left of it after small doses are dropped."""
    problem = problem_of(shift=0.5 * EFFECTS[0] + 0.3 * EFFECTS[2], min_dose=0.4)
    problem = replace(problem, space=problem.space.restrict(["G0", "G2"]))
    evaluation = evaluate([Fixed("policy", [0.5, 0.0]), *default_planners()], problem)
    assert evaluation.row("optimum").regret > 0.1


def test_there_is_no_regret_where_the_optimum_arrives():
    effects = torch.cat((torch.eye(4), -torch.eye(4)))
    twin = linear_twin(effects, start=0.1 * normal(30, 4))
    task, goal = ReachCellState(), 0.1 * normal(30, 4) + 0.3
    task.aim(twin.start_cells, goal)
    problem = DesignProblem(twin, task, twin.perturbations, 1, goal)
    evaluation = evaluate_designs(problem, default_planners(), twin.start_cells, goal, "other")
    assert all(np.isnan(row.regret) for row in evaluation.rows)


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


def test_a_baseline_that_wins_is_the_winner():
    evaluation = evaluate([Fixed("policy", [0.0, 0.0, 1.0, 0.0, 0.0]), *default_planners()])
    assert evaluation.winner.name in {"nnls", "optimum", "greedy"}
    assert "policy" not in (evaluation.winner.name, *evaluation.ties)
    assert "no_op" not in evaluation.ties


def test_designs_that_cannot_be_told_apart_are_ties():
    evaluation = evaluate([Fixed("policy", PAIR), Fixed("twin of it", PAIR), Fixed("idle", NOTHING)])
    assert {evaluation.winner.name, *evaluation.ties} == {"policy", "twin of it"}


def test_where_nothing_differs_doing_nothing_wins():
    nowhere = torch.full((4,), 1e-3)
    evaluation = evaluate([Fixed("policy", [0.1, 0, 0, 0, 0]), *default_planners()], shift=nowhere)
    assert not evaluation.detectability.detectable
    assert evaluation.winner.name == "no_op"


def test_the_whole_is_plain_and_complete():
    found = evaluate([Fixed("policy", PAIR), *default_planners()]).as_dict()
    assert found["detectability"]["detectable"] is True
    assert found["designs"]["policy"]["distance"]["low"] == 0
    json.dumps(found)


def test_a_design_that_was_not_judged_is_named():
    with pytest.raises(ConfigurationError, match="no design 'nnls' was judged; choose one of policy"):
        evaluate([Fixed("policy", PAIR)]).row("nnls")


def test_held_out_cells_change_no_design():
    """Leak test: planners and hits see training cells only."""
    problem, planners = problem_of(), [Fixed("policy", PAIR), *default_planners()]
    start, target = held_out()
    first = evaluate_designs(problem, planners, start, target, "G0+G1")
    other = evaluate_designs(problem, planners, start, target + 50.0, "G0+G1")
    for row, changed in zip(first.rows, other.rows, strict=True):
        assert (row.dose, row.regret, row.training_distance) == pytest.approx(
            (changed.dose, changed.regret, changed.training_distance), nan_ok=True
        )
        assert torch.equal(first.simulations[row.name].doses, other.simulations[row.name].doses)
