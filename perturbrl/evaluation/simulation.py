"""What a design does to cells: one episode for each of them, then rest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Float, Int
from tensordict import TensorDict, TensorDictBase
from torch import Generator, Tensor
from torchrl.envs.utils import step_mdp
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.planning.design_problem import DesignProblem, GivenSchedule, OpenLoop, Planner
from perturbrl.rl.rollouts import best_action
from perturbrl.schema import CellState, Members, PerCell, Population, WholeState
from perturbrl.twins.perturbations import PerturbationSpace

_WIDE: Final = 256  # perturbations beyond which a schedule is run among those that it doses
_NUMBERS: Final = 1 << 24  # doses of all cells at a time


class PolicyDesign(Planner):
    """A trained policy, acting by its mean (or its most probable action).

    Args:
        actor: TorchRL actor.
        name: the row's name.
        menu: what it chooses among, where it chooses and the problem asks for doses.
    """

    def __init__(
        self, actor: ProbabilisticActor, name: str = "policy", menu: PerturbationSpace | None = None
    ) -> None:
        self.actor, self.name, self.menu = actor, name, menu

    def plan(self, problem: DesignProblem) -> bool:
        """Nothing to prepare: training did."""
        return True

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """The policy's mean action in each cell's state, or the dose that its best choice amounts to."""
        action = best_action(self.actor, observed)
        return action if self.menu is None else self.menu.project(action, observed[schema.USED])[0]


@dataclass(frozen=True)
class Simulation:
    """What a design did to cells.

    Attributes:
        start: ``[cells, latent]`` where cells were.
        final: ``[cells, latent]`` where they are after dosing has ended and they have relaxed.
        path: ``[cells, time + 1, latent]`` states between, the start first.
        columns: perturbations that any cell received, rising; a design doses few of thousands.
        given: ``[cells, time, dosed]`` doses of these, after projection onto the limits.
        n_perturbations: how many may be dosed.
        success: ``[cells]`` whether each has arrived.
        returns: ``[cells]`` what the task paid for each, the way to rest included.
    """

    start: CellState
    final: CellState
    path: Float[Tensor, "cells steps latent"]
    columns: Int[Tensor, " dosed"]
    given: Float[Tensor, "cells time dosed"]
    n_perturbations: int
    success: Tensor
    returns: PerCell

    @property
    def doses(self) -> Float[Tensor, "cells time perturbations"]:
        """Doses of all perturbations, most of them 0."""
        every = self.given.new_zeros(*self.given.shape[:2], self.n_perturbations)
        return every.index_copy(2, self.columns, self.given)

    def of_all(self, values: Float[Tensor, "*rows dosed"]) -> Float[Tensor, "*rows perturbations"]:
        """Values of the dosed perturbations in the columns of all, the others 0."""
        return values.new_zeros(*values.shape[:-1], self.n_perturbations).index_copy(-1, self.columns, values)


@torch.no_grad()
def simulate(problem: DesignProblem, planner: Planner, start: Population) -> Simulation:
    """Run one episode per row of ``start`` (places or states) under a design, then let the cells relax without dose.

    Where there are thousands of perturbations, a schedule is run among those that it doses, and what sees the cells is
    run on some of them at a time.
    """
    n = problem.space.n_perturbations
    if isinstance(planner, OpenLoop) and n > _WIDE and not problem.space.discrete:
        return _among_dosed(problem, planner, start)
    parts = start.split(max(1, _NUMBERS // n))
    done = [_episode(replace(problem, seed=problem.seed + i), planner, part) for i, part in enumerate(parts)]
    return done[0] if len(done) == 1 else _joined(done)


def _among_dosed(problem: DesignProblem, planner: OpenLoop, start: Population) -> Simulation:
    dosed = (planner.schedule != 0).any(0).nonzero()[:, 0]
    columns = dosed if len(dosed) else torch.zeros_like(problem.space.columns[:1])
    place = problem.twin.place(start)
    done = _episode(problem.among(columns), GivenSchedule(planner.name, planner.schedule[:, columns]), place)
    return replace(done, columns=columns[done.columns], n_perturbations=problem.space.n_perturbations)


def _episode(problem: DesignProblem, planner: Planner, start: Population) -> Simulation:
    env = CellStateEnv(
        problem.twin, problem.task, space=problem.space, horizon=problem.horizon, n_cells=len(start)
    )
    env.set_seed(problem.seed)
    state = env.reset(TensorDict({schema.CELL_STATE: start}, batch_size=env.batch_size, device=start.device))
    goal, path, doses = state[schema.GOAL_STATE], [state[schema.CELL_STATE]], []
    over = torch.zeros(len(start), 1, dtype=torch.bool, device=start.device)
    returns = torch.zeros(len(start), device=start.device)
    for step in range(problem.horizon):
        state[schema.ACTION] = planner.action(state, step)
        state = step_mdp(env.step(state), exclude_reward=False)
        # A cell whose episode has ended early is left alone from then on.
        state[schema.CELL_STATE] = torch.where(over, path[-1], state[schema.CELL_STATE])
        path.append(state[schema.CELL_STATE])
        doses.append((state[schema.DOSE] * ~over).to_sparse())
        returns = returns + (state[schema.REWARD] * ~over)[:, 0]
        over = over | state[schema.DONE]
    final, paid = _settled(problem, state[schema.CELL_STATE], goal, state[schema.MEMBER][:, 0], env.generator)
    place = problem.twin.place
    success = problem.task.is_success(place(final), goal)
    places = torch.stack([place(states) for states in path], 1)
    columns, given = _dosed(doses)
    n = problem.space.n_perturbations
    return Simulation(places[:, 0], place(final), places, columns, given, n, success, returns + paid)


def _dosed(doses: list[Tensor]) -> tuple[Int[Tensor, " dosed"], Float[Tensor, "cells time dosed"]]:
    """Columns of sparse doses, step by step, in which any is not 0."""
    columns = torch.cat([dose.indices()[1] for dose in doses]).unique()
    return columns, torch.stack([dose.index_select(1, columns).to_dense() for dose in doses], 1)


def _settled(
    problem: DesignProblem, state: WholeState, goal: CellState, member: Members, generator: Generator
) -> tuple[WholeState, PerCell]:
    """Where cells come to rest without dose, and what the task pays for the way (see ``relax``)."""
    twin, task, paid = problem.twin, problem.task, state.new_zeros(len(state))
    none = state.new_zeros(len(state), twin.perturbations.n_perturbations)
    unused = state.new_zeros(len(state), problem.space.n_perturbations)
    for _ in range(twin.relaxation_steps):
        following = twin.next_state(state, none, twin.draw_noise(len(state), generator), member)
        paid = paid + task.reward(twin.place(state), unused, twin.place(following), goal, unused.bool())
        state = following
    return state, paid


def _joined(parts: Sequence[Simulation]) -> Simulation:
    """Simulations of further cells in one."""
    columns = torch.cat([part.columns for part in parts]).unique()
    given = [
        part.given.new_zeros(*part.given.shape[:2], len(columns)).index_copy(
            2, torch.searchsorted(columns, part.columns), part.given
        )
        for part in parts
    ]
    start, final, path, success, returns = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("start", "final", "path", "success", "returns")
    )
    return Simulation(
        start, final, path, columns, torch.cat(given), parts[0].n_perturbations, success, returns
    )
