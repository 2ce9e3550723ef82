"""The two-stage method as a Lightning module: what is built around ``TwoStage.iterate``."""

from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Generator

from perturbrl.envs.base import Task
from perturbrl.errors import ConfigurationError
from perturbrl.rl.processes import ALONE, Processes
from perturbrl.rl.rollouts import Rollouts, stream_seed
from perturbrl.rl.trust_region import TrustRegion
from perturbrl.schema import CellState
from perturbrl.training.actor_critic import build_optimizers
from perturbrl.training.agreement import CHECKPOINT_KEY
from perturbrl.training.algorithm import TwoStage
from perturbrl.training.iteration import Iteration
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    StageSchedule,
    TrustRegionOptions,
)
from perturbrl.training.plain_env import EnvFactory
from perturbrl.training.policy_module import PolicyModule
from perturbrl.twins.base import DigitalTwin


class TwoStageModule(PolicyModule):
    """A policy on a digital twin, trained in two stages (paper, Algorithm 1). One epoch is one iteration.

    Args:
        twin: digital twin, how cells move; null is a linear one with measured effects (GeneEffectTwin).
        task: where cells should go; null is the target population at no cost (ReachCellState).
        schedule: ``alternate`` runs both stages in every iteration, ``warm_start`` only the first in the first
            ``trust_region_iterations`` and only the second afterwards; the other two are the ablations.
        trust_region_iterations: length of the first phase of ``warm_start``.
        policy: networks of actor and critic.
        rollout: how experience is gathered.
        trust_region: options of stage 1.
        ppo: options of stage 2.
        critic: options of the critic's epochs.
        seed: seed of weights and all random streams.
        env: dotted path of a function of the number of cells that returns a TorchRL environment of that batch
            size, in place of twin and task; it must keep actions inside its bounds itself. Null is the twin's.
        n_candidates: how many of the perturbations the policy chooses among: those whose full dose alone, held for an
            episode, is paid most; null is all of them. Of hundreds, chance meets each too seldom to learn of it.
    """

    def __init__(
        self,
        twin: DigitalTwin | None = None,
        task: Task | None = None,
        schedule: StageSchedule = "alternate",
        trust_region_iterations: int = 5,
        policy: PolicyOptions = PolicyOptions(),
        rollout: RolloutOptions = RolloutOptions(),
        trust_region: TrustRegionOptions = TrustRegionOptions(),
        ppo: PPOOptions = PPOOptions(),
        critic: CriticOptions = CriticOptions(),
        seed: int = 0,
        env: EnvFactory | None = None,
        n_candidates: int | None = None,
    ) -> None:
        super().__init__(twin, task, policy, rollout, seed, env, n_candidates)
        self.automatic_optimization = False
        self.schedule, self.trust_region_iterations = schedule, trust_region_iterations
        self.trust_region, self.ppo, self.critic_options = trust_region, ppo, critic
        self.kl_coef = ppo.kl_coef
        self.rollouts: Rollouts | None = None
        self.algorithm: TwoStage | None = None

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Stage 1, stage 2 and the critic, in this order."""
        return build_optimizers(self.actor, self.critic, self.trust_region, self.ppo, self.critic_options)

    def on_fit_start(self) -> None:
        """Make the environment, now that the twin is on its device."""
        self._trained = True
        ranks = self.trainer.world_size
        if self.rollout.n_cells % ranks:
            raise ConfigurationError(
                f"rollout.n_cells is {self.rollout.n_cells}, which {ranks} processes cannot share; "
                f"give a multiple of {ranks}"
            )
        n_cells = self.rollout.n_cells // ranks
        env = self.make_env(
            n_cells,
            first_cell=self.global_rank * n_cells,
            total_cells=self.rollout.n_cells,
            restart_states=self._restart_states(),
            restart_fraction=self.rollout.restart_fraction,
        )
        steps = self.rollout.steps or self.rollout.horizon
        self.rollouts = Rollouts(env, self.actor, steps, self.seed, only_for_training=True)
        self.algorithm = self._algorithm(self.rollouts)

    def _algorithm(self, rollouts: Rollouts) -> TwoStage:
        natural, penalised, adaptive = self._optimizers()
        processes = self._processes()
        assert isinstance(natural.optimizer, TrustRegion)
        natural.optimizer.processes = processes
        return TwoStage(
            actor=self.actor,
            critic=self.critic,
            normaliser=self.normaliser,
            rollouts=rollouts,
            natural=natural,
            penalised=penalised,
            adaptive=adaptive,
            schedule=self.schedule,
            trust_region_iterations=self.trust_region_iterations,
            experience=self.rollout,
            trust_region=self.trust_region,
            ppo=self.ppo,
            critic_options=self.critic_options,
            seed=self.seed,
            n_iterations=self.trainer.max_epochs,
            mixed_precision=self.trainer.precision == "bf16-mixed",
            processes=processes,
        )

    def _restart_states(self) -> CellState | None:
        if self.rollout.restart_fraction == 0:
            return None
        attractors = list(self.twin.attractors().values())
        if not attractors or self.task.goal_depends_on_start:
            raise ConfigurationError(
                f"rollout.restart_fraction is {self.rollout.restart_fraction:g}, which needs a twin that knows its "
                "attractors and a task with one goal for all cells (ReachCellState with goal: centroid); give 0"
            )
        return self.twin.untouched(torch.cat(attractors).to(self.device))

    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def _processes(self) -> Processes:
        if self.trainer.world_size == 1:
            return ALONE
        strategy = self.trainer.strategy
        return Processes(
            lambda value: strategy.reduce(value.clone(), reduce_op="sum"),
            self.global_rank,
            self.trainer.world_size,
        )

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One iteration: experience, advantages, stage 1, stage 2, critic."""
        # Ratios and KLs compare the policy with itself, to which rounding would be a step: float32 for all of it.
        with torch.autocast(self.device.type, enabled=False):
            assert self.algorithm is not None
            if self.env is None:
                self.task.watch(self._explore)
            done = self.algorithm.iterate(self.current_epoch, self.kl_coef)
        self.kl_coef, self._has_learned = done.kl_coef, True
        self._log_iteration(done)

    def _explore(self, start: CellState) -> CellState:
        seed = stream_seed(self.seed, self.current_epoch, 7)
        return self.move(start, Generator(device=start.device).manual_seed(seed))

    def _log_iteration(self, done: Iteration) -> None:
        values = {name: float(value) for name, value in done.metrics().items()}
        several = self.trainer.world_size > 1
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=1, sync_dist=several)
        self.last_iteration = done

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to go on (see ``PolicyModule``)."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["kl_coef"] = self.kl_coef

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there (see ``PolicyModule``).

        Raises:
            CheckpointError: see ``PolicyModule``.
        """
        super().on_load_checkpoint(checkpoint)
        self.kl_coef = checkpoint[CHECKPOINT_KEY]["kl_coef"]
