"""What a batch of next experiments by expression is expected to bring, in words."""

from typing import Final

from perturbrl.planning.planned_experiments import Goal

MEANINGS: Final[dict[Goal, tuple[str, str, str]]] = {
    "responses": (
        "size of the shift from control",
        "share of the variance of all candidates that goes beside what those before it took",
        "share of the variance of all candidates that the batch takes away",
    ),
    "target": (
        "share of the way to the target that is left",
        "expected decrease of the squared distance left, beside those before it, as a share of what the nearest "
        "measured one leaves",
        "expected decrease of the squared distance left by the nearest measured one, as a share",
    ),
    "interactions": (
        "size of the deviation from the sum of the parts",
        "expected square of the deviation, as far as those before it leave it open",
        "expected squares of deviations, as far as others of the batch leave them open, summed over it",
    ),
}


def answer_of_responses(n: int, n_candidates: int, ours: float, chance: float) -> str:
    """Of a batch that is to teach the responses to all candidates."""
    return _spaced(
        f"These {n} take away {ours:.0%} of what is unsure of {n_candidates} candidates, as many random ones "
        f"{chance:.0%}."
    )


def answer_of_target(n: int, target: str, best: str, nearest: float, ours: float, chance: float) -> str:
    """Of a batch that is to come nearer to a target than the nearest measured one, ``best``."""
    likely = "No candidate is" if nearest < 0.5 else "A candidate is"
    return _spaced(
        f"{likely} likely to be nearer to {target} than {best} (largest chance {nearest:.0%}); these {n} are "
        f"expected to take {ours:.0%} off the squared distance it leaves, as many random ones {chance:.0%}."
    )


def answer_of_interactions(n_candidates: int, n_claimed: int, ours: float, chance: float) -> str:
    """Of a batch that is to find large deviations from the sum of the parts."""
    rate = "at a false discovery rate of 5 %"
    said = (
        f"{n_claimed} of {n_candidates} candidates are expected to deviate from the sum of their parts, {rate}"
        if n_claimed
        else f"No interaction of {n_candidates} candidates is expected with any certainty, {rate}: these go by what is "
        "possible"
    )
    return f"{said}; the batch is worth {ours:.2g}, a random one {chance:.2g}."


def _spaced(text: str) -> str:
    return text.replace("%", " %")
