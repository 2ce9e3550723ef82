"""Judging designs: simulate each from held-out cells and measure how near the target population they end."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs.utils import step_mdp
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.data.presets import components
from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.populations import (
    Detectability,
    detectability,
    equally_near,
    mean_distance,
    mean_distance_interval,
    replicate_distance,
)
from perturbrl.evaluation.statistics import Interval, wilson_interval
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.rl.rollouts import best_action
from perturbrl.schema import CellState, Population
from perturbrl.twins.base import relax

N_BOOTSTRAP: Final = 1000
_CHUNK: Final = 1 << 22


class PolicyDesign(Planner):
    """A trained policy, acting by its mean (or its most probable action).

    Args:
        actor: TorchRL actor over ``observation``.
        name: the row's name.
    """

    def __init__(self, actor: ProbabilisticActor, name: str = "policy") -> None:
        self.actor, self.name = actor, name

    def plan(self, problem: DesignProblem) -> bool:
        """Nothing to prepare: training did."""
        return True

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """The policy's mean action in each cell's state."""
        return best_action(self.actor, observed)


@dataclass(frozen=True)
class Simulation:
    """What a design did to cells.

    Attributes:
        start: ``[cells, latent]`` where cells were.
        final: ``[cells, latent]`` where they are after dosing has ended and they have relaxed.
        path: ``[cells, time + 1, latent]`` states between, the start first.
        doses: ``[cells, time, perturbations]`` doses given, after projection onto the limits.
        success: ``[cells]`` whether each has arrived.
    """

    start: CellState
    final: CellState
    path: Float[Tensor, "cells steps latent"]
    doses: Float[Tensor, "cells time perturbations"]
    success: Tensor


@torch.no_grad()
def simulate(problem: DesignProblem, planner: Planner, start: CellState) -> Simulation:
    """Run one episode per row of ``start`` under a planned design, then let the cells relax without dose."""
    env = CellStateEnv(
        problem.twin, problem.task, space=problem.space, horizon=problem.horizon, n_cells=len(start)
    )
    env.set_seed(problem.seed)
    state = env.reset(TensorDict({schema.CELL_STATE: start}, batch_size=env.batch_size, device=start.device))
    goal, path, doses = state[schema.GOAL_STATE], [start], []
    over = torch.zeros(len(start), 1, dtype=torch.bool, device=start.device)
    for step in range(problem.horizon):
        state[schema.ACTION] = planner.action(state, step)
        state = step_mdp(env.step(state))
        # A cell whose episode has ended early is left alone from then on.
        state[schema.CELL_STATE] = torch.where(over, path[-1], state[schema.CELL_STATE])
        path.append(state[schema.CELL_STATE])
        doses.append(state[schema.DOSE] * ~over)
        over = over | state[schema.DONE]
    final = relax(problem.twin, state[schema.CELL_STATE], env.generator)
    success = problem.task.is_success(final, goal)
    return Simulation(start, final, torch.stack(path, 1), torch.stack(doses, 1), success)


@dataclass(frozen=True)
class DesignRow:
    """One design's line in the table.

    Attributes:
        name: the design.
        distance: between the mean of held-out cells as dosed and that of the target, in latent units, sampling
            noise removed (``mean_distance_interval``).
        observed_distance: the same with its sampling noise, which designs share; it orders the table.
        relative_energy_distance: of dosed cells to target cells, in units of two halves of the target cells.
        success: share of dosed cells that the task calls arrived.
        dose: mean over cells of the summed absolute doses.
        n_perturbations: mean number of different perturbations a cell receives.
        displacement_from_start: R squared of the final against the START state of the same cells, which is 1
            for doing nothing and says nothing about the target.
        training_distance: distance to the goal's mean from the training cells.
        regret: ``training_distance`` relative to the closed-form optimum, less 1; nan where none is known or
            the optimum arrives. Slightly negative values can come from noise, and from policies that give
            different cells different perturbations.
        recall: share of the target's components among as many strongest doses; nan for other targets.
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
    regret: float
    recall: float


@dataclass(frozen=True)
class Hit:
    """One perturbation of the policy's design.

    Attributes:
        perturbation: its name.
        dose: mean over cells of its summed dose, with a bootstrap interval over cells.
        direction: sign of the dose in words: ``up``, ``down``, or ``none`` where no cell receives it; a report
            may say what the dose means in a screen instead.
        share_of_cells: fraction of cells that receive it.
    """

    perturbation: str
    dose: Interval
    direction: str
    share_of_cells: float


@dataclass(frozen=True)
class DesignEvaluation:
    """A table of designs, the policy's hits, and how far to believe them."""

    target: str
    rows: tuple[DesignRow, ...]
    hits: tuple[Hit, ...]
    detectability: Detectability | None
    simulations: dict[str, Simulation]
    target_cells: CellState

    @property
    def winner(self) -> DesignRow:
        """The design that ends nearest to the target; doing nothing where the target is no different."""
        undetectable = self.detectability is not None and not self.detectability.detectable
        idle = [row for row in self.rows if row.name == "no_op" and undetectable]
        return min(idle or self.rows, key=lambda row: row.observed_distance)

    @property
    def ties(self) -> tuple[str, ...]:
        """Designs that the held-out cells cannot tell from the winner, in the order of the rows."""
        best = self.winner.name
        return tuple(
            row.name
            for row in self.rows
            if row.name != best
            and equally_near(
                self.simulations[best].final, self.simulations[row.name].final, self.target_cells
            )
        )

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
            "designs": {row.name: asdict(row) for row in self.rows},
        }


def evaluate_designs(
    problem: DesignProblem,
    planners: Sequence[Planner],
    start: Population,
    target: Population,
    target_label: str,
    progress: Callable[[Sequence[Planner]], Iterable[Planner]] = iter,
) -> DesignEvaluation:
    """Judge designs on cells that nothing was learned from.

    Args:
        problem: what planners may know.
        planners: policy first; planners that cannot treat the problem are left out.
        start: ``[cells, latent]`` held-out start cells.
        target: ``[cells, latent]`` held-out target cells.
        target_label: canonical name of the target.
        progress: wraps the planners to show progress.
    """
    simulations: dict[str, Simulation] = {}
    distances: dict[str, float] = {}
    for planner in progress(planners):
        if planner.plan(problem):
            simulations[planner.name] = simulate(problem, planner, start)
            trained = simulate(problem, planner, problem.twin.start_cells)
            distances[planner.name] = mean_distance(trained.final, problem.goal_cells)
    rows = tuple(
        _row(problem, name, simulation, target, target_label, distances[name])
        for name, simulation in simulations.items()
    )
    hits = rank_hits(problem, simulations[rows[0].name])
    found = detectability(problem.twin.start_cells, torch.cat((problem.goal_cells, target)))
    return DesignEvaluation(target_label, rows, hits, found, simulations, target)


def _row(
    problem: DesignProblem,
    name: str,
    simulation: Simulation,
    target: Population,
    target_label: str,
    training_distance: float,
) -> DesignRow:
    given = simulation.doses != 0
    return DesignRow(
        name=name,
        distance=mean_distance_interval(simulation.final, target),
        observed_distance=mean_distance(simulation.final, target),
        relative_energy_distance=replicate_distance(simulation.final, target),
        success=wilson_interval(int(simulation.success.sum()), len(simulation.success)),
        dose=float(simulation.doses.abs().sum((1, 2)).mean()),
        n_perturbations=float(given.any(1).sum(-1).float().mean()),
        displacement_from_start=_r_squared(simulation.final, simulation.start),
        training_distance=training_distance,
        regret=_regret(problem, training_distance),
        recall=recall_of_components(problem.space.names, simulation.doses, target_label),
    )


def _regret(problem: DesignProblem, distance: float) -> float:
    best = problem.optimal_distance
    # Below single precision there is nothing left to compare with.
    return distance / best - 1 if best > 1e-5 * float(problem.shift.norm()) else float("nan")


def _r_squared(x: CellState, reference: CellState) -> float:
    total = (reference - reference.mean()).square().sum()
    return float(1 - (x - reference).square().sum() / total) if float(total) > 0 else float("nan")


def recall_of_components(
    names: Sequence[str], doses: Float[Tensor, "cells time perturbations"], target: str
) -> float:
    """Share of the target's components among as many strongest mean doses; nan if they cannot be dosed."""
    wanted = components(target)
    if not set(wanted) <= set(names):
        return float("nan")
    strength = doses.sum(1).mean(0).abs()
    strongest = strength.topk(len(wanted))
    chosen = {
        names[i]
        for i, size in zip(strongest.indices.tolist(), strongest.values.tolist(), strict=True)
        if size
    }
    return len(chosen & set(wanted)) / len(wanted)


def rank_hits(problem: DesignProblem, simulation: Simulation) -> tuple[Hit, ...]:
    """The design's perturbations by the size of their mean dose, with bootstrap intervals over cells."""
    total = simulation.doses.sum(1).double().cpu().numpy()
    share = (simulation.doses != 0).any(1).double().mean(0).cpu().numpy()
    low, high = _bootstrap_means(total, problem.seed)
    mean = total.mean(0)
    order = np.argsort(-np.abs(mean), kind="stable")
    directions = {1.0: "up", -1.0: "down", 0.0: "none"}
    return tuple(
        Hit(
            problem.space.names[i],
            Interval(float(mean[i]), float(low[i]), float(high[i])),
            directions[float(np.sign(mean[i]))],
            float(share[i]),
        )
        for i in order
    )


def _bootstrap_means(values: Float[np.ndarray, "cells columns"], seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = len(values)
    rows = max(1, _CHUNK // n)
    means = [
        rng.multinomial(n, np.full(n, 1 / n), size=min(rows, N_BOOTSTRAP - done)) @ values / n
        for done in range(0, N_BOOTSTRAP, rows)
    ]
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975), axis=0)
    return low, high
