"""A design and all that a report says of it, without a trainer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.errors import ConfigurationError
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.likely_sets import LikelySets
from perturbrl.schema import Population

POLICY: Final = "policy"


@dataclass(frozen=True)
class Judged:
    """What is to be judged. ``callback.judged_of`` makes it from a trained module; anybody may by hand.

    Attributes:
        problem: the twin, the task aimed at the goal, the limits on doses, and the goal's cells.
        policy: the design, named ``policy``; any planner can be one.
        source: name of the population that cells start from.
        target: name of the population that they should reach.
        reference_cells: ``[cells, latent]`` start cells that the encoder was not fitted on, nor on the goal's.
        gene_names: names of the columns of ``twin.expression``.
        measured: the measured cells; ``None`` where a network brings its own states.
        file: where they are from, in words.
        training: how the policy was trained, in words.
        likely: how probable sets of perturbations are, given the goal's cells; ``None`` where that is not told.
        judges: the same problem on twins that no design has seen, by name, the strictest last (``judging_problems``).

    Raises:
        ConfigurationError: the design has another name, under which no table would find it.
    """

    problem: DesignProblem
    policy: Planner
    source: str
    target: str
    reference_cells: Population
    gene_names: Sequence[str]
    measured: MeasuredCells | None = None
    file: str = "in memory"
    training: str = "not said"
    likely: LikelySets | None = None
    judges: Mapping[str, DesignProblem] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.policy.name != POLICY:
            raise ConfigurationError(
                f"the design to judge is named '{self.policy.name}', and tables look for '{POLICY}'; name it so"
            )
