"""How a natural-gradient step can end, and what it did."""

from dataclasses import dataclass
from enum import StrEnum


class TrustRegionOutcome(StrEnum):
    """How a step ended; in every case but the first the parameters are bit for bit as before.

    Attributes:
        meaning: what happened, and what to look at.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "TrustRegionOutcome":
        """A member with its sentence."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    ACCEPTED = "accepted", "the step was taken: its KL is at most max_kl, and the surrogate rose"
    KL_EXCEEDED = (
        "kl_exceeded",
        "the shortest trial step still moved the policy by more than max_kl; raise cg_damping, or "
        "line_search_max_iter",
    )
    NO_IMPROVEMENT = (
        "no_improvement",
        "no trial step within max_kl raised the surrogate; the advantages may be noise, which more cells per "
        "iteration average out, or the policy has converged",
    )
    NON_FINITE = (
        "non_finite",
        "a gradient, a Fisher product or a trial step was not finite; look for NaN and infinity in observations, "
        "rewards and advantages",
    )
    ZERO_GRADIENT = (
        "zero_gradient",
        "the surrogate has no slope; look whether the reward differs between actions at all",
    )
    SINGULAR_CURVATURE = (
        "singular_curvature",
        "the policy does not change along the gradient, as where an action has become certain; an entropy bonus "
        "from the start keeps it from that",
    )


@dataclass(frozen=True)
class TrustRegionStep:
    """What one step did.

    ``kl`` is the mean over all states of all ranks of KL(π_old‖π_new) in nats, summed over action dimensions, and
    ``improvement`` the rise of the surrogate; both are 0 if the step was rejected. ``cg_residual`` is relative,
    ``cg_steps`` counts Fisher-vector products and ``backtracks`` the trials that failed.
    """

    outcome: TrustRegionOutcome
    kl: float = 0.0
    kl_per_dimension: float = 0.0
    improvement: float = 0.0
    cg_residual: float = 0.0
    cg_steps: int = 0
    backtracks: int = 0
