"""Every option of the two-stage optimiser, documented where ``--help`` reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from perturbrl.errors import ConfigurationError
from perturbrl.rl.step_options import StepOptions
from perturbrl.training.annealing import Annealing

# Squares of a standard deviation and of its reciprocal are numbers in float32 well beyond.
MOST_LOG_STD: Final = 20.0

StageSchedule = Literal["alternate", "warm_start", "trust_region_only", "ppo_only"]


def _require(condition: bool, option: str, value: object, meaning: str) -> None:
    if not condition:
        raise ConfigurationError(f"{option} is {value!r}; give {meaning}")


@dataclass(frozen=True)
class SyntheticOptions:
    """A simulated screen in place of a data file.

    Args:
        n_perturbations: genes perturbed one at a time.
        n_genes: genes measured.
        n_control: control cells.
        cells_per_perturbation: cells of every perturbation and pair.
        n_combinations: pairs of perturbations measured, too.
        effect_size: length of every effect in the space of gene programs.
        seed: seed of the simulation.
    """

    n_perturbations: int = 8
    n_genes: int = 200
    n_control: int = 200
    cells_per_perturbation: int = 60
    n_combinations: int = 4
    effect_size: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_perturbations", "n_genes", "n_control", "cells_per_perturbation"):
            _require(getattr(self, name) >= 1, f"synthetic.{name}", getattr(self, name), "at least 1")
        pairs = self.n_perturbations * (self.n_perturbations - 1) // 2
        wanted = f"0 to {pairs}, the pairs of {self.n_perturbations} perturbations"
        _require(0 <= self.n_combinations <= pairs, "synthetic.n_combinations", self.n_combinations, wanted)
        _require(self.effect_size >= 0, "synthetic.effect_size", self.effect_size, "0 or more")


@dataclass(frozen=True)
class PolicyOptions:
    """The actor and the critic.

    Args:
        hidden_sizes: widths of the hidden layers of both networks.
        init_log_std: logarithm of the first standard deviation of a dose, in half dose ranges, at most.
        normalise_observations: centre and scale what both networks see by running moments over all processes,
            updated between iterations and frozen at test.
        kind: ``doses`` gives every perturbation a dose at every step, drawn from a Gaussian; ``choices`` picks one
            perturbation per step, at one of a few doses, or stops. Choices are scored by their features, so that the
            policy does not grow with their number, and it begins as the greedy planner that explores.
        exploration: how far exploring leads at first. Of choices: the share of what the best one gains that is given
            up, below 1. Of doses: the standard deviation of where cells are brought, in ways to go, at most; a wider
            first one is scaled down to it. Null is 0.5 of choices and 1 of doses.
        dose_levels: doses to choose from, equal steps up to the largest.
    """

    hidden_sizes: Sequence[int] = (64, 64)
    init_log_std: float = -0.5
    normalise_observations: bool = False
    kind: Literal["doses", "choices"] = "doses"
    exploration: float | None = None
    dose_levels: int = 10

    def __post_init__(self) -> None:
        widths = tuple(self.hidden_sizes)
        _require(min(widths, default=1) >= 1, "policy.hidden_sizes", widths, "widths of at least 1")
        _require(self.kind in ("doses", "choices"), "policy.kind", self.kind, "'doses' or 'choices'")
        explored, in_range = self.exploration, self.exploration is None or self.exploration > 0
        below_all = self.kind == "doses" or explored is None or explored < 1
        wanted = "a number above 0" + (" and below 1" if self.kind == "choices" else "")
        _require(in_range and below_all, "policy.exploration", explored, f"{wanted}, or null")
        _require(self.dose_levels >= 1, "policy.dose_levels", self.dose_levels, "at least 1")
        log_std = self.init_log_std
        _require(
            abs(log_std) <= MOST_LOG_STD, "policy.init_log_std", log_std, f"at most {MOST_LOG_STD:g} in size"
        )

    @property
    def first_exploration(self) -> float:
        """How far exploring leads at first (see ``exploration``)."""
        if self.exploration is not None:
            return self.exploration
        return 0.5 if self.kind == "choices" else 1.0


@dataclass(frozen=True)
class RolloutOptions:
    """How experience is gathered.

    Args:
        n_cells: cells simulated side by side, over all processes.
        horizon: steps of an episode.
        steps: steps of every cell per iteration; null is one episode.
        settle: whether cells settle after their last dose before an episode ends, as they do before a design is
            judged: a policy is then paid for where they come to rest, and not for where a dose holds them.
        gamma: discount per step.
        gae_lambda: decay of generalised advantage estimation.
        normalise_advantages: give the advantages of an iteration mean 0 and variance 1, over all processes.
        restart_fraction: share of cells whose episodes start in a randomly drawn attractor of the twin instead
            of a start cell (a simulator can be reset anywhere); the return is that of the others.
        entropy_bonus: weight of the policy's entropy beside advantages of unit spread, in both stages: the
            share of a standard deviation that an action e times less probable than average is favoured by.
        entropy_iterations: iterations over which ``entropy_bonus`` falls to 0 in a straight line; null keeps it.
    """

    n_cells: int = 1024
    horizon: int = 1
    steps: int | None = None
    settle: bool = False
    gamma: float = 1.0
    gae_lambda: float = 0.95
    normalise_advantages: bool = True
    restart_fraction: float = 0.0
    entropy_bonus: float = 0.0
    entropy_iterations: int | None = None

    def __post_init__(self) -> None:
        _require(self.n_cells >= 1, "rollout.n_cells", self.n_cells, "at least 1")
        _require(self.horizon >= 1, "rollout.horizon", self.horizon, "at least 1")
        _require(self.steps is None or self.steps >= 1, "rollout.steps", self.steps, "at least 1, or null")
        _require(0 < self.gamma <= 1, "rollout.gamma", self.gamma, "a number in (0, 1]")
        _require(0 <= self.gae_lambda <= 1, "rollout.gae_lambda", self.gae_lambda, "a number in [0, 1]")
        share = self.restart_fraction
        _require(0 <= share < 1, "rollout.restart_fraction", share, "a number in [0, 1)")
        _require(self.entropy_bonus >= 0, "rollout.entropy_bonus", self.entropy_bonus, "0 or more")
        span = self.entropy_iterations
        _require(span is None or span >= 1, "rollout.entropy_iterations", span, "at least 1, or null")

    def entropy_bonus_at(self, iteration: int) -> float:
        """Weight of the entropy in one iteration."""
        if self.entropy_iterations is None:
            return self.entropy_bonus
        return self.entropy_bonus * max(0.0, 1.0 - iteration / self.entropy_iterations)


@dataclass(frozen=True)
class TrustRegionOptions(StepOptions):
    """Stage 1, the natural-gradient step; the other options are those of ``StepOptions``.

    Args:
        max_kl_annealing: how ``max_kl`` falls towards 0 over trainer.max_epochs.
    """

    max_kl_annealing: Annealing = "constant"


@dataclass(frozen=True)
class PPOOptions:
    """Stage 2, PPO epochs with a KL penalty.

    Args:
        epochs: passes over the batch per iteration.
        minibatch_size: rows per gradient step, over all processes.
        learning_rate: step size of Adam, at most; it is lowered where the KL limit cuts an epoch short.
        learning_rate_annealing: how that largest step size falls towards 0 over trainer.max_epochs.
        kl_coef: first weight of the KL penalty.
        kl_coef_factor: what the weight, and Adam's step size, are multiplied or divided by once per iteration; 1 fixes
            both (the fixed penalty of Schulman 2017, section 6.1).
        target_kl: KL in nats that stage 2 may add to what stage 1 did.
        kl_stop: stop before a minibatch whose KL exceeds that of stage 1 by ``kl_stop * target_kl``.
        clip_epsilon: clip the ratio to [1 - e, 1 + e]; null does not clip.
        max_grad_norm: clip the gradient's norm; null does not clip.
    """

    epochs: int = 4
    minibatch_size: int = 256
    learning_rate: float = 1e-3
    learning_rate_annealing: Annealing = "constant"
    kl_coef: float = 1.0
    kl_coef_factor: float = 1.5
    target_kl: float = 0.05
    kl_stop: float = 2.0
    clip_epsilon: float | None = None
    max_grad_norm: float | None = 1.0

    def __post_init__(self) -> None:
        _require(self.epochs >= 0, "ppo.epochs", self.epochs, "0 or more")
        _require(self.minibatch_size >= 1, "ppo.minibatch_size", self.minibatch_size, "at least 1")
        _require(self.kl_coef > 0, "ppo.kl_coef", self.kl_coef, "a positive number")
        _require(self.kl_coef_factor >= 1, "ppo.kl_coef_factor", self.kl_coef_factor, "1 or more")
        _require(self.target_kl > 0, "ppo.target_kl", self.target_kl, "a positive number of nats")
        _require(self.kl_stop > 0, "ppo.kl_stop", self.kl_stop, "a positive number")
        _require(self.learning_rate > 0, "ppo.learning_rate", self.learning_rate, "a positive number")
        clip, norm = self.clip_epsilon, self.max_grad_norm
        _require(clip is None or clip > 0, "ppo.clip_epsilon", clip, "a positive number, or null")
        _require(norm is None or norm > 0, "ppo.max_grad_norm", norm, "a positive number, or null")


@dataclass(frozen=True)
class CriticOptions:
    """The critic's own epochs.

    Args:
        epochs: passes over the batch per iteration.
        minibatch_size: rows per gradient step, over all processes.
        learning_rate: step size of Adam.
        learning_rate_annealing: how it falls towards 0 over trainer.max_epochs.
        max_grad_norm: clip the gradient's norm; null does not clip.
    """

    epochs: int = 4
    minibatch_size: int = 256
    learning_rate: float = 1e-3
    learning_rate_annealing: Annealing = "constant"
    max_grad_norm: float | None = 1.0

    def __post_init__(self) -> None:
        _require(self.epochs >= 0, "critic.epochs", self.epochs, "0 or more")
        _require(self.minibatch_size >= 1, "critic.minibatch_size", self.minibatch_size, "at least 1")
        _require(self.learning_rate > 0, "critic.learning_rate", self.learning_rate, "a positive number")
        norm = self.max_grad_norm
        _require(norm is None or norm > 0, "critic.max_grad_norm", norm, "a positive number, or null")
