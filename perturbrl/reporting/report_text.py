"""The report's sentences: the answer, and what should make a reader careful."""

import math
from collections.abc import Sequence
from typing import Final

from perturbrl.errors import listed
from perturbrl.evaluation.design import DesignEvaluation, DesignRow
from perturbrl.evaluation.hits import Hit
from perturbrl.evaluation.statistics import SIGNIFICANCE
from perturbrl.pl.names import plain_name

MAX_HITS_NAMED: Final = 3
FAR: Final = 0.5
SMALL: Final = 1e-4
_CLOSE_TO_ALL: Final = 0.99  # a ceiling above it says nothing
AS_MEASURED: Final = "as measured"
REVERSED: Final = "reversed"


def number(value: float) -> str:
    """A number as a person reads it; a dash where there is none."""
    if math.isnan(value):
        return "–"
    return "≈ 0" if 0 < abs(value) < SMALL else f"{value:.{2 if abs(value) < 0.1 else 3}g}".replace("-", "−")


def percent(value: float) -> str:
    """A share as a percentage."""
    if math.isnan(value):
        return "–"
    return "< 1 %" if 0 < value < 0.005 else f"{100 * value:.0f} %".replace("-0 ", "0 ").replace("-", "−")


def dosed(hits: Sequence[Hit]) -> list[str]:
    """The perturbations that at least half of the cells receive, strongest first, with what happens to the gene."""
    used = [
        hit.perturbation if hit.direction == AS_MEASURED else f"{hit.perturbation} {hit.direction}"
        for hit in hits
        if hit.share_of_cells >= 0.5
    ]
    return used[:MAX_HITS_NAMED] + [f"{len(used) - MAX_HITS_NAMED} more"] * (len(used) > MAX_HITS_NAMED)


def answer_sentence(evaluation: DesignEvaluation, hits: Sequence[Hit]) -> str:
    """The result in one sentence: what the policy does, and which design ends nearest, even where another does."""
    found = evaluation.detectability
    if found is not None and not found.detectable:
        return (
            f"No effect is detectable, so doing nothing is the right design: the cells of {evaluation.target} do not "
            f"differ from those at the start (permutation test of the energy distance, p = {found.p_value:.2g})."
        )
    policy = evaluation.row("policy")
    rivals = [_rival(evaluation), evaluation.row("no_op")]
    others = "".join(
        f"; {plain_name(row.name)}: {percent(row.success.estimate)}" for row in rivals if row is not None
    )
    share = percent(policy.success.estimate)
    return f"{_what_is_dosed(hits)} {share} of cells into {evaluation.target}{others}; {_comparison(evaluation)}."


def _rival(evaluation: DesignEvaluation) -> DesignRow | None:
    """The baseline that ends nearest, doing nothing aside."""
    rivals = [row for row in evaluation.rows if row.name not in ("policy", "no_op")]
    return min(rivals, key=lambda row: row.observed_distance, default=None)


def _what_is_dosed(hits: Sequence[Hit]) -> str:
    used = dosed(hits)
    if not used:
        return "The policy doses nothing in most cells and brings"
    return f"{listed(used)} {'bring' if len(used) > 1 else 'brings'}"


def _comparison(evaluation: DesignEvaluation) -> str:
    policy, winner = evaluation.row("policy"), evaluation.winner
    nearest = (winner.name, *evaluation.ties)
    if "policy" not in nearest:
        numbers = f"{number(winner.distance.estimate)} against {number(policy.distance.estimate)}"
        return f"{plain_name(winner.name)} ends nearer to the target than the policy (distance {numbers})"
    # One comparison that was meant from the start, so unlike those with the winner it is not one of many.
    if evaluation.nearness_p_value("policy", "no_op") > SIGNIFICANCE:
        return "as far as these cells can tell the policy ends no nearer to the target than doing nothing"
    others = [plain_name(name) for name in nearest if name not in ("policy", "no_op")]
    if not others:
        return "no other design ends as near to the target"
    return f"in distance to the target the policy cannot be told apart from {listed(others)}"


def certificate_sentences(evaluation: DesignEvaluation) -> tuple[str, ...]:
    """Whether a search is the better choice, and what no design can exceed; nothing where there is nothing to do."""
    found, certificate = evaluation.detectability, evaluation.certificate
    rival = certificate.rival
    if (found is not None and not found.detectable) or rival is None:
        return ()
    paid = percent(certificate.returns["policy"])
    if certificate.is_beaten:
        best = plain_name(certificate.best)
        named = f" ({listed(certificate.dosed)})" if certificate.dosed else ""
        said = (
            f"On the digital twin {best}{named} ends nearer: {percent(certificate.returns[certificate.best])} of the "
            f"way less prices, against the policy's {paid}. The policy earns nothing here; take the other design."
        )
    else:
        said = (
            "On the digital twin no search found a better design: the policy is worth "
            f"{paid} of the way less prices, {plain_name(rival)} {percent(certificate.returns[rival])}."
        )
    return said, *_ceiling(certificate.highest)


def _ceiling(highest: float) -> tuple[str, ...]:
    if math.isnan(highest) or highest > _CLOSE_TO_ALL:
        return ()
    return (f"No design within these limits can be worth more than {percent(highest)} there.",)


def caution(evaluation: DesignEvaluation) -> tuple[str, ...]:
    """What should make a reader careful."""
    found, winner = evaluation.detectability, evaluation.winner
    if found is None:
        return (
            "Fewer than 4 cells at the start or of the target: whether they differ at all cannot be tested.",
        )
    if not found.detectable:
        return ()
    left = winner.distance.estimate / max(evaluation.row("no_op").distance.estimate, 1e-12)
    if left > FAR:
        return (
            f"Even the nearest design ({plain_name(winner.name)}) leaves {percent(left)} of the distance: what may be "
            f"dosed does not lead to {evaluation.target}.",
        )
    return ()
