"""Twins that no design has seen: members kept back, and one learned from the cells that judge."""

from copy import deepcopy
from dataclasses import replace

from perturbrl.planning.design_problem import DesignProblem
from perturbrl.reporting.report_tables import KEPT_BACK, OTHER_HALF
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.progress import working


def judging_problems(problem: DesignProblem, data: PerturbationDataModule) -> dict[str, DesignProblem]:
    """The problem on twins that designs were not made on; none where the target's cells were not learned from.

    Where they were, cells that nothing was learned from are no safeguard by themselves: a design may live off errors
    of the twin.

    Args:
        problem: that designs were made for.
        data: of the run, with the cells that judge.
    """
    if not data.learn_target:
        return {}
    found = {}
    if problem.twin.judging_members:
        found[KEPT_BACK] = replace(problem, twin=problem.twin.in_judging_members())
    with working("learning the landscape of the other half"):
        twin = deepcopy(problem.twin).cpu()
        # A factor that no design may dose need not vary in the other half.
        cells = replace(data.judging_cells(), allowed=tuple(problem.space.names))
        twin.fit(cells, data.encoder)
    space = twin.perturbations.restrict(
        problem.space.names,
        min_dose=problem.space.min_dose,
        max_perturbations=problem.space.max_perturbations,
    )
    device = problem.twin.start_cells.device
    return found | {OTHER_HALF: replace(problem, twin=twin.to(device), space=space.to(device))}
