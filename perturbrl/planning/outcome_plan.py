"""Next pairs by a number that was measured of others, such as growth; what is found is told by held-out pairs first."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import pearsonr

from perturbrl.data.labels import Label
from perturbrl.errors import ConfigurationError, listed
from perturbrl.planning.outcome_question import (
    OutcomeQuestion,
    allowed_pairs,
    label_of,
    n_strongest_of,
    panel_of,
)
from perturbrl.planning.outcome_search import (
    Effort,
    OutcomeBeliefs,
    OutcomeSearch,
    PairPanel,
    Strategy,
    choose,
)
from perturbrl.planning.planned_experiments import (
    PlannedExperiments,
    compared_batches,
    require_n,
)
from perturbrl.planning.power import IN_WORDS, needed

THOROUGH: Final = Effort(first=200, kept=100, thin=4)
OF_FOLDS: Final = Effort(first=80, kept=40, thin=4)
N_FOLDS: Final = 5
LEVEL: Final = 0.05
_NAMED: Final = 5


def plan_by_outcome(question: OutcomeQuestion, n: int) -> PlannedExperiments:
    """The ``n`` pairs to measure next.

    Raises:
        DataError: a measured pair has a member without a single, or fewer than ten pairs were measured, there
            are more pairs than ``MOST_PAIRS``; or see ``Costs``.
        ConfigurationError: the goal is no goal of outcomes, a candidate cannot be one, or ``n`` is none or too many.
    """
    if question.goal == "target":
        raise ConfigurationError(
            "goal is 'target' and an outcome is a number, which has no target population; give goal "
            "'interactions' or 'responses'"
        )
    panel, measured = panel_of(question)
    n_strongest = n_strongest_of(question, len(panel.pairs))
    beliefs = OutcomeSearch(panel, n_strongest, question.seed, THOROUGH).believe(measured)
    labels = [label_of(panel, row) for row in beliefs.open.tolist()]
    allowed = allowed_pairs(question, panel, labels)
    beliefs, labels = (
        _only(beliefs, allowed),
        [label for label, kept in zip(labels, allowed, strict=True) if kept],
    )
    require_n(n, len(labels))
    costs = np.ones(len(labels)) if question.costs is None else question.costs.each(labels)
    return _Plan(question, panel, measured, beliefs, labels, costs, n, n_strongest).made()


@dataclass(frozen=True, eq=False)
class _Plan:
    question: OutcomeQuestion
    panel: PairPanel
    measured: dict[int, float]
    beliefs: OutcomeBeliefs
    labels: list[Label]
    costs: Float[np.ndarray, " candidates"]
    n: int
    n_strongest: int

    def made(self) -> PlannedExperiments:
        """Table, comparison and what is to be said."""
        beliefs = self.beliefs
        chosen = self._batch(self._ours)
        scores = [("uncertainty", beliefs.sd), ("greedy", np.abs(beliefs.mean))]
        compared = compared_batches((self._ours, chosen), scores, self._worth, self.costs, self.question.seed)
        is_chosen = np.isin(np.arange(len(self.labels)), chosen)
        frame = pd.DataFrame(
            {
                "name": list(map(str, self.labels)),
                "expected": beliefs.mean,
                "sd": beliefs.sd,
                "chosen": is_chosen,
            }
        )
        correlation, chance = foretold(self.question, self.panel, self.measured, self.n_strongest)
        return PlannedExperiments(
            self.question.goal,
            self._table(chosen),
            compared,
            frame,
            self._answer(correlation, chance, compared),
            self._meaning,
            self._notes,
        )

    @property
    def _ours(self) -> Strategy:
        return "strong interactions" if self.question.goal == "interactions" else "learn"

    def _batch(self, strategy: Strategy) -> Int[np.ndarray, " chosen"]:
        return choose(self.beliefs, strategy, self.n, self.costs, np.random.default_rng(self.question.seed))

    def _worth(self, batch: Int[np.ndarray, " chosen"]) -> float:
        if self.question.goal == "interactions":
            return float(self.beliefs.chances[batch].sum())
        return self.beliefs.share_learned(batch)

    def _table(self, chosen: Int[np.ndarray, " chosen"]) -> pd.DataFrame:
        beliefs = self.beliefs
        low, high = np.quantile(beliefs.deviations[:, chosen], (0.05, 0.95), axis=0)
        noise = np.full(len(chosen), float(np.square(beliefs.noise_sd).mean()))
        repeats = needed(np.abs(beliefs.mean[chosen]), noise, np.zeros(len(chosen)))
        gains = np.diff([self._worth(chosen[: i + 1]) for i in range(len(chosen))], prepend=0.0)
        return pd.DataFrame(
            {
                "name": [str(self.labels[i]) for i in chosen.tolist()],
                "evidence": [self._evidence(i) for i in chosen.tolist()],
                "expected": beliefs.mean[chosen],
                "low": low,
                "high": high,
                "gain": gains,
                "needed": np.where(np.isfinite(repeats), repeats, np.nan),
                "cost": self.costs[chosen],
                "reason": [self._reason(i) for i in chosen.tolist()],
            }
        )

    def _evidence(self, candidate: int) -> str:
        alone = [
            name
            for name, count in zip(self.labels[candidate].names, self._partners(candidate), strict=True)
            if not count
        ]
        if not alone:
            return "combined"
        likened = all(any(prior.knows(name) for prior in self.panel.priors) for name in alone)
        return "prior" if likened else "none"

    def _partners(self, candidate: int) -> list[int]:
        """How many pairs of each member were measured."""
        members = self.panel.pairs[self.beliefs.open[candidate]]
        counts = np.bincount(self.panel.pairs[list(self.measured)].ravel(), minlength=len(self.panel.names))
        return [int(counts[member]) for member in members]

    def _reason(self, candidate: int) -> str:
        beliefs = self.beliefs
        side = "above" if beliefs.mean[candidate] > 0 else "below"
        seen = listed(
            [
                f"{count} pairs of {name}"
                for name, count in zip(self.labels[candidate].names, self._partners(candidate), strict=True)
            ]
        )
        return (
            f"expected {abs(beliefs.mean[candidate]):.2g} {side} the {self.question.expected}, and among the "
            f"{self.n_strongest} strongest with a chance of {beliefs.chances[candidate]:.0%}, by {seen}"
        ).replace("%", " %")

    def _answer(self, correlation: float, chance: float, compared: pd.DataFrame) -> str:
        if chance > LEVEL:
            return (
                "Nothing shows that interactions can be foretold: of measured pairs held out, predictions correlate by "
                f"{correlation:.2f} with what was measured (p = {chance:.2g}), so this batch may be no better than a "
                "random one."
            )
        worth = compared.set_index("strategy")["worth"]
        told = (
            f"{worth.iloc[0]:.1f} of the {self.n_strongest} strongest interactions are expected among these {self.n} "
            f"pairs, {worth['random']:.1f} among as many random ones"
            if self.question.goal == "interactions"
            else f"These {self.n} pairs take away {worth.iloc[0]:.1%} of the variance of all candidates, as many "
            f"random ones {worth['random']:.1%}".replace("%", " %")
        )
        return (
            f"{told}; of measured pairs held out, predictions correlate by {correlation:.2f} with what was measured "
            f"(p {'< 0.001' if chance < 0.001 else f'= {chance:.1g}'})."
        )

    @property
    def _meaning(self) -> dict[str, str]:
        worth = (
            f"expected number of the {self.n_strongest} strongest interactions in the batch"
            if self.question.goal == "interactions"
            else "share of the variance of all candidates that the batch takes away"
        )
        return {
            "expected": f"deviation from the {self.question.expected} over the singles' sum, fitted to all pairs, with "
            "a 90 % interval",
            "gain": f"what the pair adds to this: {worth}",
            "needed": f"repeats that show the expected deviation: {IN_WORDS}",
            "worth": f"{worth}, by the beliefs that chose ours",
        }

    @property
    def _notes(self) -> tuple[str, ...]:
        lost = self.question.outcomes.left_out
        return (f"{len(lost)} lines without a number are left out: {listed(lost, _NAMED)}",) if lost else ()


def foretold(
    question: OutcomeQuestion, panel: PairPanel, measured: dict[int, float], n_strongest: int
) -> tuple[float, float]:
    """Correlation of predictions with the deviations of measured pairs, each held out in turn, and its p-value."""
    rows = np.array(sorted(measured))
    fold = np.random.default_rng(question.seed).permutation(len(rows)) % N_FOLDS
    predicted, truth = np.zeros(len(rows)), np.zeros(len(rows))
    for one in range(N_FOLDS):
        kept = {int(row): measured[int(row)] for row in rows[fold != one]}
        beliefs = OutcomeSearch(panel, n_strongest, question.seed, OF_FOLDS).believe(kept)
        places = np.searchsorted(beliefs.open, rows[fold == one])
        predicted[fold == one] = beliefs.mean[places]
        values = np.array([measured[int(row)] for row in rows[fold == one]])
        truth[fold == one] = values - beliefs.curve[places]
    if predicted.std() == 0 or truth.std() == 0:
        return 0.0, 1.0
    found = pearsonr(predicted, truth, alternative="greater")
    return float(found.statistic), float(found.pvalue)


def _only(beliefs: OutcomeBeliefs, kept: Bool[np.ndarray, " open"]) -> OutcomeBeliefs:
    return OutcomeBeliefs(
        beliefs.open[kept],
        beliefs.deviations[:, kept],
        beliefs.noise_sd,
        beliefs.threshold,
        beliefs.found,
        beliefs.curve[kept],
    )
