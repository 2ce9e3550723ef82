"""What is asked of measured outcomes: which pairs there are, which may be chosen, and how many are sought."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from jaxtyping import Bool

from perturbrl.data.candidate_names import CandidateNames
from perturbrl.data.costs import Costs
from perturbrl.data.labels import Label
from perturbrl.data.outcomes import Outcomes
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import ConfigurationError, DataError, listed
from perturbrl.planning.outcome_search import Expected, PairPanel
from perturbrl.planning.planned_experiments import Goal

FEWEST_PAIRS: Final = 10
MOST_PAIRS: Final = 10_000
SHARE_STRONG: Final = 0.02
_NAMED: Final = 5


@dataclass(frozen=True, eq=False)
class OutcomeQuestion:
    """Outcomes and what is asked of them.

    Attributes:
        outcomes: measured singles and pairs.
        goal: ``interactions``, or ``responses`` to learn the outcomes of all pairs.
        priors: what is known of perturbations.
        candidates: pairs that may be chosen, or a file of them; ``None`` allows all of members with a measured single.
        costs: of perturbations or pairs; ``None`` is 1 each.
        expected: the curve from which interactions count.
        n_strongest: how many of the largest are sought; ``None`` is 2 % of all pairs.
        seed: of all draws.
    """

    outcomes: Outcomes
    goal: Goal = "interactions"
    priors: tuple[PriorKnowledge, ...] = ()
    candidates: str | Sequence[str] | None = None
    costs: Costs | None = None
    expected: Expected = "parabola"
    n_strongest: int | None = None
    seed: int = 0


def n_strongest_of(question: OutcomeQuestion, n_pairs: int) -> int:
    """How many of the strongest interactions are sought.

    Raises:
        ConfigurationError: none, or all pairs.
    """
    if question.n_strongest is None:
        return max(1, round(SHARE_STRONG * n_pairs))
    if not 0 < question.n_strongest < n_pairs:
        raise ConfigurationError(
            f"n_strongest is {question.n_strongest} and there are {n_pairs} pairs; give a number from 1 to "
            f"{n_pairs - 1}"
        )
    return question.n_strongest


def panel_of(question: OutcomeQuestion) -> tuple[PairPanel, dict[int, float]]:
    """All pairs of perturbations with an outcome alone, and what was measured of them by number.

    Raises:
        DataError: a measured pair has a member without a single, pairs are too few, or more than ``MOST_PAIRS``.
    """
    outcomes = question.outcomes
    absent = sorted({name for label in outcomes.pairs for name in label.names} - set(outcomes.singles))
    if absent:
        raise DataError(
            f"{len(absent)} perturbations of measured pairs have no number alone ({listed(absent, _NAMED)}), and an "
            "interaction is what a pair has beside its singles; add them to the outcome, or leave those pairs out"
        )
    if len(outcomes.pairs) < FEWEST_PAIRS:
        raise DataError(
            f"the outcome of only {len(outcomes.pairs)} pairs was measured, which tells too little of the others; "
            f"measure {FEWEST_PAIRS} or more first, at random"
        )
    names = tuple(sorted(outcomes.singles))
    n_pairs = len(names) * (len(names) - 1) // 2
    if n_pairs > MOST_PAIRS:
        raise DataError(
            f"{len(names)} singles have {n_pairs:,} pairs, and {MOST_PAIRS:,} are compared at most; leave singles out "
            "of the outcome that no candidate needs"
        )
    place = {name: i for i, name in enumerate(names)}
    pairs = list(combinations(range(len(names)), 2))
    row_of = {pair: row for row, pair in enumerate(pairs)}
    singles = np.array([outcomes.singles[name] for name in names])
    measured = {
        row_of[place[label.names[0]], place[label.names[1]]]: value for label, value in outcomes.pairs.items()
    }
    return PairPanel(names, np.array(pairs), singles, question.priors, question.expected), measured


def label_of(panel: PairPanel, row: int) -> Label:
    """Of a pair of the panel."""
    return Label.parse("+".join(panel.names[member] for member in panel.pairs[row]), doses=False)


def allowed_pairs(
    question: OutcomeQuestion, panel: PairPanel, labels: Sequence[Label]
) -> Bool[np.ndarray, " open"]:
    """Which open pairs may be chosen.

    Raises:
        ConfigurationError: a named pair is measured, or is none of the panel.
    """
    if question.candidates is None:
        return np.ones(len(labels), dtype=bool)
    given = CandidateNames.of(question.candidates)
    wanted = {Label.parse(name, doses=False) for name in given.names}
    measured = sorted(wanted & set(question.outcomes.pairs))
    if measured and given.file is None:
        raise ConfigurationError(
            f"{listed(measured, _NAMED)} among the candidates is measured already, and measuring it again would be a "
            "replicate; leave it out of candidates"
        )
    found = np.array([label in wanted for label in labels])
    unknown = sorted(wanted - set(labels) - set(measured))
    if unknown and (given.file is None or not found.any()):
        raise ConfigurationError(
            f"{listed(unknown, _NAMED)} among the candidates is no pair of perturbations with an outcome alone; choose "
            f"pairs of {listed(panel.names, _NAMED)}"
        )
    return found
