"""Genes that differ most between start and target are dosed in the direction in which they differ."""

import torch
from design_problems import shift_problem
from linear_twin import normal

from perturbrl.planning.differential_expression import DifferentialExpressionDesign
from perturbrl.planning.planners import NoOpDesign

GENES = ("G0", "G1", "G2", "H")


def design(low=-1.0, **space):
    start, goal = normal(40, 4, seed=1), normal(50, 4, seed=2) + torch.tensor([-2.0, 1.0, 0.0, 5.0])
    problem = shift_problem(torch.eye(3), torch.ones(3), horizon=2, low=low, **space)
    planner = DifferentialExpressionDesign(start, goal, GENES)
    return planner.schedule_for(problem)


def test_the_genes_that_differ_most_go_where_the_target_has_them():
    assert design(max_perturbations=1).tolist() == [[-1.0, 0.0, 0.0]] * 2
    assert design().tolist() == [[-1.0, 1.0, 0.0]] * 2


def test_what_can_only_be_raised_is_not_lowered():
    assert design(low=0.0, max_perturbations=1).tolist() == [[0.0, 1.0, 0.0]] * 2


def test_a_knock_out_lowers_its_gene():
    start, goal = normal(40, 4, seed=1), normal(50, 4, seed=2) + torch.tensor([-2.0, 1.0, 0.0, 5.0])
    problem = shift_problem(torch.eye(3), torch.ones(3), horizon=2, low=0.0)
    problem.twin.senses = (-1, -1, 0)
    planner = DifferentialExpressionDesign(start, goal, GENES)
    assert planner.schedule_for(problem).tolist() == [[1.0, 0.0, 0.0]] * 2
    problem.twin.senses = (1, -1, 0)
    assert planner.schedule_for(problem) is None


def test_where_no_gene_can_be_dosed_there_is_no_design():
    same = torch.ones(5, 1)
    problem = shift_problem(torch.eye(3), torch.ones(3))
    assert DifferentialExpressionDesign(same, same, ("G0",)).schedule_for(problem) is None
    assert NoOpDesign().plan(problem)
