"""What a page says of a design's question: what may be dosed, what a dose is, and what effects rest on."""

from copy import copy
from dataclasses import replace

import torch
from design_problems import shift_problem
from landscape_run import trained_on_landscape

from perturbrl.reporting.about_designs import question_of
from perturbrl.reporting.callback import judged_of


def asked() -> dict[str, str]:
    judged = judged_of(trained_on_landscape())
    few = judged.problem.space.restrict(judged.problem.space.names[:3])
    return dict(question_of(replace(judged, problem=replace(judged.problem, space=few))))


def test_a_few_of_many_perturbations_are_said_to_be_so() -> None:
    assert asked()["may be dosed"] == "3 of the 20 perturbations that the twin knows, at most 2 in one cell"


def test_a_dose_of_what_was_inferred_is_a_standard_deviation_of_expression() -> None:
    said = asked()
    assert said["dose per step"].startswith(
        "-1 to 1 (1 = up by one standard deviation of the gene's expression"
    )
    assert said["effects rest on"] == "association (3)"
    module = trained_on_landscape()
    problem = judged_of(module).problem
    told = replace(judged_of(module), problem=replace(problem, twin=_knocking_out(problem.twin)))
    assert "1 = down by one standard deviation" in question_of(told)["dose per step"]


def _knocking_out(twin):
    other = copy(twin)
    other.senses = (-1,) * len(twin.senses)
    return other


def test_a_table_that_tells_of_no_perturbation_is_named() -> None:
    judged = judged_of(trained_on_landscape())
    twin = judged.problem.twin
    before, twin.regulators = twin.regulators, "prior/dorothea.csv"
    try:
        assert question_of(judged)["effects rest on"].endswith("; 'dorothea.csv' tells of none of them")
    finally:
        twin.regulators = before


def test_a_twin_that_tells_no_evidence_is_asked_none() -> None:
    judged = replace(judged_of(trained_on_landscape()), problem=shift_problem(torch.eye(3), torch.ones(3)))
    said = question_of(judged)
    assert "effects rest on" not in said
    assert "(1 = as measured, or full expression)" in said["dose per step"]
