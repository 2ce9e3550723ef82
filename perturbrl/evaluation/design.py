"""The table of designs: each simulated from held-out cells, and how near the target population it ends."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final

import torch

from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.certificate import Certificate, certify, dosed_by
from perturbrl.evaluation.design_metrics import DESIGN_METRICS, DesignOutcome
from perturbrl.evaluation.hits import Hit, rank_hits
from perturbrl.evaluation.mean_distance import equally_near, mean_distance, nearness_p_value
from perturbrl.evaluation.populations import Detectability, detectability
from perturbrl.evaluation.simulation import Simulation, simulate
from perturbrl.evaluation.statistics import Interval, wilson_interval
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.schema import CellState, PerCell, Population

MADE_ON: Final = "made on"
IDLE: Final = "no_op"


@dataclass(frozen=True)
class UnseenCells:
    """Cells that no encoder was fitted on: only they can say how well a design does, and whether anything is to do.

    Cells on which, say, principal components were fitted differ from all others, even where no effect is.

    Attributes:
        start: held-out start cells; designs are simulated from them.
        target: held-out target cells; they judge.
        reference: further start cells (``Split.reference``); ``None`` where there are none but those of ``start``.
        goal: further target cells, those that define the goal; ``None`` where they are those of ``target``.
    """

    start: Population
    target: Population
    reference: Population | None = None
    goal: Population | None = None

    def detectability(self) -> Detectability | None:
        """Whether start and target population differ, by all cells of both (see ``detectability``)."""
        start = self.start if self.reference is None else torch.cat((self.reference, self.start))
        target = self.target if self.goal is None else torch.cat((self.goal, self.target))
        return detectability(start, target)


@dataclass(frozen=True)
class DesignRow:
    """One design's line in the table.

    Attributes:
        name: the design.

    The others are what ``DESIGN_METRICS`` of the registry declare.
    """

    name: str
    distance: Interval
    observed_distance: float
    relative_energy_distance: float
    success: Interval
    dose: float
    n_perturbations: float
    displacement_from_start: float
    training_distance: float
    gap: float
    recall: float


@dataclass(frozen=True)
class DesignEvaluation:
    """A table of designs, the policy's hits, and how far to believe them.

    Attributes:
        target: canonical name of the target.
        rows: one for each design, the policy first.
        hits: perturbations of the recommended design.
        detectability: whether start and target differ at all.
        simulations: what each design did to held-out cells.
        target_cells: what judged it.
        forecast: what the policy did to training cells: a prediction whose input is not the cells that judge.
        certificate: how good the policy is beside the best known on the twin that designs were made on.
        arrived: share of cells that arrive, by design and twin, the one that designs were made on first; none where
            that one judges, too.
    """

    target: str
    rows: tuple[DesignRow, ...]
    hits: tuple[Hit, ...]
    detectability: Detectability | None
    simulations: dict[str, Simulation]
    target_cells: CellState
    forecast: Simulation
    certificate: Certificate
    arrived: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)

    @property
    def recommended(self) -> str:
        """The design that is answered with: the policy's, and doing nothing where the target is no different."""
        return _recommended(self.detectability, [row.name for row in self.rows])

    @property
    def winner(self) -> DesignRow:
        """The design that ends nearest to the target; doing nothing where the target is no different."""
        idle = [row for row in self.rows if row.name == IDLE == self.recommended]
        return min(idle or self.rows, key=lambda row: row.observed_distance)

    @property
    def ties(self) -> tuple[str, ...]:
        """Designs that the held-out cells cannot tell from the winner, in the order of the rows."""
        final = {row.name: self.simulations[row.name].final for row in self.rows}
        return equally_near(final.pop(self.winner.name), final, self.target_cells)

    def nearness_p_value(self, name: str, other: str) -> float:
        """P-value of two designs ending equally near to the held-out target cells (see ``nearness_p_value``)."""
        final, rival = self.simulations[name].final, self.simulations[other].final
        return nearness_p_value(final, rival, self.target_cells)

    def row(self, name: str) -> DesignRow:
        """The row called ``name``.

        Raises:
            ConfigurationError: no such design was judged.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise ConfigurationError(
            f"no design '{name}' was judged; choose one of {', '.join(row.name for row in self.rows)}"
        )

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        found = None
        if self.detectability is not None:
            found = asdict(self.detectability) | {"detectable": self.detectability.detectable}
        return {
            "target": self.target,
            "winner": self.winner.name,
            "not_told_apart_from_winner": list(self.ties),
            "detectability": found,
            "cells_in_target": {
                design: {twin: asdict(share) for twin, share in shares.items()}
                for design, shares in self.arrived.items()
            },
            "certificate": self.certificate.as_dict(),
            "designs": {row.name: asdict(row) for row in self.rows},
        }


def evaluate_designs(
    problem: DesignProblem,
    planners: Sequence[Planner],
    cells: UnseenCells,
    target_label: str,
    progress: Callable[[Sequence[Planner]], Iterable[Planner]] = iter,
    judges: Mapping[str, DesignProblem] | None = None,
) -> DesignEvaluation:
    """Judge designs on cells that nothing was learned from.

    Args:
        problem: what planners may know.
        planners: policy first; planners that cannot treat the problem are left out.
        cells: what designs start from and are judged by.
        target_label: canonical name of the target.
        progress: wraps the planners to show progress.
        judges: the same problem on other twins, which no planner sees, by name: what designs do there. Simulations
            and rows are of the last one; ``None`` judges on the twin that designs were made on.
    """
    twins = {MADE_ON: problem} | dict(judges or {})
    simulations: dict[str, Simulation] = {}
    arrived: dict[str, dict[str, Interval]] = {}
    distances: dict[str, float] = {}
    paid: dict[str, tuple[PerCell, tuple[str, ...]]] = {}
    left_out: dict[str, str] = {}
    forecasts: list[Simulation] = []
    for planner in progress(planners):
        if planner.plan(problem):
            done = {name: simulate(twin, planner, cells.start) for name, twin in twins.items()}
            simulations[planner.name] = list(done.values())[-1]
            arrived[planner.name] = {name: _arrived(own) for name, own in done.items()}
            trained = simulate(problem, planner, problem.twin.start_cells)
            distances[planner.name] = mean_distance(trained.final, problem.goal_cells)
            paid[planner.name] = (trained.returns, dosed_by(problem, trained))
            forecasts = forecasts or [trained]  # the others' would only take up memory
        elif planner.reason:
            left_out[planner.name] = planner.reason
    names, certificate = problem.space.names, certify(problem, paid, left_out)
    outcomes = {
        name: DesignOutcome(
            simulation, cells.target, target_label, names, distances[name], certificate.gap_of(name)
        )
        for name, simulation in simulations.items()
    }
    rows = tuple(_row(name, outcome) for name, outcome in outcomes.items())
    found = cells.detectability()
    hits = rank_hits(problem, simulations[_recommended(found, [row.name for row in rows])])
    evaluation = DesignEvaluation(
        target_label, rows, hits, found, simulations, cells.target, forecasts[0], certificate
    )
    return replace(evaluation, arrived=arrived) if judges else evaluation


def _recommended(found: Detectability | None, names: Sequence[str]) -> str:
    return IDLE if found is not None and not found.detectable and IDLE in names else names[0]


def _arrived(simulation: Simulation) -> Interval:
    return wilson_interval(int(simulation.success.sum()), len(simulation.success))


def _row(name: str, outcome: DesignOutcome) -> DesignRow:
    return DesignRow(name, **{metric.name: metric.function(outcome) for metric in DESIGN_METRICS})
