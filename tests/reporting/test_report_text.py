import re
from dataclasses import replace

import pytest
import torch
from judged_designs import NOTHING, PAIR, Fixed, evaluate, held_out, problem_of
from report_page import good_design

from perturbrl.evaluation.design import UnseenCells, evaluate_designs
from perturbrl.evaluation.hits import Hit
from perturbrl.evaluation.statistics import Interval
from perturbrl.planning.beam import BeamSearch
from perturbrl.planning.planners import default_planners
from perturbrl.reporting.report_text import (
    AS_MEASURED,
    answer_sentence,
    caution,
    certificate_sentences,
    dosed,
    number,
    percent,
)


@pytest.fixture(scope="module")
def good():
    return good_design()


def test_a_good_policy_and_its_equals_are_named_together(good):
    answer = answer_sentence(good, good.hits)
    assert re.match(
        r"G[01] up and G[01] up bring \d+ % of cells into G0\+G1; [\w -]+: \d+ %; doing nothing: \d+ %; ",
        answer,
    )
    assert re.search(r"cannot be told apart from .*non-negative least squares", answer)
    assert caution(good) == ()


def test_a_policy_that_wins_alone():
    evaluation = evaluate([Fixed("policy", PAIR), Fixed("no_op", NOTHING)])
    assert answer_sentence(evaluation, evaluation.hits).endswith(
        "; no other design ends as near to the target."
    )


def test_a_baseline_that_wins_is_named_with_its_distance():
    evaluation = evaluate(
        [Fixed("policy", [0.5, 0.5, 0, 0, 0]), Fixed("nnls", PAIR), Fixed("no_op", NOTHING)]
    )
    answer = answer_sentence(evaluation, evaluation.hits)
    assert re.search(
        r"; non-negative least squares ends nearer .* the policy \(distance [\d.]+ against [\d.]+\)\.$",
        answer,
    )


def test_a_policy_no_better_than_nothing_is_told_so():
    evaluation = evaluate([Fixed("policy", [0, 0, 0.06, 0, 0]), Fixed("no_op", NOTHING)])
    nearest = replace(
        evaluation, simulations=dict.fromkeys(("policy", "no_op"), evaluation.simulations["no_op"])
    )
    assert "the policy ends no nearer to the target than doing nothing" in answer_sentence(
        nearest, nearest.hits
    )


def test_many_baselines_do_not_hide_that_the_policy_ends_nearer_than_doing_nothing():
    rivals = [Fixed(f"rival_{i}", PAIR) for i in range(12)]
    planners = [Fixed("policy", PAIR), *rivals, Fixed("no_op", NOTHING)]
    noisy = UnseenCells(*held_out(spread=6.0))
    evaluation = evaluate_designs(problem_of(spread=6.0), planners, noisy, "G0+G1")
    assert "no_op" in evaluation.ties
    assert evaluation.nearness_p_value("policy", "no_op") <= 0.05
    answer = answer_sentence(evaluation, evaluation.hits)
    equals = answer.split("cannot be told apart from ")[1]
    assert "rival" in equals
    assert "nothing" not in equals


def test_a_policy_that_does_nothing_is_not_praised():
    evaluation = evaluate([Fixed("policy", NOTHING), Fixed("nnls", PAIR), Fixed("no_op", NOTHING)])
    answer = answer_sentence(evaluation, evaluation.hits)
    assert answer.startswith("The policy doses nothing in most cells and brings ")
    assert "non-negative least squares ends nearer" in answer


def test_where_nothing_is_detectable_doing_nothing_is_recommended():
    nowhere = torch.full((4,), 1e-3)
    evaluation = evaluate([Fixed("policy", PAIR), *default_planners()], shift=nowhere)
    answer = answer_sentence(evaluation, evaluation.hits)
    assert answer.startswith("No effect is detectable, so doing nothing is the right design")
    assert "G0 up" not in answer


def test_a_search_that_ends_nearer_is_recommended():
    evaluation = evaluate([Fixed("policy", [1.0, 0, 0, 0, 0]), BeamSearch(), Fixed("no_op", NOTHING)])
    said, *_ = certificate_sentences(evaluation)
    assert re.fullmatch(
        r"On the digital twin beam search \(G[01].*\) ends nearer: \d+ % of the way less prices, against the "
        r"policy's −?\d+ %\. The policy earns nothing here; take the other design\.",
        said,
    )


def test_a_policy_that_no_search_beats_is_told_so(good):
    said, *_ = certificate_sentences(good)
    assert re.fullmatch(
        r"On the digital twin no search found a better design: the policy is worth \d+ % of the way less prices, "
        r"[\w -]+ \d+ %\.",
        said,
    )


def test_a_ceiling_is_told_where_there_is_one(good):
    low, none = (
        replace(good, certificate=replace(good.certificate, highest=top)) for top in (0.8, float("nan"))
    )
    assert certificate_sentences(low)[1] == "No design within these limits can be worth more than 80 % there."
    assert len(certificate_sentences(none)) == 1


def test_nothing_is_certified_where_nothing_was_searched_or_is_to_be_found():
    assert certificate_sentences(evaluate([Fixed("policy", PAIR), Fixed("no_op", NOTHING)])) == ()
    nowhere = evaluate([Fixed("policy", PAIR), *default_planners()], shift=torch.full((4,), 1e-3))
    assert certificate_sentences(nowhere) == ()


def test_more_than_three_hits_are_counted():
    evaluation = evaluate([Fixed("policy", [1.0, 0.9, 0.8, 0.7, 0.6]), *default_planners()])
    assert "G0 up, G1 up, G2 up and 2 more bring" in answer_sentence(evaluation, evaluation.hits)


def test_a_target_out_of_reach_is_a_warning():
    problem = problem_of(shift=torch.full((4,), 40.0))
    evaluation = evaluate([Fixed("policy", PAIR), *default_planners()], problem, torch.full((4,), 40.0))
    assert "leaves" in caution(evaluation)[0]


def test_too_few_cells_to_test_are_a_warning(good):
    assert "Fewer than 4 cells" in caution(replace(good, detectability=None))[0]


def test_numbers_as_a_person_reads_them():
    assert [number(v) for v in (0.0, 1e-9, -1e-9, 0.12345, float("nan"))] == ["0", "≈ 0", "≈ 0", "0.123", "–"]
    assert [percent(v) for v in (0.123, 0.0, 0.004, float("nan"))] == ["12 %", "0 %", "< 1 %", "–"]
    assert [percent(v) for v in (-0.2, -0.001)] == ["−20 %", "0 %"]


def test_the_rival_named_is_the_nearest_baseline(good):
    rivals = [row for row in good.rows if row.name not in ("policy", "no_op")]
    nearest = min(rivals, key=lambda row: row.observed_distance)
    words = {
        "nnls": "non-negative least squares",
        "optimum": "closed-form optimum",
        "greedy": "greedy one-step search",
    }
    said = f"; {words[nearest.name]}: {percent(nearest.success.estimate)}; doing nothing: "
    assert said in answer_sentence(good, good.hits)


def test_a_direction_that_is_not_known_is_not_claimed():
    hit = Hit("IFNB", Interval(1.0, 1.0, 1.0), AS_MEASURED, 1.0)
    rare = replace(hit, perturbation="TNF", share_of_cells=0.2)
    assert dosed([hit, replace(hit, perturbation="IL6", direction="down"), rare]) == ["IFNB", "IL6 down"]
