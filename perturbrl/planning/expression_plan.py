"""Next perturbations by what kriging thinks of cells under them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.sparse import csr_matrix

from perturbrl.data.costs import Costs
from perturbrl.errors import listed
from perturbrl.planning.experiment_goals import (
    ExperimentGoal,
    FindInteractions,
    LearnResponses,
    ReachTarget,
)
from perturbrl.planning.plan_words import (
    MEANINGS,
    answer_of_interactions,
    answer_of_responses,
    answer_of_target,
)
from perturbrl.planning.planned_experiments import (
    Goal,
    PlannedExperiments,
    compared_batches,
    require_n,
)
from perturbrl.planning.power import IN_WORDS, needed
from perturbrl.responses import discoveries
from perturbrl.responses.base import EVIDENCE, PredictedShifts
from perturbrl.responses.joint_shifts import JointShifts
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.questions import Asked
from perturbrl.responses.training_cells import Condition
from perturbrl.schema import GeneVector

Z_90: Final = 1.645
_TOLD_OF: Final = 3
_WORTH_NAMING: Final = 0.02

Candidates = Float[np.ndarray, " candidates"]


@dataclass(frozen=True, eq=False)
class ExpressionQuestion:
    """A fitted model and what is asked of it.

    Attributes:
        model: fitted on all cells but the target's.
        controls: log expression of the control cells of each context, ``[cells, genes]``.
        candidates: conditions that nobody measured.
        goal: what for.
        target: mean log expression of the target population, where it is to be reached.
        target_name: of it.
        costs: of perturbations; ``None`` is 1 each.
        seed: of draws and random batches.
    """

    model: Kriging
    controls: dict[str, csr_matrix]
    candidates: Sequence[Asked]
    goal: Goal
    target: GeneVector | None = None
    target_name: str = ""
    costs: Costs | None = None
    seed: int = 0


def plan_by_expression(
    question: ExpressionQuestion, n: int, notes: tuple[str, ...] = ()
) -> PlannedExperiments:
    """The ``n`` conditions to measure next.

    Raises:
        DataError: a candidate has no cost.
        ConfigurationError: ``n`` is none or too many; or see ``Kriging.together``.
    """
    require_n(n, len(question.candidates))
    return _Plan(question, n, notes).made()


@dataclass(frozen=True, eq=False)
class _Plan:
    question: ExpressionQuestion
    n: int
    notes: tuple[str, ...]

    def made(self) -> PlannedExperiments:
        """Table, comparison and what is to be said."""
        goal = self._goal
        chosen = goal.choose(self.n, self._costs)
        batch = chosen.candidates
        scores = [("uncertainty", goal.variances), ("greedy", goal.promise())]
        compared = compared_batches((self._named, batch), scores, goal.worth, self._costs, self.question.seed)
        table = self._all.iloc[batch].reset_index(drop=True)
        table.insert(5, "gain", chosen.gains)
        table["reason"] = [self._reason(one) for one in batch.tolist()]
        everything = self._all.assign(
            sd=(self._all["high"] - self._all["expected"]) / Z_90,
            chosen=np.isin(np.arange(len(self._all)), batch),
        )
        return PlannedExperiments(
            self.question.goal,
            table,
            compared,
            everything[["name", "expected", "sd", "chosen"]],
            self._answer(compared),
            self._meaning,
            (*self.notes, *self._more_notes),
        )

    @property
    def _named(self) -> str:
        return {
            "responses": "expected reduction of variance",
            "target": "expected improvement",
            "interactions": "expected interaction",
        }[self.question.goal]

    @cached_property
    def _conditions(self) -> list[Condition]:
        return [one.condition for one in self.question.candidates]

    @cached_property
    def _parts(self) -> list[Condition]:
        return sorted({(single, where) for label, where in self._conditions for single in label.singles})

    @cached_property
    def _beliefs(self) -> JointShifts:
        """About shifts, or about deviations of combinations from the sum of their parts."""
        if self.question.goal != "interactions":
            return self.question.model.together(self._conditions)
        place = {part: len(self._conditions) + i for i, part in enumerate(self._parts)}
        weights = np.eye(len(self._conditions), len(self._conditions) + len(self._parts))
        for row, (label, where) in enumerate(self._conditions):
            weights[row, [place[single, where] for single in label.singles]] = -1.0
        return self.question.model.together([*self._conditions, *self._parts]).combined(weights)

    @cached_property
    def _goal(self) -> ExperimentGoal:
        beliefs, planned = self._beliefs, float(np.median(self.question.model.moments.n_cells))
        noise = np.repeat(beliefs.cell_variance[:, None] / planned, len(self._conditions), axis=1)
        if self.question.goal == "responses":
            return LearnResponses(beliefs, noise)
        if self.question.goal == "interactions":
            return FindInteractions(beliefs, noise)
        best, _ = self._best
        return ReachTarget(beliefs, noise, self._wanted(self._conditions), best, self.question.seed)

    def _wanted(self, conditions: Sequence[Condition]) -> Float[np.ndarray, "conditions components"]:
        """Shift from the control cells of each context to the target."""
        assert self.question.target is not None
        controls = self.question.model.moments.controls
        away = np.stack([self.question.target - controls[where] for _, where in conditions])
        return away @ self._beliefs.directions.T

    @cached_property
    def _best(self) -> tuple[float, str]:
        """The smallest expected squared distance of what was measured, control cells included."""
        measured = list(self.question.model.moments.conditions)
        beliefs = self.question.model.together(measured)
        variance = np.einsum("jcc->c", beliefs.covariance)
        wanted = self._wanted(measured)
        left = np.square(beliefs.mean - wanted).sum(axis=1) + variance
        undone = np.square(wanted).sum(axis=1)
        if undone.min() <= left.min():
            return float(undone.min()), "the control cells"
        return float(left.min()), str(measured[int(np.argmin(left))][0])

    @cached_property
    def _costs(self) -> Candidates:
        labels = [label for label, _ in self._conditions]
        costs = self.question.costs
        return np.ones(len(labels)) if costs is None else costs.each(labels)

    @cached_property
    def _all(self) -> pd.DataFrame:
        """Every candidate as a row of the table, but for gain and reason."""
        expected, low, high = self._effects
        sizes = self._needed
        return pd.DataFrame(
            {
                "name": [one.text for one in self.question.candidates],
                "evidence": self._predicted.evidence,
                "expected": expected,
                "low": low,
                "high": high,
                "needed": np.where(np.isfinite(sizes), sizes, np.nan),
                "cost": self._costs,
            }
        )

    @cached_property
    def _predicted(self) -> PredictedShifts:
        return self.question.model.predict(self._conditions)

    @cached_property
    def _effects(self) -> tuple[Candidates, Candidates, Candidates]:
        goal = self._goal
        if isinstance(goal, ReachTarget):
            whole = np.square(self._wanted(self._conditions)).sum(axis=1)
            mean, sd = goal.moments
            share = [np.sqrt((mean + side * Z_90 * sd).clip(min=0.0) / whole) for side in (0, -1, 1)]
            return share[0], share[1], share[2]
        if self.question.goal == "interactions":
            size, half = goal.sizes, Z_90 * self._along
        else:
            size, half = np.linalg.norm(self._predicted.mean, axis=1), Z_90 * self._predicted.along
        return size, size - half, size + half

    @cached_property
    def _along(self) -> Candidates:
        """Standard deviation of each deviation along its expected direction."""
        way = self._beliefs.mean / np.maximum(self._goal.sizes, np.finfo(float).tiny)[:, None]
        variance = np.einsum("jcc->cj", self._beliefs.covariance).clip(min=0.0)
        return np.sqrt((np.square(way) * variance).sum(axis=1))

    @cached_property
    def _needed(self) -> Candidates:
        """Cells that show the effect on expression."""
        moments = self.question.model.moments
        together = self.question.goal == "interactions"
        shifts = self._beliefs.mean @ self._beliefs.directions if together else self._predicted.mean
        sizes = np.linalg.norm(shifts, axis=1)
        ways = shifts / np.maximum(sizes, np.finfo(float).tiny)[:, None]
        cells = dict(zip(moments.conditions, moments.n_cells.tolist(), strict=True))
        planned = float(np.median(moments.n_cells))
        variance, others = np.zeros(len(sizes)), np.zeros(len(sizes))
        for where in sorted({where for _, where in self._conditions}):
            here = [i for i, (_, context) in enumerate(self._conditions) if context == where]
            along = np.asarray(self.question.controls[where] @ ways[here].T)
            variance[here] = along.var(axis=0, ddof=1)
            others[here] = variance[here] / moments.control_counts[where]
        if together:
            for i, (label, where) in enumerate(self._conditions):
                others[i] += variance[i] * sum(
                    1.0 / cells.get((single, where), planned) for single in label.singles
                )
        return needed(sizes, variance, others)

    def _reason(self, one: int) -> str:
        row = self._all.iloc[one]
        goal = self._goal
        if isinstance(goal, ReachTarget):
            said = (
                f"expected to leave {row['expected']:.0%} of the way to {self.question.target_name}, and nearer than "
                f"{self._best[1]}, the nearest measured, with a chance of {goal.chances[one]:.0%}"
            ).replace("%", " %")
        elif self.question.goal == "interactions":
            possible = float(np.sqrt(goal.variances[one]))
            said = (
                f"expected to differ from the sum of its parts by {row['expected']:.2g}, and by {possible:.2g} more or "
                "less is possible"
            )
        else:
            said = self._tells_of(one)
        return f"{said}; {EVIDENCE[self._predicted.evidence[one]]}"

    def _tells_of(self, one: int) -> str:
        """The other candidates that become surest by it."""
        column = np.square(self._beliefs.covariance[:, :, one])
        variance = np.einsum("jcc->jc", self._beliefs.covariance)[:, one] + self._goal.noise[:, one]
        told = (column / np.maximum(variance, np.finfo(float).tiny)[:, None]).sum(axis=0)
        share = told / np.maximum(self._goal.variances, np.finfo(float).tiny)
        itself = f"{share[one]:.0%} of its own variance goes".replace("%", " %")
        share[one] = 0.0
        order = np.argsort(-share, kind="stable")[:_TOLD_OF]
        others = [self.question.candidates[i].text for i in order if share[i] >= _WORTH_NAMING]
        return f"{itself}, and some of that of {listed(others)}" if others else itself

    def _answer(self, compared: pd.DataFrame) -> str:
        worth = compared.set_index("strategy")["worth"]
        ours, chance = float(worth.iloc[0]), float(worth["random"])
        goal = self._goal
        if isinstance(goal, ReachTarget):
            nearest = float(goal.chances.max())
            return answer_of_target(self.n, self.question.target_name, self._best[1], nearest, ours, chance)
        if self.question.goal == "interactions":
            return answer_of_interactions(len(self._conditions), self._n_claimed, ours, chance)
        return answer_of_responses(self.n, len(self._conditions), ours, chance)

    @property
    def _n_claimed(self) -> int:
        """Candidates whose deviation may be claimed, at a false discovery rate of 5 %."""
        variance = np.einsum("jcc->cj", self._beliefs.covariance).clip(min=0.0)
        rates = discoveries.of_queries(self._beliefs.mean, np.sqrt(variance))
        return int((rates <= discoveries.LEVEL).sum())

    @property
    def _more_notes(self) -> tuple[str, ...]:
        together = any(label.is_combination for label, _ in self.question.model.moments.conditions)
        if self.question.goal != "interactions" or together:
            return ()
        return (
            "no combination was measured, so nothing tells how strong interactions are: the choice goes by how strong "
            "and how uncertain the parts are",
        )

    @property
    def _meaning(self) -> dict[str, str]:
        expected, gain, worth = MEANINGS[self.question.goal]
        return {
            "expected": f"{expected}, with a 90 % interval",
            "gain": gain,
            "needed": f"cells that show the expected effect beside the control cells there are: {IN_WORDS}",
            "worth": f"{worth}, by the beliefs that chose ours",
        }
