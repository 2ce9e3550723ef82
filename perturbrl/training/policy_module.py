"""A policy on a digital twin as a Lightning module: how it is built, used, saved and restored, whatever trains it."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Int
from lightning import Callback, LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Generator, Tensor
from torchrl.envs import EnvBase

from perturbrl.envs.base import Task
from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.envs.observation import ObservationFunction
from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError
from perturbrl.rl.normalisation import ObservationNormaliser
from perturbrl.rl.policies import GaussianMLP
from perturbrl.rl.rollouts import stream_seed
from perturbrl.rl.scored_choice import ChoiceScores
from perturbrl.schema import CellState
from perturbrl.training.actor_critic import build_networks
from perturbrl.training.agreement import (
    CHECKPOINT_KEY,
    description_in,
    require_networks,
    require_own_cells,
    require_same_design,
    require_widths,
    say_unheeded_limits,
)
from perturbrl.training.candidates import best_candidates
from perturbrl.training.choices import ChoiceTable, way_to_goal
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.decision import Decision, decide, episode_end, untrained
from perturbrl.training.goals import start_and_goal
from perturbrl.training.options import PolicyOptions, RolloutOptions
from perturbrl.training.plain_env import (
    ActionBox,
    EnvFactory,
    action_box,
    build_env,
    judge_policy,
    observation_width,
)
from perturbrl.training.progress import working
from perturbrl.training.trainer_flags import refuse_flags
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.gene_effect import GeneEffectTwin
from perturbrl.twins.perturbations import PerturbationSpace

KEPT: Final = ("goal_cells", "reference_cells", "deciding_start", "deciding_goal", "deciding_units")
NOT_TRAINED = (
    "there is no trained policy: no checkpoint was given and nothing was fitted; "
    "fit first, or give --ckpt_path"
)


class PolicyModule(LightningModule):
    """A policy on a digital twin, or in an environment of the user's; how it is trained is left to a subclass.

    Args:
        twin: digital twin, how cells move; ``None`` is a linear one with measured effects (GeneEffectTwin).
        task: where cells should go; ``None`` is the target population at no cost (ReachCellState).
        policy: networks of actor and critic.
        rollout: episodes, and how experience is gathered.
        seed: seed of weights and all random streams.
        env: makes an environment of so many cells in place of twin and task; ``None`` is the twin's.
        n_candidates: how many of the perturbations the policy chooses among; ``None`` is all of them.
    """

    goal_cells: CellState
    reference_cells: CellState
    deciding_start: CellState
    deciding_goal: CellState
    deciding_units: Int[Tensor, " deciding"]

    def __init__(
        self,
        twin: DigitalTwin | None,
        task: Task | None,
        policy: PolicyOptions,
        rollout: RolloutOptions,
        seed: int,
        env: EnvFactory | None,
        n_candidates: int | None,
    ) -> None:
        super().__init__()
        self.twin: DigitalTwin = GeneEffectTwin() if twin is None else twin
        self.task: Task = ReachCellState() if task is None else task
        self.policy, self.rollout, self.seed, self.env = policy, rollout, seed, env
        self.n_candidates = n_candidates
        self.normaliser: ObservationNormaliser | None = None
        for name in KEPT:
            self.register_buffer(name, torch.empty(0, 0))
        self.space: PerturbationSpace | None = None
        self._trained = self._has_learned = False
        self._fitted_to: PerturbationDataModule | None = None

    # -- building ----------------------------------------------------------------------------------------

    def configure_callbacks(self) -> list[Callback]:
        """None; the first hook of a run, before Lightning would refuse the same flags in words of its own."""
        refuse_flags(self.trainer, own_env=self.env is not None)
        return []

    def setup(self, stage: str) -> None:
        """Fit the twin to training cells; for other stages a checkpoint follows (``on_load_checkpoint``)."""
        if self.env is not None:
            if not hasattr(self, "actor"):
                env = build_env(self.env, 1)
                self._build_networks(observation_width(env), action_box(env))
        elif stage == "fit" and self.space is None:
            self._aim(self.data)
            self._build_networks(self._observe().width, self.actions)
            self._begin()
        elif stage == "fit":
            require_own_cells(self._fitted_to, self.data, to_train=True)

    @property
    def menu(self) -> PerturbationSpace | None:
        """What the policy chooses among; ``None`` where it gives doses (see ``PolicyOptions``)."""
        return self.require_space().menu(self.policy.dose_levels) if self.policy.kind == "choices" else None

    @property
    def actions(self) -> PerturbationSpace:
        """What the policy's actions are: the menu, or doses of the perturbations."""
        return self.menu or self.require_space()

    def _begin(self) -> None:
        """Measure the first policy's exploration by where it brings cells, and let it score what it chooses among."""
        network, exploration = self.actor.module[0].module, self.policy.first_exploration
        if not isinstance(network, ChoiceScores | GaussianMLP):
            return
        menu = self.menu or self.require_space().menu(1)
        with working("trying every perturbation alone"):
            table = ChoiceTable.of(self.twin, self.task, menu, self.seed)
        way = way_to_goal(self.twin, self.task)
        if isinstance(network, ChoiceScores):
            table.fill(network, way, exploration)
        else:
            table.limit(network, way, exploration)

    def _observe(self) -> ObservationFunction:
        return ObservationFunction(self.task, self.require_space(), self.rollout.horizon, self.twin.remembers)

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
        # Where the twin is now: Lightning moves the module to its device after this hook.
        device = self.twin.start_cells.device
        generator = Generator(device=device).manual_seed(stream_seed(self.seed, 0, 4))
        cells = start_and_goal(self.twin, data, generator)
        self.goal_cells, self.reference_cells = cells.goal, cells.reference
        self.deciding_start, self.deciding_goal = cells.deciding_start, cells.deciding_goal
        self.deciding_units = cells.deciding_units
        self.space, self._fitted_to = self._within_steps(data.restrict(self.twin)), data
        once = self.rollout.horizon == 1 and not self.task.cost_uncertainty
        self.twin.remember(0 if once else self.space.most_used)
        if self.task.cost_uncertainty:
            self.twin.account()
        self.twin.start_from(cells.start)
        self.task.aim(cells.start, cells.goal, cells.reference, cells.others)
        self.space = self._chosen(self.space)

    def _within_steps(self, space: PerturbationSpace) -> PerturbationSpace:
        """No more perturbations than a policy that chooses has steps, for planners too."""
        asked, steps = space.max_perturbations, self.rollout.horizon
        if self.policy.kind == "doses":
            return space
        if asked is not None and asked > steps:
            raise ConfigurationError(
                f"a policy that chooses gives one perturbation at each of {steps} steps, and max_perturbations is "
                f"{asked}; give as many steps (--model.rollout.horizon {asked})"
            )
        return space.restrict(max_perturbations=asked or steps)

    def _chosen(self, space: PerturbationSpace) -> PerturbationSpace:
        """What the policy chooses among (see ``n_candidates``)."""
        if self.n_candidates is None or self.n_candidates >= space.n_perturbations:
            return space
        if self.policy.kind == "choices":
            return space.restrict(self._promising(space, self.n_candidates))
        with working("trying every perturbation alone"):
            names = best_candidates(
                self.twin, self.task, space, self.rollout.horizon, self.n_candidates, self.seed
            )
        return space.restrict(names)

    def _promising(self, space: PerturbationSpace, n: int) -> tuple[str, ...]:
        with working("trying every perturbation alone"):
            table = ChoiceTable.of(self.twin, self.task, space.menu(1), self.seed)
        kept = table.promising(way_to_goal(self.twin, self.task), n) - 1
        return tuple(space.names[i] for i in (kept % space.n_perturbations).unique().tolist())

    @property
    def gene_names(self) -> Sequence[str]:
        """Names of the columns of ``twin.expression``."""
        return self.data.genes if self.data.has_cells else self.twin.gene_names

    def _build_networks(self, width: int, actions: PerturbationSpace | ActionBox) -> None:
        self._observation_dim = width
        latent_dim = self.goal_cells.shape[1]
        self.actor, self.critic, self.normaliser = build_networks(
            width, actions, self.policy, self.seed, latent_dim
        )

    def require_space(self) -> PerturbationSpace:
        """What may be dosed; known after ``setup``.

        Raises:
            ConfigurationError: the module is not set up yet.
        """
        if self.space is None:
            raise ConfigurationError(NOT_TRAINED)
        return self.space

    def make_env(self, n_cells: int, **options: Any) -> EnvBase:
        """The user's own environment, or the twin, task and limits on doses as one; ``options`` as ``CellStateEnv``."""
        if self.env is not None:
            return build_env(self.env, n_cells).to(self.device)
        return CellStateEnv(
            self.twin,
            self.task,
            space=self.actions.to(self.device),
            horizon=self.rollout.horizon,
            n_cells=n_cells,
            settle=self.rollout.settle,
            **options,
        )

    # -- using the policy --------------------------------------------------------------------------------

    def move(self, start: CellState, exploring: Generator | None = None) -> CellState:
        """Where ``start`` cells are after an episode of the policy.

        Args:
            start: ``[cells, latent]``.
            exploring: random numbers for actions drawn from the policy; ``None`` takes its best ones.
        """
        env = self.make_env(len(start))
        seed = stream_seed(self.seed, 0, 7)
        return episode_end(env, self.actor, start, self.rollout.horizon, seed, exploring)

    def decision(self) -> Decision:
        """Whether what the policy learned is used, by conditions held back from its training."""
        if not self._has_learned:
            return untrained()
        if len(self.deciding_start) == 0:
            return decide(None, self.deciding_units)
        start = self.deciding_start
        gains = self.task.gains(start, self.task.as_used(start, self.move(start)), self.deciding_goal)
        return decide(gains, self.deciding_units)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """The return in an environment of the user's; designs are evaluated once, by the report callback."""
        if self.env is not None:
            env, steps = self.make_env(self.rollout.n_cells), self.rollout.steps or self.rollout.horizon
            with torch.autocast(self.device.type, enabled=False):
                mean = judge_policy(env, self.actor, steps, stream_seed(self.seed, 0, 5))
            self.log("return", mean, batch_size=1)

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing per batch: the design is applied once, by the report callback."""

    # -- checkpoints -------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to rebuild the module without its data."""
        if self.env is not None:
            checkpoint[CHECKPOINT_KEY] = {}
            return
        space = self.require_space()
        checkpoint[CHECKPOINT_KEY] = {
            "twin": self.twin.describe(),
            "source": [str(self.data.source)],
            "target": [str(self.data.target)],
            "perturbations": [str(name) for name in space.names],
            "limits": {"min_dose": space.min_dose, "max_perturbations": space.max_perturbations},
            "observation_dim": self._observation_dim,
            "has_learned": self._has_learned,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild what the tensors of the checkpoint go into, and take over what is no tensor.

        Raises:
            CheckpointError: it is not a checkpoint of perturbrl, or of another configuration.
        """
        description = description_in(checkpoint, own_env=self.env is not None)
        self._trained = True
        for name in KEPT:
            setattr(self, name, torch.empty_like(checkpoint["state_dict"][name]))
        if self.env is None:
            self._take_over(description)
        require_networks(checkpoint["state_dict"], self)

    def _take_over(self, description: dict[str, Any]) -> None:
        self._fitted_to, self._has_learned = self.data, description["has_learned"]
        if self.space is not None and self.trainer.state.fn == TrainerFn.FITTING:
            require_widths(description["observation_dim"], self._observation_dim)
            require_same_design(description, self.data.source, self.data.target, self.space.names)
            return
        self.twin.restore(description["twin"])
        # Restored after this module, in place, and then moved with the twin.
        self.twin.encoder = self.data.encoder if self.data.has_cells else None
        self.space = self.twin.perturbations.restrict(description["perturbations"], **description["limits"])
        say_unheeded_limits(self.data, self.twin, self.space, some_chosen=self.n_candidates is not None)
        self._build_networks(description["observation_dim"], self.actions)

    def on_test_start(self) -> None:
        """Refuse to judge a policy that was never trained, on other cells, or on what it was not trained to see."""
        if not self._trained:
            raise ConfigurationError(NOT_TRAINED)
        if self.env is None:
            require_own_cells(self._fitted_to, self.data, to_train=False)
            require_widths(self._observation_dim, self._observe().width)

    on_predict_start = on_test_start
