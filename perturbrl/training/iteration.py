"""What one iteration did: as logged metrics, and read back as one line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perturbrl.rl.outcomes import TrustRegionOutcome, TrustRegionStep
from perturbrl.rl.ppo_kl import PPOKLResult


def outcome_column(outcome: TrustRegionOutcome) -> str:
    """The name under which it is logged whether a natural step ended like this."""
    return f"trust_region/{outcome.value}"


def outcome_in(metrics: Mapping[str, Any]) -> TrustRegionOutcome | None:
    """How the natural step of one iteration ended; ``None`` where it took none."""
    return next((o for o in TrustRegionOutcome if float(metrics.get(outcome_column(o), 0)) == 1), None)


@dataclass(frozen=True)
class Iteration:
    """The outcome of both stages and of the critic.

    Attributes:
        mean_return: mean return of the episodes gathered, by the exploring policy.
        natural_step: what stage 1 did; ``None`` where the schedule left it out.
        ppo: what stage 2 did; ``None`` where the schedule left it out.
        critic_error: mean squared error of the critic's last epoch.
        kl_coef: weight of the KL penalty in the next iteration.
        learning_rate: step size of stage 2 in the next iteration.
        frames_per_second: frames gathered and learned from, per second of the whole iteration.
    """

    mean_return: float
    natural_step: TrustRegionStep | None
    ppo: PPOKLResult | None
    critic_error: float
    kl_coef: float
    learning_rate: float
    frames_per_second: float

    def metrics(self) -> dict[str, float]:
        """One number per name, as the loggers take them; every outcome has a column, 1 for the one that came about."""
        values: dict[str, float] = {"return": self.mean_return, "critic/error": self.critic_error}
        if self.natural_step is not None:
            fields = vars(self.natural_step)
            values |= {f"trust_region/{name}": fields[name] for name in fields if name != "outcome"}
            values |= {outcome_column(o): float(o is self.natural_step.outcome) for o in TrustRegionOutcome}
        if self.ppo is not None:
            values |= {f"ppo/{name}": float(value) for name, value in vars(self.ppo).items()}
            values |= {"ppo/kl_coef": self.kl_coef, "ppo/learning_rate": self.learning_rate}
        values["frames_per_second"] = self.frames_per_second
        return values


def iteration_line(metrics: Mapping[str, Any]) -> str:
    """One iteration in one line: return, both KLs, the natural step's outcome, speed."""
    parts = [f"return {float(metrics['return']):+.3f}"]
    outcome = outcome_in(metrics)
    if outcome is not None:
        parts.append(f"natural step {outcome.value} at KL {float(metrics['trust_region/kl']):.3f}")
    if "ppo/kl" in metrics:
        parts.append(f"PPO {int(metrics['ppo/steps'])} steps to KL {float(metrics['ppo/kl']):.3f}")
        parts.append(f"kl_coef {float(metrics['ppo/kl_coef']):.2g}")
    parts.append(f"{float(metrics['frames_per_second']):,.0f} frames/s")
    return ", ".join(parts)


def short_line(metrics: Mapping[str, Any]) -> str:
    """The same for a progress bar on a narrow terminal: KL after each stage, and the penalty's weight as β."""
    parts = [f"return {float(metrics['return']):+.3f}"]
    kls = [f"{float(metrics[key]):.2f}" for key in ("trust_region/kl", "ppo/kl") if key in metrics]
    outcome = outcome_in(metrics)
    if outcome is not None:
        kls.append(outcome.value)
    if kls:
        parts.append(f"KL {' '.join(kls)}")
    if "ppo/kl" in metrics:
        parts.append(f"β {float(metrics['ppo/kl_coef']):.2g}")
    parts.append(f"{float(metrics['frames_per_second']):,.0f} frames/s")
    return ", ".join(parts)
