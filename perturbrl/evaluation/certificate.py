"""How good a design is beside the best that is known on the twin that it was made on, under the same limits."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import torch

from perturbrl.evaluation.simulation import Simulation, simulate
from perturbrl.evaluation.statistics import Interval, mean_interval
from perturbrl.planning.bound import highest_return
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.planners import NoOpDesign, certifying_planners
from perturbrl.schema import PerCell

LEAST_GAP: Final = 0.01  # share of the way below which designs count as equal
NO_SEARCH: Final = ("no_op", "random", "nearest_perturbation")
_EQUAL: Final = 1e-6


@dataclass(frozen=True)
class Certificate:
    """What designs are paid on the twin, and what any could be.

    Returns are the share of the way that cells are brought, less the task's prices; 0 is doing nothing.

    Attributes:
        design: the one that is certified.
        returns: mean over training start cells of every design, the certified one among them.
        gap: by how much the best known is paid more than the certified one, with its 95 % interval over cells; 0 where
            none is.
        highest: what no design within the limits can exceed; nan where that is not known (``highest_return``).
        dosed: perturbations that at least half of the cells receive from the best known, strongest first.
        left_out: searches that were not made, and why.
    """

    design: str
    returns: Mapping[str, float]
    gap: Interval
    highest: float
    dosed: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The best design known; the certified one where none is better."""
        return _best(self.design, self.returns)

    @property
    def is_beaten(self) -> bool:
        """Whether another design is better by more than cells differ, and more than anybody would mind."""
        return self.gap.estimate > LEAST_GAP and not self.gap.low <= 0

    @property
    def rival(self) -> str | None:
        """The best of the searches; ``None`` where there was none."""
        rivals = {name: paid for name, paid in self.returns.items() if name not in (self.design, *NO_SEARCH)}
        return max(rivals, key=rivals.__getitem__, default=None)

    def gap_of(self, name: str) -> float:
        """By how much the best known is paid more than this one."""
        return max(0.0, self.returns[self.best] - self.returns[name])

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "best": self.best,
            "best_is_better": self.is_beaten,
            "gap": asdict(self.gap),
            "returns": dict(self.returns),
            "highest": self.highest,
            "dosed_by_best": list(self.dosed),
            "left_out": dict(self.left_out),
        }


def certify(
    problem: DesignProblem,
    done: Mapping[str, tuple[PerCell, tuple[str, ...]]],
    left_out: Mapping[str, str] | None = None,
) -> Certificate:
    """The certificate of the first of several designs.

    Args:
        problem: under whose limits they were made.
        done: of each design, what was paid for every training start cell and what most cells receive (``dosed_by``).
        left_out: searches that were not made, and why.
    """
    design, paid = next(iter(done)), {name: returns for name, (returns, _) in done.items()}
    returns = {name: float(own.double().mean()) for name, own in paid.items()}
    best = _best(design, returns)
    gap = mean_interval((paid[best] - paid[design]).double().cpu().numpy())
    return Certificate(design, returns, gap, highest_return(problem), done[best][1], left_out or {})


def best_known(
    problem: DesignProblem, design: Planner | None = None, planners: Sequence[Planner] | None = None
) -> Certificate:
    """The certificate of a design, doing nothing by default.

    Args:
        problem: the twin, the task aimed at the goal, and the limits.
        design: what is certified.
        planners: what it is compared with; by default every search that can treat the problem.
    """
    others = certifying_planners() if planners is None else tuple(planners)
    done: dict[str, tuple[PerCell, tuple[str, ...]]] = {}
    left_out: dict[str, str] = {}
    for planner in (design or NoOpDesign(), *others):
        if planner.plan(problem):
            simulation = simulate(problem, planner, problem.twin.start_cells)
            done.setdefault(planner.name, (simulation.returns, dosed_by(problem, simulation)))
        elif planner.reason:
            left_out[planner.name] = planner.reason
    return certify(problem, done, left_out)


def dosed_by(problem: DesignProblem, simulation: Simulation) -> tuple[str, ...]:
    """Perturbations that at least half of the cells receive, strongest first."""
    given = simulation.given
    most = (given != 0).any(1).float().mean(0) >= 0.5
    strength = torch.where(most, given.sum(1).mean(0).abs(), -1.0)
    order = strength.argsort(descending=True, stable=True)[: int(most.sum())]
    return tuple(problem.space.names[i] for i in simulation.columns[order].tolist())


def _best(design: str, returns: Mapping[str, float]) -> str:
    best = max(returns, key=returns.__getitem__)
    return design if returns[best] <= returns[design] + _EQUAL else best
