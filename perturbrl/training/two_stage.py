"""The two-stage optimiser as a Lightning module: a natural-gradient step, then PPO epochs with a KL penalty."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from tensordict import TensorDictBase
from torch import Generator, Tensor
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.envs.base import CellStateEnv, DigitalTwin, Task, relax
from perturbrl.envs.gene_effect import GeneEffectTwin
from perturbrl.envs.perturbations import PerturbationSpace
from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import CheckpointError, ConfigurationError
from perturbrl.rl.policies import categorical_actor, critic, gaussian_actor
from perturbrl.rl.ppo_kl import (
    Minibatches,
    PPOKLLoss,
    PPOKLResult,
    adapt_kl_coef,
    adapt_learning_rate,
    critic_epochs,
    ppo_kl_epochs,
    refit_head,
)
from perturbrl.rl.rollouts import Rollouts, add_advantages, stream_seed
from perturbrl.rl.trust_region import TrustRegion, TrustRegionStep
from perturbrl.schema import CellState
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.iteration import Iteration
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    Schedule,
    TrustRegionOptions,
)

CHECKPOINT_KEY = "perturbrl"
ATTRACTOR_CELLS = 256


class TwoStageModule(LightningModule):
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
    """

    goal_cells: CellState

    def __init__(
        self,
        twin: DigitalTwin | None = None,
        task: Task | None = None,
        schedule: Schedule = "alternate",
        trust_region_iterations: int = 5,
        policy: PolicyOptions = PolicyOptions(),
        rollout: RolloutOptions = RolloutOptions(),
        trust_region: TrustRegionOptions = TrustRegionOptions(),
        ppo: PPOOptions = PPOOptions(),
        critic: CriticOptions = CriticOptions(),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.twin: DigitalTwin = GeneEffectTwin() if twin is None else twin
        self.task: Task = ReachCellState() if task is None else task
        self.schedule, self.trust_region_iterations = schedule, trust_region_iterations
        self.policy, self.rollout = policy, rollout
        self.trust_region, self.ppo, self.critic_options = trust_region, ppo, critic
        self.seed = seed
        self.kl_coef = ppo.kl_coef
        self.register_buffer("goal_cells", torch.empty(0, 0))
        self.space: PerturbationSpace | None = None
        self.rollouts: Rollouts | None = None

    # -- building ----------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Fit the twin to training cells; for other stages a checkpoint follows (``on_load_checkpoint``)."""
        if stage == "fit" and self.space is None:
            self._aim(self.data)
            self._build_networks(self.task.observation_dim + 1)

    @property
    def data(self) -> PerturbationDataModule:
        """The cells this module is trained and judged on.

        Raises:
            ConfigurationError: the trainer has other data, or none.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, PerturbationDataModule):
            raise ConfigurationError(
                f"the trainer's data are {type(data).__name__}; give it a PerturbationDataModule as datamodule"
            )
        return data

    def _aim(self, data: PerturbationDataModule) -> None:
        if data.target is None:
            raise ConfigurationError(
                "data.target is null; name the perturbation or attractor cells should reach"
            )
        if data.has_cells:
            self.twin.fit(data.training_cells(), data.encoder)
            start = data.cells(data.source, "train")
        elif self.twin.needs_data:
            raise ConfigurationError(
                f"{type(self.twin).__name__} learns from cells but data.path is null; give data.path a file"
            )
        else:
            start = self._population(data.source)
        self.twin.start_from(start)
        self.goal_cells = self._find_goal(data)
        self.task.aim(start, self.goal_cells)
        self.space = data.restrict(self.twin)

    def _find_goal(self, data: PerturbationDataModule) -> CellState:
        """Target cells that define the goal (never those that judge), or cells in the target attractor."""
        target = str(data.target)
        return data.cells(target, "goal") if data.has_cells else self._population(target)

    @property
    def gene_names(self) -> Sequence[str]:
        """Names of the columns of ``twin.expression``."""
        return self.data.genes if self.data.has_cells else self.twin.gene_names

    @torch.no_grad()
    def _population(self, name: str) -> CellState:
        """Cells that rest in an attractor of the network, spread by its noise."""
        attractors = self.twin.attractors()
        if name not in attractors:
            raise ConfigurationError(
                f"the network has no attractor '{name}'; choose data.source and data.target among "
                f"{', '.join(attractors)}"
            )
        generator = Generator(device=self.device).manual_seed(stream_seed(self.seed, 0, 4))
        state = attractors[name].expand(ATTRACTOR_CELLS, -1)
        return relax(self.twin, state, generator)

    def _build_networks(self, width: int) -> None:
        space, sizes = self.require_space(), self.policy.hidden_sizes
        self._observation_dim = width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if space.discrete:
                self.actor: ProbabilisticActor = categorical_actor(width, space.n_actions, sizes)
            else:
                self.actor = gaussian_actor(width, space.low, space.high, sizes, self.policy.init_log_std)
            self.critic = critic(width, sizes)

    def require_space(self) -> PerturbationSpace:
        """What may be dosed; known after ``setup``.

        Raises:
            ConfigurationError: the module is not set up yet.
        """
        if self.space is None:
            raise ConfigurationError(
                "there is no trained policy: no checkpoint was given and nothing was fitted; fit first, or give "
                "--ckpt_path"
            )
        return self.space

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Stage 1, stage 2 and the critic, in this order."""
        options = vars(self.trust_region)
        return [
            TrustRegion(self.actor, **options),
            torch.optim.Adam(self.actor.parameters(), lr=self.ppo.learning_rate, fused=True),
            torch.optim.Adam(self.critic.parameters(), lr=self.critic_options.learning_rate, fused=True),
        ]

    # -- one iteration -----------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Make the environment, now that the twin is on its device."""
        ranks = self.trainer.world_size
        if self.rollout.n_cells % ranks:
            raise ConfigurationError(
                f"rollout.n_cells is {self.rollout.n_cells}, which {ranks} processes cannot share; "
                f"give a multiple of {ranks}"
            )
        n_cells = self.rollout.n_cells // ranks
        env = self.make_env(n_cells, self.global_rank * n_cells, self.rollout.n_cells)
        steps = self.rollout.steps or self.rollout.horizon
        self.rollouts = Rollouts(env, self.actor, steps, self.seed, only_for_training=True)
        for optimizer in self._optimizers():
            if isinstance(optimizer.optimizer, TrustRegion):
                optimizer.optimizer.reduce_sum = self._reduce_sum

    def make_env(self, n_cells: int, first_cell: int = 0, total_cells: int | None = None) -> CellStateEnv:
        """The twin, the task and the limits on doses as a TorchRL environment of ``n_cells``."""
        return CellStateEnv(
            self.twin,
            self.task,
            space=self.require_space().to(self.device),
            horizon=self.rollout.horizon,
            n_cells=n_cells,
            first_cell=first_cell,
            total_cells=total_cells,
        )

    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def _reduce_sum(self, value: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return value
        return self.trainer.strategy.reduce(value.clone(), reduce_op="sum")

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One iteration: experience, advantages, stage 1, stage 2, critic."""
        started = time.perf_counter()
        iteration = self.current_epoch
        assert self.rollouts is not None
        rollout = self.rollouts.collect(iteration)
        add_advantages(rollout, self.critic, gamma=self.rollout.gamma, gae_lambda=self.rollout.gae_lambda)
        mean_return = self._mean_return(rollout)
        flat = self._normalise_advantages(rollout.reshape(-1))
        natural, penalised, adaptive = self._optimizers()
        first = self._stage_one(flat, natural, iteration)
        second = self._stage_two(flat, penalised, iteration, 0.0 if first is None else first.kl)
        error = self._improve_critic(flat, adaptive, iteration)
        frames = self.rollouts.steps * self.rollout.n_cells
        self._log_iteration(
            Iteration(
                mean_return=mean_return,
                natural_step=first,
                ppo=second,
                critic_error=error,
                kl_coef=self.kl_coef,
                learning_rate=penalised.optimizer.param_groups[0]["lr"],
                frames_per_second=frames / (time.perf_counter() - started),
            )
        )

    def _mean_return(self, rollout: TensorDictBase) -> float:
        after = rollout[schema.NEXT]
        episodes = after[schema.DONE].sum().clamp_min(rollout.shape[0])
        total, count = self._reduce_sum(torch.stack((after[schema.REWARD].sum(), episodes.float()))).tolist()
        return total / count

    def _normalise_advantages(self, flat: TensorDictBase) -> TensorDictBase:
        advantage = flat[schema.ADVANTAGE]
        value = advantage.double()
        moments = torch.stack((value.sum(), value.square().sum(), value.new_tensor(value.numel())))
        total, squares, count = self._reduce_sum(moments)
        mean = total / count
        spread = (squares / count - mean.square()).clamp_min(0).sqrt()
        flat[schema.ADVANTAGE] = ((value - mean) / (spread + 1e-8)).to(advantage.dtype)
        return flat

    def _stage_one(
        self, flat: TensorDictBase, optimizer: LightningOptimizer, iteration: int
    ) -> TrustRegionStep | None:
        if self.schedule == "ppo_only":
            return None
        if self.schedule == "warm_start" and iteration >= self.trust_region_iterations:
            return None
        return optimizer.step(batch=flat)

    def _minibatches(self, n_rows: int, size: int) -> Minibatches:
        ranks = self.trainer.world_size
        return Minibatches(n_rows, self.global_rank * n_rows, ranks * n_rows, size)

    def _generator(self, iteration: int, stream: int) -> Generator:
        return Generator(device=self.device).manual_seed(stream_seed(self.seed, iteration, stream))

    def _stage_two(
        self, flat: TensorDictBase, optimizer: LightningOptimizer, iteration: int, kl_first: float
    ) -> PPOKLResult | None:
        options = self.ppo
        if self.schedule == "trust_region_only":
            return None
        if self.schedule == "warm_start" and iteration < self.trust_region_iterations:
            return None
        minibatches = self._minibatches(len(flat), options.minibatch_size)
        result = ppo_kl_epochs(
            PPOKLLoss(self.actor, options.entropy_coef, options.clip_epsilon),
            optimizer.step,
            flat,
            minibatches,
            epochs=options.epochs,
            kl_coef=self.kl_coef,
            kl_limit=kl_first + options.kl_stop * options.target_kl,
            max_grad_norm=options.max_grad_norm,
            generator=self._generator(iteration, 2),
            reduce_sum=self._reduce_sum,
            on_policy=kl_first == 0.0,
        )
        threshold = kl_first + options.target_kl
        self.kl_coef = adapt_kl_coef(self.kl_coef, result.kl, threshold, options.kl_coef_factor)
        group = optimizer.optimizer.param_groups[0]
        group["lr"] = adapt_learning_rate(
            group["lr"], result, minibatches.per_epoch, options.learning_rate, options.kl_coef_factor
        )
        if result.reverted:
            optimizer.optimizer.state.clear()  # its momentum points where the steps were taken back from
        return result

    def _improve_critic(self, flat: TensorDictBase, optimizer: LightningOptimizer, iteration: int) -> float:
        options = self.critic_options
        error = critic_epochs(
            self.critic,
            optimizer.step,
            flat,
            self._minibatches(len(flat), options.minibatch_size),
            epochs=options.epochs,
            max_grad_norm=options.max_grad_norm,
            generator=self._generator(iteration, 3),
            reduce_sum=self._reduce_sum,
        )
        refit_head(self.critic, flat, self._reduce_sum)
        return error.item()

    def _log_iteration(self, done: Iteration) -> None:
        values = {name: float(value) for name, value in done.metrics().items()}
        several = self.trainer.world_size > 1
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=1, sync_dist=several)
        self.last_iteration = done

    # -- using the policy --------------------------------------------------------------------------------

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing per batch: designs are evaluated once, by the report callback."""

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing per batch: the design is applied once, by the report callback."""

    # -- checkpoints -------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to rebuild the module without its data."""
        space = self.require_space()
        checkpoint[CHECKPOINT_KEY] = {
            "twin": self.twin.describe(),
            "space": {
                "allowed": list(space.names),
                "min_dose": space.min_dose,
                "max_perturbations": space.max_perturbations,
            },
            "observation_dim": self._observation_dim,
            "kl_coef": self.kl_coef,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild what the tensors of the checkpoint go into, and take over what is no tensor.

        Raises:
            CheckpointError: it is not a checkpoint of perturbrl, or of another configuration.
        """
        if CHECKPOINT_KEY not in checkpoint:
            raise CheckpointError(
                f"the checkpoint has no '{CHECKPOINT_KEY}' entry, so perturbrl did not write it; give one of a "
                "perturbrl run"
            )
        description = checkpoint[CHECKPOINT_KEY]
        self.kl_coef = description["kl_coef"]
        self.goal_cells = torch.empty_like(checkpoint["state_dict"]["goal_cells"])
        if self.space is None:
            self.twin.restore(description["twin"], self.data.encoder)
            self.space = self.twin.perturbations.restrict(**description["space"])
            self._build_networks(description["observation_dim"])

    def on_test_start(self) -> None:
        """Refuse to judge a policy that was never trained."""
        self.require_space()

    on_predict_start = on_test_start
