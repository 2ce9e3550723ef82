"""The design that is most probable to have made the goal's cells, given at full doses."""

from perturbrl.planning.design_problem import DesignProblem, OpenLoop, Schedule
from perturbrl.planning.likely_sets import LARGEST, LikelySets


class MostLikelyDesign(OpenLoop):
    """Full doses, in the first step, of the most probable set of up to two perturbations (see ``LikelySets``).

    Args:
        likely: knows the goal's cells and the training cells.
    """

    name = "most_likely"

    def __init__(self, likely: LikelySets) -> None:
        self.likely = likely

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The set's doses; ``None`` where actions are discrete."""
        space = problem.space
        if space.discrete:
            return None
        best = self.likely.ranked(space.names, min(space.max_perturbations or LARGEST, LARGEST))[0]
        schedule, columns = problem.no_dose(), [space.names.index(name) for name in best.names]
        schedule[0, columns] = space.high[columns]
        return schedule
