"""Twins that no design has seen: members kept back, and one learned from the cells that judge."""

from copy import deepcopy
from dataclasses import replace

from perturbrl.errors import ConfigurationError, DataError
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.reporting.report_tables import KEPT_BACK, OTHER_HALF
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.progress import working
from perturbrl.twins.base import DigitalTwin


def judging_problems(problem: DesignProblem, data: PerturbationDataModule) -> dict[str, DesignProblem]:
    """The problem on twins that designs were not made on; none where the target's cells were not learned from.

    Where they were, cells that nothing was learned from are no safeguard by themselves: a design may live off errors
    of the twin.

    Args:
        problem: that designs were made for.
        data: of the run, with the cells that judge.

    Raises:
        DataError: a twin cannot be learned from the cells that judge.
    """
    if not data.learn_target:
        return {}
    found = {}
    if problem.twin.judging_members:
        found[KEPT_BACK] = replace(problem, twin=problem.twin.in_judging_members())
    with working("learning the landscape of the other half"):
        twin = _learned(problem, data)
    space = twin.perturbations.restrict(
        problem.space.names,
        min_dose=problem.space.min_dose,
        max_perturbations=problem.space.max_perturbations,
    )
    device = problem.twin.start_cells.device
    return found | {OTHER_HALF: replace(problem, twin=twin.to(device), space=space.to(device))}


def _learned(problem: DesignProblem, data: PerturbationDataModule) -> DigitalTwin:
    """A twin of the same kind, of the cells that judge."""
    twin = deepcopy(problem.twin).cpu()
    try:
        # What no design may dose need not be known there.
        cells = replace(data.judging_cells(), allowed=tuple(problem.space.names))
        return twin.fit(cells, data.encoder)
    except (ConfigurationError, DataError) as error:
        raise DataError(
            f"no twin to judge by can be learned from the half of the cells that judges (data.split): {error}"
        ) from error
