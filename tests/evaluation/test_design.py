import json
from dataclasses import replace

import pytest
import torch
from judged_designs import EFFECTS, NOTHING, PAIR, Fixed, evaluate, held_out, problem_of
from linear_twin import linear_twin

from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.design import UnseenCells, evaluate_designs
from perturbrl.evaluation.simulation import PolicyDesign, simulate
from perturbrl.planning.planners import default_planners
from perturbrl.rl.policies import categorical_actor, gaussian_actor


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
    evaluation = evaluate_designs(
        problem, (PolicyDesign(actor), *default_planners()), UnseenCells(start, target), "G0+G1"
    )
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


def test_the_gap_counts_from_the_best_design_in_shares_of_the_way():
    shift = EFFECTS[0] + 2.0 * EFFECTS[1]  # beyond the box
    evaluation = evaluate([Fixed("policy", [0.5, 0.5, 0, 0, 0]), *default_planners()], shift=shift)
    problem = problem_of(shift=shift)
    way = problem.shift
    left = [
        float((way - dose @ EFFECTS).norm())
        for dose in (torch.tensor([0.5, 0.5, 0, 0, 0]), best_dose(problem))
    ]
    gap = (left[0] - left[1]) / float(way.norm())
    assert evaluation.row("policy").gap == pytest.approx(gap, abs=1e-3)
    assert evaluation.row("optimum").gap == pytest.approx(0.0, abs=1e-3)
    assert evaluation.certificate.best == "optimum"
    assert evaluation.certificate.gap.estimate == pytest.approx(gap, abs=1e-3)
    assert all(row.gap >= 0 for row in evaluation.rows)


def best_dose(problem):
    return torch.as_tensor(problem.optimal_dose, dtype=torch.float32)


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


def test_all_cells_that_nothing_was_fitted_on_say_whether_anything_differs():
    """Six cells on either side cannot tell so small a difference, and more of the same can."""
    start, target = held_out(shift=torch.full((4,), 0.25))
    few = UnseenCells(start[:6], target[:6])
    assert not few.detectability().detectable
    more = replace(few, reference=start[6:], goal=target[6:])
    assert more.detectability().detectable
    assert UnseenCells(start[:3], target).detectability() is None
    assert UnseenCells(start[:3], target, reference=start[3:6]).detectability() is not None


def test_training_cells_do_not_say_whether_anything_differs():
    """They were fitted on; here nothing is to be found among unseen cells, and they lie elsewhere."""
    problem = problem_of()
    problem.twin.start_from(problem.twin.start_cells + 5.0)
    start, _ = held_out()
    cells = UnseenCells(start[::2], start[1::2])
    found = evaluate_designs(problem, [Fixed("policy", NOTHING)], cells, "G0+G1").detectability
    assert not found.detectable


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
    first = evaluate_designs(problem, planners, UnseenCells(start, target), "G0+G1")
    other = evaluate_designs(problem, planners, UnseenCells(start, target + 50.0), "G0+G1")
    for row, changed in zip(first.rows, other.rows, strict=True):
        assert (row.dose, row.gap, row.training_distance) == pytest.approx(
            (changed.dose, changed.gap, changed.training_distance), nan_ok=True
        )
        assert torch.equal(first.simulations[row.name].doses, other.simulations[row.name].doses)


def test_designs_are_tried_on_twins_that_they_were_not_made_on():
    problem, (start, target) = problem_of(), held_out()
    weaker = replace(problem, twin=linear_twin(0.1 * EFFECTS, problem.twin.start_cells))
    cells, planners = UnseenCells(start, target), [Fixed("policy", PAIR), Fixed("no_op", NOTHING)]
    judged = evaluate_designs(problem, planners, cells, "G0+G1", judges={"weaker": weaker})
    own, plain = judged.arrived["policy"], evaluate_designs(problem, planners, cells, "G0+G1")
    assert own["made on"] == plain.row("policy").success
    assert own["weaker"] == judged.row("policy").success
    assert own["made on"].estimate > 0.9 > 0.5 > own["weaker"].estimate
    assert not plain.arrived
    assert judged.as_dict()["cells_in_target"]["policy"]["weaker"]["estimate"] == own["weaker"].estimate
