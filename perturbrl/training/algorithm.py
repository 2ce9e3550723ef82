"""The two-stage method on one page: arXiv 2510.13018, Algorithm 1."""

import time
from dataclasses import dataclass

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from tensordict import TensorDictBase
from torch import Generator
from torchrl.modules import ProbabilisticActor, ValueOperator

from perturbrl import schema
from perturbrl.rl.exploration import add_entropy_bonus
from perturbrl.rl.minibatches import Minibatches
from perturbrl.rl.normalisation import ObservationNormaliser
from perturbrl.rl.outcomes import TrustRegionStep
from perturbrl.rl.ppo_kl import Moved, PPOKLResult
from perturbrl.rl.processes import Processes
from perturbrl.rl.rollouts import Rollouts, add_advantages, returns, stream_seed
from perturbrl.training.actor_critic import step_options
from perturbrl.training.annealing import Annealing, annealed
from perturbrl.training.iteration import Iteration
from perturbrl.training.options import (
    CriticOptions,
    PPOOptions,
    RolloutOptions,
    StageSchedule,
    TrustRegionOptions,
)
from perturbrl.training.stages import improve_critic, improve_policy, normalise_advantages


@dataclass(frozen=True)
class TwoStage:
    """A policy and a critic, and all that improves them; ``iterate`` is the algorithm.

    Attributes:
        actor: the policy.
        critic: the state-value network.
        normaliser: what both pass observations through.
        rollouts: where experience comes from.
        natural: optimiser of stage 1.
        penalised: optimiser of stage 2.
        adaptive: optimiser of the critic.
        schedule: which iterations have which stage.
        trust_region_iterations: length of the first phase of ``warm_start``.
        experience: options of gathering.
        trust_region: options of stage 1.
        ppo: options of stage 2.
        critic_options: of the critic's epochs.
        seed: of all random streams.
        n_iterations: iterations of the whole run; ``None`` or -1 has no end.
        mixed_precision: whether the critic's epochs may use bfloat16.
        processes: that share the cells.
    """

    actor: ProbabilisticActor
    critic: ValueOperator
    normaliser: ObservationNormaliser | None
    rollouts: Rollouts
    natural: LightningOptimizer
    penalised: LightningOptimizer
    adaptive: LightningOptimizer
    schedule: StageSchedule
    trust_region_iterations: int
    experience: RolloutOptions
    trust_region: TrustRegionOptions
    ppo: PPOOptions
    critic_options: CriticOptions
    seed: int
    n_iterations: int | None
    mixed_precision: bool
    processes: Processes

    def iterate(self, iteration: int, kl_coef: float) -> Iteration:
        """Collect, weigh, stage 1, stage 2, critic.

        Args:
            iteration: its number, from 0, which is all that its random streams depend on.
            kl_coef: weight of the KL penalty, as the last iteration left it.
        """
        started = time.perf_counter()
        rollout = self.rollouts.collect(iteration)
        batch = self.with_advantages(rollout, iteration)
        first = self.natural_step(batch, iteration) if self.has_stage_one(iteration) else None
        second = None
        if self.has_stage_two(iteration):
            second, kl_coef = self.ppo_epochs(batch, iteration, first, kl_coef)
        error = self.critic_epochs(batch, iteration)
        if self.normaliser is not None:
            self.normaliser.update(batch[schema.OBSERVATION], self.processes)
        return Iteration(
            mean_return=self.mean_return(rollout),
            natural_step=first,
            ppo=second,
            critic_error=error,
            kl_coef=kl_coef,
            learning_rate=self.penalised.optimizer.param_groups[0]["lr"],
            frames_per_second=self.processes.count * len(batch) / (time.perf_counter() - started),
        )

    def has_stage_one(self, iteration: int) -> bool:
        """Whether an iteration takes a natural step."""
        return self.schedule in ("alternate", "trust_region_only") or (
            self.schedule == "warm_start" and iteration < self.trust_region_iterations
        )

    def has_stage_two(self, iteration: int) -> bool:
        """Whether an iteration has PPO epochs."""
        return self.schedule in ("alternate", "ppo_only") or (
            self.schedule == "warm_start" and iteration >= self.trust_region_iterations
        )

    def with_advantages(self, rollout: TensorDictBase, iteration: int) -> TensorDictBase:
        """The rollout as ``[rows]`` with advantages of unit spread, and what speaks for exploring in them."""
        add_advantages(
            rollout, self.critic, gamma=self.experience.gamma, gae_lambda=self.experience.gae_lambda
        )
        batch = rollout.reshape(-1)
        if self.experience.normalise_advantages:
            normalise_advantages(batch, self.processes)
        return add_entropy_bonus(batch, self.actor, self.experience.entropy_bonus_at(iteration))

    def natural_step(self, batch: TensorDictBase, iteration: int) -> TrustRegionStep:
        """Stage 1: a natural-gradient step inside a KL trust region."""
        group, options = self.natural.optimizer.param_groups[0], self.trust_region
        group.update(step_options(options))  # a resumed run's own, not those of its checkpoint
        group["max_kl"] = group["lr"] = self._annealed(options.max_kl, options.max_kl_annealing, iteration)
        step = self.natural.step(batch=batch)
        assert isinstance(step, TrustRegionStep)
        return step

    def ppo_epochs(
        self, batch: TensorDictBase, iteration: int, first: TrustRegionStep | None, kl_coef: float
    ) -> tuple[PPOKLResult, float]:
        """Stage 2: epochs of PPO with a KL penalty, from where stage 1 led; and the next ``kl_coef``."""
        return improve_policy(
            self.actor,
            self.penalised,
            batch,
            Minibatches(len(batch), self.ppo.minibatch_size, self.processes),
            self.ppo,
            moved=Moved() if first is None else Moved(first.kl, first.improvement),
            kl_coef=kl_coef,
            largest_rate=self._annealed(self.ppo.learning_rate, self.ppo.learning_rate_annealing, iteration),
            generator=self._generator(batch, iteration, 2),
        )

    def critic_epochs(self, batch: TensorDictBase, iteration: int) -> float:
        """The critic's regression on its value targets; the mean squared error."""
        options = self.critic_options
        return improve_critic(
            self.critic,
            self.adaptive,
            batch,
            Minibatches(len(batch), options.minibatch_size, self.processes),
            options,
            rate=self._annealed(options.learning_rate, options.learning_rate_annealing, iteration),
            mixed=self.mixed_precision,
            generator=self._generator(batch, iteration, 3),
        )

    def mean_return(self, rollout: TensorDictBase) -> float:
        """Mean return of the episodes that start in start cells."""
        restarts = getattr(self.rollouts.env, "restarts", None)
        after = rollout[schema.NEXT].select(schema.REWARD, schema.DONE)
        sums = returns(after if restarts is None else after[~restarts])
        total, count = self.processes.sum(sums).tolist()
        return total / count

    def _generator(self, batch: TensorDictBase, iteration: int, stream: int) -> Generator:
        device = batch[schema.OBSERVATION].device
        return torch.Generator(device=device).manual_seed(stream_seed(self.seed, iteration, stream))

    def _annealed(self, largest: float, annealing: Annealing, iteration: int) -> float:
        return annealed(largest, annealing, iteration, self.n_iterations)
