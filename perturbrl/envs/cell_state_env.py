"""The environment that TorchRL sees: twin, task and horizon joined."""

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Generator, Tensor
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from perturbrl import schema
from perturbrl.envs.base import Task
from perturbrl.envs.observation import ObservationFunction
from perturbrl.envs.steps import advance
from perturbrl.errors import ConfigurationError
from perturbrl.rl.rollouts import stream_seed
from perturbrl.schema import CellState, Dose, Members, PerCell, UsedMask, WholeState
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace


class CellStateEnv(EnvBase):
    """TorchRL environment of ``n_cells`` cells side by side: twin x task x horizon.

    The end of the horizon terminates an episode, it does not truncate it: dosing has a last step, and the
    observation (see ``ObservationFunction``) says how much time is left. Bootstrapping beyond it would rest on
    states never visited.

    Args:
        twin: the dynamics.
        task: the goal.
        space: what may be dosed, a restriction of ``twin.perturbations``; all of it by default.
        horizon: steps of an episode.
        n_cells: cells simulated by this process.
        first_cell: index of this process's first cell among all processes' cells.
        total_cells: cells of all processes; random numbers and members are drawn for all and sliced, so the
            result does not depend on how cells are spread over processes.
        restart_states: ``[states, latent]`` other states to start from, one drawn anew for every episode.
        restart_fraction: share of cells that start there instead of in a start cell of the twin.
        settle: whether cells settle (``relax``) after their last dose, within the last step: what the task pays for
            the way there is part of that step's reward.

    Attributes:
        observe: what a policy sees.
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
        settle: bool = False,
    ) -> None:
        super().__init__(device=twin.start_cells.device, batch_size=(n_cells,))
        self.space = twin.perturbations if space is None else space
        self.twin, self.task, self.horizon, self.settle = twin, task, horizon, settle
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
        self.observe = ObservationFunction(task, self.space, horizon, twin.remembers)
        self._require_knowledge()
        self.generator = Generator(device=twin.start_cells.device)
        self._restarting = Generator(device=twin.start_cells.device)
        self._settling = Generator(device=twin.start_cells.device)
        self._taken = 0
        self._make_specs()

    def _make_specs(self) -> None:
        n, latent, device = self.n_cells, self.twin.latent_dim, self.device
        p = self.space.n_perturbations
        self.observation_spec = Composite(
            {
                schema.OBSERVATION: Unbounded((n, self.observe.width), device=device),
                schema.CELL_STATE: Unbounded((n, latent), device=device),
                schema.GOAL_STATE: Unbounded((n, self._place_dim), device=device),
                schema.WAY: Unbounded((n, self._place_dim), device=device),
                schema.DOSE: Unbounded((n, p), device=device),
                schema.USED: Categorical(2, shape=(n, p), dtype=torch.bool, device=device),
                schema.MEMBER: Categorical(
                    self.twin.n_members, shape=(n, 1), dtype=torch.int64, device=device
                ),
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

    @property
    def _place_dim(self) -> int:
        return self.twin.place(self.twin.start_cells[:1]).shape[1]

    def _require_knowledge(self) -> None:
        if self.task.cost_uncertainty and self.twin.uncertainty(self.twin.start_cells[:1]) is None:
            raise ConfigurationError(
                f"the task's cost_uncertainty is {self.task.cost_uncertainty:g}, and {type(self.twin).__name__} as "
                "configured does not tell how sure it is; set the cost to 0, or use a twin of several members "
                "(ResponseTwin, LandscapeTwin, JointTwin)"
            )
        if self.task.cost_unmeasured and not self.twin.evidence:
            raise ConfigurationError(
                f"the task's cost_unmeasured is {self.task.cost_unmeasured:g}, and {type(self.twin).__name__} does not "
                "tell what was measured; set the cost to 0, or use a ResponseTwin"
            )

    def _set_seed(self, seed: int | None) -> None:
        self.generator.manual_seed(torch.seed() if seed is None else seed)
        self._taken = 0

    def _mine(self, drawn: Tensor) -> Tensor:
        return drawn[self.first_cell : self.first_cell + self.n_cells]

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        given, generator = None, self.generator
        if tensordict is not None and tensordict.get("_reset", None) is not None:
            generator = self._for_some_cells()
        elif tensordict is not None:
            given = tensordict.get(schema.CELL_STATE, None)
        state = self._mine(self._initial_state(generator)) if given is None else self.twin.untouched(given)
        member = self._mine(self.twin.draw_members(self.total_cells, generator))
        count = torch.zeros(self.n_cells, 1, dtype=torch.int64, device=self.device)
        dose = torch.zeros(self.n_cells, self.space.n_perturbations, device=self.device)
        goal = self.task.goal_state(self.twin.place(state))
        return self._pack(state, goal, member[:, None], dose, dose.bool(), count)

    def _for_some_cells(self) -> Generator:
        """Where cells whose episode has ended draw from: it depends on the step alone.

        Episodes may end in one process and not in another, whose own stream must stay where it is.
        """
        return self._restarting.manual_seed(stream_seed(self.generator.initial_seed(), self._taken, 6))

    def _initial_state(self, generator: Generator) -> CellState:
        """States of the cells of all processes."""
        state = self.twin.initial_state(self.total_cells, generator)
        others = self.restart_states
        if others is None:
            return state
        drawn = torch.randint(len(others), (self.total_cells,), generator=generator, device=others.device)
        return torch.where(self._restarts[:, None], others[drawn], state)

    def _pack(
        self,
        state: WholeState,
        goal: CellState,
        member: Tensor,
        dose: Dose,
        used: UsedMask,
        count: Tensor,
        **more: Tensor,
    ) -> TensorDict:
        place = self.twin.place(state)
        values = {
            schema.OBSERVATION: self.observe(place, goal, used, count, self._received(state)),
            schema.WAY: goal - place,
            schema.CELL_STATE: state,
            schema.GOAL_STATE: goal,
            schema.MEMBER: member,
            schema.DOSE: dose,
            schema.USED: used,
            schema.STEP_COUNT: count,
            **more,
        }
        return TensorDict(values, batch_size=self.batch_size, device=self.device)

    def _received(self, state: CellState) -> Dose | None:
        return self.twin.received(state)[:, self.space.columns] if self.twin.remembers else None

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        state, goal, before = (tensordict[k] for k in (schema.CELL_STATE, schema.GOAL_STATE, schema.USED))
        member = tensordict[schema.MEMBER]
        self._taken += 1
        noise = self._mine(self.twin.draw_noise(self.total_cells, self.generator))
        now = advance(
            self.twin,
            self.task,
            self.space,
            state,
            goal,
            before,
            tensordict[schema.ACTION],
            noise,
            member[:, 0],
        )
        count = tensordict[schema.STEP_COUNT] + 1
        over = self.task.is_terminal(self.twin.place(now.state), goal)[:, None] | (count >= self.horizon)
        following, reward = now.state, now.reward
        if self.settle and bool(over.any()):
            settled, paid = self._settled(following, goal, member[:, 0])
            following = torch.where(over, settled, following)
            reward = reward + paid * over[:, 0]
        return self._pack(
            following,
            goal,
            member,
            now.dose,
            now.used,
            count,
            reward=reward[:, None],
            done=over,
            terminated=over,
            truncated=torch.zeros_like(over),
        )

    def _settled(self, state: WholeState, goal: CellState, member: Members) -> tuple[WholeState, PerCell]:
        """Where cells come to rest without dose, and what the task pays for the way."""
        seed = stream_seed(self.generator.initial_seed(), self._taken, 8)
        generator, paid = self._settling.manual_seed(seed), state.new_zeros(len(state))
        none = torch.stack([self.space.no_action()] * len(state))
        used = torch.zeros(len(state), self.space.n_perturbations, dtype=torch.bool, device=state.device)
        for _ in range(self.twin.relaxation_steps):
            noise = self._mine(self.twin.draw_noise(self.total_cells, generator))
            now = advance(self.twin, self.task, self.space, state, goal, used, none, noise, member)
            state, paid = now.state, paid + now.reward
        return state, paid
