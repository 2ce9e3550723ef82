"""Digital twin, task and environment: dynamics and goals vary apart, and TorchRL sees them joined."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Generator, Tensor
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from perturbrl import schema
from perturbrl.data.fitted import FittedModule
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.envs.perturbations import PerturbationSpace
from perturbrl.errors import CheckpointError, ConfigurationError
from perturbrl.schema import CellMask, CellState, Dose, Expression, PerCell, Population, UsedMask


class DigitalTwin(FittedModule, ABC):
    """How cells move: a batched, stateless simulator of cell states under perturbation.

    A subclass sets ``latent_dim`` and ``perturbations`` (in its constructor or in ``fit``) and implements
    ``transition``. All randomness comes in as ``noise``, so equal arguments give equal results.

    Attributes:
        perturbations: what may be dosed, in the order of the dose's columns.
        latent_dim: dimensions of a cell state.
        needs_data: whether ``fit`` must see measured cells before the twin can be used.
        relaxation_steps: transitions without dose after which a cell counts as settled.
        gene_names: names of the columns of ``expression``, where the twin itself knows them.
        start_cells: ``[cells, latent]`` states from which episodes start.
    """

    perturbations: PerturbationSpace
    latent_dim: int
    needs_data: bool = False
    relaxation_steps: int = 0
    gene_names: Sequence[str] = ()
    start_cells: CellState

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("start_cells", torch.empty(0, 0))

    @abstractmethod
    def transition(self, state: CellState, dose: Dose, noise: Tensor) -> CellState:
        """The cells' next state under ``dose``.

        Args:
            state: ``[cells, latent]``.
            dose: ``[cells, perturbations]``, already inside the dose range.
            noise: what ``draw_noise`` returned for these cells.
        """

    def fit(self, cells: EncodedCells, encoder: Encoder) -> Self:
        """Learn from training cells; a twin that brings its own dynamics has nothing to learn."""
        return self

    def describe(self) -> dict[str, Any]:
        """What a checkpoint must say, beside the tensors, to rebuild this twin; plain values only."""
        return {
            "latent_dim": self.latent_dim,
            "names": list(self.perturbations.names),
            "low": self.perturbations.low.tolist(),
            "high": self.perturbations.high.tolist(),
        }

    def restore(self, description: dict[str, Any], encoder: Encoder) -> None:
        """Take over what ``describe`` said; the tensors follow with the state dict.

        Raises:
            CheckpointError: a twin that brings its own dynamics is not the one of the checkpoint.
        """
        if not self.needs_data and description["names"] != list(self.perturbations.names):
            raise CheckpointError(
                f"the checkpoint's twin doses {description['names'][:6]}, this one "
                f"{list(self.perturbations.names)[:6]}; use the configuration the checkpoint was made with"
            )
        self.latent_dim = description["latent_dim"]
        if self.needs_data:
            self.perturbations = PerturbationSpace(
                description["names"], description["low"], description["high"]
            )

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """Randomness for one transition of ``n_cells``: rows belong to cells; standard normal by default."""
        return torch.randn(n_cells, self.latent_dim, generator=generator, device=self.start_cells.device)

    def start_from(self, cells: CellState) -> None:
        """Let episodes start from ``cells``, drawn with replacement.

        Raises:
            ConfigurationError: there is no cell, or the states are not those of this twin, or not finite.
        """
        width = getattr(self, "latent_dim", cells.shape[-1])
        if cells.ndim != 2 or cells.shape[0] == 0 or cells.shape[1] != width:
            raise ConfigurationError(
                f"cannot start from cells of shape {tuple(cells.shape)}; give at least one row of {width} latent "
                "dimensions"
            )
        if not bool(cells.isfinite().all()):
            raise ConfigurationError(
                f"{int((~cells.isfinite()).any(1).sum())} of {len(cells)} start cells have values that are not "
                "finite; mend or remove them"
            )
        self.set_buffers(start_cells=cells)

    def initial_state(self, n_cells: int, generator: Generator | None = None) -> CellState:
        """States of ``n_cells`` drawn from ``start_cells``.

        Raises:
            ConfigurationError: nobody has said where cells start.
        """
        if self.start_cells.shape[0] == 0:
            raise ConfigurationError(
                f"{type(self).__name__} has no start cells; call start_from with at least one latent state"
            )
        rows = torch.randint(
            self.start_cells.shape[0], (n_cells,), generator=generator, device=self.start_cells.device
        )
        return self.start_cells[rows]

    def expression(self, state: CellState) -> Expression:
        """Expression of the genes in ``state``; the state itself where states are expression levels."""
        return state

    def attractors(self) -> dict[str, CellState]:
        """Named stable states, each ``[1, latent]``; none unless the twin knows its landscape."""
        return {}


def relax(twin: DigitalTwin, state: CellState, generator: Generator) -> CellState:
    """The cells' state after they were left alone until they count as settled."""
    no_dose = state.new_zeros(len(state), twin.perturbations.n_perturbations)
    for _ in range(twin.relaxation_steps):
        state = twin.transition(state, no_dose, twin.draw_noise(len(state), generator))
    return state


class Task(FittedModule, ABC):
    """What cells should do: goals, observation, reward and success, apart from the dynamics.

    Attributes:
        observation_dim: width of ``observation``; known after ``aim``.
        goal_depends_on_start: whether cells have goals of their own, so that none can start elsewhere.
    """

    observation_dim: int
    goal_depends_on_start: bool = False

    @abstractmethod
    def aim(self, start_cells: Population, goal_cells: Population) -> None:
        """Fix the goal from cells of the start and of the target population (training cells only)."""

    @abstractmethod
    def goal_state(self, start: CellState) -> CellState:
        """The state that each starting cell should reach."""

    @abstractmethod
    def observation(self, state: CellState, goal: CellState) -> Tensor:
        """What the policy sees, ``[cells, observation_dim]``."""

    @abstractmethod
    def reward(
        self, state: CellState, dose: Dose, next_state: CellState, goal: CellState, newly_used: UsedMask
    ) -> PerCell:
        """Reward of one transition; ``newly_used`` marks perturbations dosed for the first time."""

    @abstractmethod
    def is_success(self, state: CellState, goal: CellState) -> CellMask:
        """Whether a settled cell has arrived."""

    def is_terminal(self, state: CellState, goal: CellState) -> CellMask:
        """Whether the episode ends here for good (no bootstrapping beyond); never by default."""
        return torch.zeros(state.shape[0], dtype=torch.bool, device=state.device)


class CellStateEnv(EnvBase):
    """TorchRL environment of ``n_cells`` cells side by side: twin x task x horizon.

    The end of the horizon terminates an episode, it does not truncate it: dosing has a last step, and the
    observation says how much time is left. Bootstrapping beyond it would rest on states never visited.

    Args:
        twin: the dynamics.
        task: the goal.
        space: what may be dosed, a restriction of ``twin.perturbations``; all of it by default.
        horizon: steps of an episode.
        n_cells: cells simulated by this process.
        first_cell: index of this process's first cell among all processes' cells.
        total_cells: cells of all processes; random numbers are drawn for all and sliced, so the result does
            not depend on how cells are spread over processes.
        restart_states: ``[states, latent]`` other states to start from, one drawn anew for every episode.
        restart_fraction: share of cells that start there instead of in a start cell of the twin.

    Attributes:
        restarts: ``[cells]``, which cells start in ``restart_states``.

    Raises:
        ConfigurationError: no step, no cell, or cells beyond ``total_cells``.
    """

    # EnvBase declares __new__ as a classmethod, which hides the signature of __init__ from inspection.
    def __new__(cls, *args: Any, **kwargs: Any) -> "CellStateEnv":
        """Create the instance; see the class for the arguments."""
        return super().__new__()

    def __init__(
        self,
        twin: DigitalTwin,
        task: Task,
        *,
        space: PerturbationSpace | None = None,
        horizon: int = 1,
        n_cells: int = 1024,
        first_cell: int = 0,
        total_cells: int | None = None,
        restart_states: CellState | None = None,
        restart_fraction: float = 0.0,
    ) -> None:
        super().__init__(device=twin.start_cells.device, batch_size=(n_cells,))
        self.space = twin.perturbations if space is None else space
        self.twin, self.task, self.horizon = twin, task, horizon
        self.n_cells, self.first_cell = n_cells, first_cell
        self.total_cells = n_cells if total_cells is None else total_cells
        if min(horizon, n_cells) < 1 or not 0 <= first_cell <= self.total_cells - n_cells:
            raise ConfigurationError(
                f"an environment of horizon {horizon} with cells {first_cell} to {first_cell + n_cells} of "
                f"{self.total_cells} cannot be; give at least one step and one cell, and cells among all cells"
            )
        self.restart_states = None if restart_fraction == 0 else restart_states
        # Spread evenly over cells, so that every process has its share.
        number = torch.arange(self.total_cells + 1, device=twin.start_cells.device) * restart_fraction
        self._restarts = number.floor().diff() > 0
        self.restarts = self._mine(self._restarts)
        if restart_fraction > 0 and (restart_states is None or len(restart_states) == 0):
            raise ConfigurationError(
                f"restart_fraction is {restart_fraction:g} but there is no state to restart from; give "
                "restart_states, or 0"
            )
        self.generator = Generator(device=twin.start_cells.device)
        self._make_specs()

    def _make_specs(self) -> None:
        n, latent, device = self.n_cells, self.twin.latent_dim, self.device
        p = self.space.n_perturbations
        self.observation_spec = Composite(
            {
                schema.OBSERVATION: Unbounded((n, self.task.observation_dim + 1), device=device),
                schema.CELL_STATE: Unbounded((n, latent), device=device),
                schema.GOAL_STATE: Unbounded((n, latent), device=device),
                schema.DOSE: Unbounded((n, p), device=device),
                schema.USED: Categorical(2, shape=(n, p), dtype=torch.bool, device=device),
                schema.STEP_COUNT: Bounded(0, self.horizon, (n, 1), dtype=torch.int64, device=device),
            },
            shape=(n,),
        )
        self.action_spec = self.space.action_spec(n).to(device)
        self.reward_spec = Unbounded((n, 1), device=device)
        flag = Categorical(2, shape=(n, 1), dtype=torch.bool, device=device)
        self.full_done_spec = Composite(
            {schema.DONE: flag, schema.TERMINATED: flag.clone(), schema.TRUNCATED: flag.clone()}, shape=(n,)
        )

    def _set_seed(self, seed: int | None) -> None:
        self.generator.manual_seed(torch.seed() if seed is None else seed)

    def _mine(self, drawn: Tensor) -> Tensor:
        return drawn[self.first_cell : self.first_cell + self.n_cells]

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        given = None
        if tensordict is not None and tensordict.get("_reset", None) is None:
            given = tensordict.get(schema.CELL_STATE, None)
        state = self._mine(self._initial_state()) if given is None else given
        count = torch.zeros(self.n_cells, 1, dtype=torch.int64, device=self.device)
        dose = torch.zeros(self.n_cells, self.space.n_perturbations, device=self.device)
        return self._pack(state, self.task.goal_state(state), dose, dose.bool(), count)

    def _initial_state(self) -> CellState:
        """States of the cells of all processes."""
        state = self.twin.initial_state(self.total_cells, self.generator)
        others = self.restart_states
        if others is None:
            return state
        drawn = torch.randint(
            len(others), (self.total_cells,), generator=self.generator, device=others.device
        )
        return torch.where(self._restarts[:, None], others[drawn], state)

    def _pack(
        self, state: CellState, goal: CellState, dose: Dose, used: UsedMask, count: Tensor, **more: Tensor
    ) -> TensorDict:
        time_left = 1.0 - count / self.horizon
        observation = torch.cat((self.task.observation(state, goal), time_left), dim=-1)
        values = {
            schema.OBSERVATION: observation,
            schema.CELL_STATE: state,
            schema.GOAL_STATE: goal,
            schema.DOSE: dose,
            schema.USED: used,
            schema.STEP_COUNT: count,
            **more,
        }
        return TensorDict(values, batch_size=self.batch_size, device=self.device)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        state, goal, before = (tensordict[k] for k in (schema.CELL_STATE, schema.GOAL_STATE, schema.USED))
        dose, used = self.space.project(tensordict[schema.ACTION], before)
        noise = self._mine(self.twin.draw_noise(self.total_cells, self.generator))
        following = self.twin.transition(state, self.space.expand(dose), noise)
        reward = self.task.reward(state, dose, following, goal, used & ~before)
        count = tensordict[schema.STEP_COUNT] + 1
        over = self.task.is_terminal(following, goal)[:, None] | (count >= self.horizon)
        return self._pack(
            following,
            goal,
            dose,
            used,
            count,
            reward=reward[:, None],
            done=over,
            terminated=over,
            truncated=torch.zeros_like(over),
        )
