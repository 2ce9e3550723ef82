"""How each method of the design study ranks everything that may be proposed: one score for each set of perturbations.

All see training cells and the half of the target's cells that defines the goal. Methods that name single
perturbations, or one design with doses, rank sets by them (see ``by_doses``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import lsq_linear
from tensordict import TensorDictBase
from torch import Tensor

from perturbrl.data.labels import CONTROL, Label
from perturbrl.data.senses import sense_of
from perturbrl.embeddings.base import EncodedCells
from perturbrl.evaluation.simulation import PolicyDesign, simulate
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.differential_expression import DifferentialExpressionDesign
from perturbrl.planning.greedy import GreedyDesign
from perturbrl.planning.schedule_value import ScheduleValue
from perturbrl.reporting.callback import design_problem
from perturbrl.reporting.likely_run import likely_sets
from perturbrl.schema import PERTURBATION_TYPE_OBS, USED, CellState
from perturbrl.training.two_stage import TwoStageModule

OURS: Final = ("policy", "likely", "exhaustive_kriged")
BASELINES: Final = (
    "exhaustive_raw",
    "least_squares",
    "greedy",
    "nearest",
    "reverse_signature",
    "own_expression",
    "random",
    "no_op",
)
_SURE: Final = 1e-3
_CELLS: Final = 256
_EPISODES: Final = 2048

Sets = Sequence[tuple[int, ...]]
PerSet = Float[np.ndarray, " sets"]
PerName = Float[np.ndarray, " names"]


@dataclass(frozen=True, eq=False)
class Rankings:
    """Scores of all sets by each method.

    Attributes:
        module: trained, or set up alone.
        names: what may be proposed.
        sets: of indices into them.
    """

    module: TwoStageModule
    names: Sequence[str]
    sets: Sets

    @cached_property
    def problem(self) -> DesignProblem:
        """What planners may know."""
        return design_problem(self.module)

    @cached_property
    def _cells(self) -> EncodedCells:
        return self.module.data.training_cells()

    @cached_property
    def _column(self) -> list[int]:
        """Where each name is among the problem's; -1 where the twin cannot dose it."""
        place = {name: i for i, name in enumerate(self.problem.space.names)}
        return [place.get(name, -1) for name in self.names]

    def scores(self) -> Mapping[str, PerSet]:
        """By method, the highest first."""
        nothing = np.zeros(len(self.sets))
        return {
            "policy": self._by_policy(),
            "likely": self._likely(),
            "exhaustive_kriged": self._returns(),
            "exhaustive_raw": self._raw_left(),
            "least_squares": by_doses(self._least_squares(), self.sets),
            "greedy": self._by_design(GreedyDesign()),
            "nearest": self._nearest(),
            "reverse_signature": self._cosine(),
            "own_expression": self._own_expression(),
            "random": nothing,
            "no_op": nothing,
        }

    # -- on kriged effects -------------------------------------------------------------------------------

    def _likely(self) -> PerSet:
        likely = likely_sets(self.module)
        assert likely is not None
        return likely.scores(self.names, self.sets)

    def _returns(self) -> PerSet:
        """What full doses are paid on the twin, prices taken off."""
        problem, found = self.problem, np.full(len(self.sets), -np.inf)
        columns = [[self._column[i] for i in own] for own in self.sets]
        given = [k for k, own in enumerate(columns) if min(own) >= 0]
        doses = torch.zeros(len(given), problem.space.n_perturbations)
        for row, k in enumerate(given):
            doses[row, columns[k]] = problem.space.high[columns[k]]
        schedules = torch.zeros(len(given), problem.horizon, problem.space.n_perturbations)
        schedules[:, 0] = doses
        found[given] = ScheduleValue.from_start(problem)(schedules).double().numpy()
        return found

    def _by_policy(self) -> PerSet:
        """By how often the policy ends with a set when it chooses by its probabilities.

        What it never ends with ranks behind, by how often its perturbations are used at all.
        """
        start = self.problem.twin.start_cells
        start = start[torch.arange(_EPISODES) % len(start)]
        with torch.random.fork_rng():
            torch.manual_seed(self.module.seed)
            doses = simulate(self.problem, _Chosen(self.module.actor, menu=self.module.menu), start).doses
        used = (doses != 0).any(1).double().numpy()[:, self._column] * (np.array(self._column) >= 0)
        ended = Counter(tuple(np.flatnonzero(row).tolist()) for row in used)
        often = np.array([ended[own] / _EPISODES for own in self.sets])
        return np.log(often + _SURE * np.exp(by_doses(used.mean(0), self.sets)))

    def _by_design(self, planner: Planner) -> PerSet:
        """By the share of start cells that a design gives each, and how much: half the highest dose is in already."""
        problem = self.problem
        planner.plan(problem)
        doses = simulate(problem, planner, problem.twin.start_cells[:_CELLS]).doses.amax(1)
        share = ((doses > 0) * (1 + doses / problem.space.high) / 2).mean(0).double().numpy()
        return by_doses(self._of_names(share, 0.0), self.sets)

    def _of_names(self, values: np.ndarray, otherwise: float) -> PerName:
        return np.array([otherwise if i < 0 else values[i] for i in self._column])

    # -- on raw effects ----------------------------------------------------------------------------------

    @cached_property
    def _raw(self) -> Mapping[str, CellState]:
        """Mean shift of the training cells of each label."""
        cells = self._cells
        control = cells.mean_of(CONTROL)
        return {str(label): cells.mean_of(label) - control for label in cells.perturbations}

    @cached_property
    def _raw_sets(self) -> np.ndarray:
        """``[sets, latent]`` shift as measured, else the sum of the parts'; nan where one was not measured alone."""
        none = torch.full((self._way.shape[0],), torch.nan)
        alone = [self._raw.get(name, none) for name in self.names]
        together = [str(Label.parse("+".join(self.names[i] for i in own))) for own in self.sets]
        found = [
            self._raw[label] if label in self._raw else torch.stack([alone[i] for i in own]).sum(0)
            for label, own in zip(together, self.sets, strict=True)
        ]
        return torch.stack(found).double().numpy()

    @cached_property
    def _way(self) -> np.ndarray:
        return (self.module.goal_cells.mean(0) - self._cells.mean_of(CONTROL)).double().numpy()

    def _raw_left(self) -> PerSet:
        left = np.linalg.norm(self._raw_sets - self._way, axis=1)
        return np.where(np.isnan(left), -np.inf, -left)

    def _nearest(self) -> PerSet:
        """Single perturbations, or what was measured together, as measured."""
        measured = np.array([len(own) == 1 for own in self.sets])
        return np.where(measured, self._raw_left(), -np.inf)

    def _cosine(self) -> PerSet:
        length = np.linalg.norm(self._raw_sets, axis=1) * np.linalg.norm(self._way)
        cosine = (self._raw_sets @ self._way) / np.maximum(length, 1e-12)
        return np.where(np.isnan(cosine), -np.inf, cosine)

    def _least_squares(self) -> PerName:
        """Doses from 0 to 1 that bring the sum of raw effects nearest."""
        rows = [i for i, name in enumerate(self.names) if name in self._raw]
        found = np.zeros(len(self.names))
        if rows:
            effects = torch.stack([self._raw[self.names[i]] for i in rows]).double().numpy()
            found[rows] = lsq_linear(effects.T, self._way, (0.0, 1.0), tol=1e-12).x
        return found

    # -- on expression -----------------------------------------------------------------------------------

    def _own_expression(self) -> PerSet:
        """Stouffer's sum of the t of each gene's own expression, in the way that the screen's perturbations push it."""
        data = self.module.data
        sides = data.expression(data.source, "train"), data.expression(str(data.target), "goal")
        found = DifferentialExpressionDesign(*sides, tuple(data.genes)).difference
        obs = data.measured.dataset.adata.obs
        sense = sense_of(obs[PERTURBATION_TYPE_OBS]) if PERTURBATION_TYPE_OBS in obs else 0
        t = np.array([found.get(name, 0.0) for name in self.names])
        t = sense * t if sense else np.abs(t)
        return np.array([t[list(own)].sum() / len(own) ** 0.5 for own in self.sets])


class _Chosen(PolicyDesign):
    """A policy that acts by chance, as in training."""

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        action = self.actor.get_dist(observed.select(*self.actor.in_keys)).sample()
        return action if self.menu is None else self.menu.project(action, observed[USED])[0]


def by_doses(share: PerName, sets: Sets) -> PerSet:
    """Log probability of sets where each perturbation is in with the probability that its dose is of the highest.

    Doses of 1 in exactly the set's members rank it first; fewer of what is not dosed rank higher than more.
    """
    sure = np.clip(share, _SURE, 1 - _SURE)
    odds, base = np.log(sure / (1 - sure)), float(np.log1p(-sure).sum())
    return np.array([base + odds[list(own)].sum() for own in sets])


def of_names(scores: PerSet, sets: Sets, n: int) -> PerName:
    """Each perturbation by the best set that it is in."""
    found = np.full(n, -np.inf)
    for score, own in zip(scores, sets, strict=True):
        found[list(own)] = np.maximum(found[list(own)], score)
    return found
