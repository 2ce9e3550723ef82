"""What a design does to cells: one episode for each of them, then rest."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs.utils import step_mdp
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.rl.rollouts import best_action
from perturbrl.schema import CellState, Population
from perturbrl.twins.base import relax
from perturbrl.twins.perturbations import PerturbationSpace


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
        doses: ``[cells, time, perturbations]`` doses given, after projection onto the limits.
        success: ``[cells]`` whether each has arrived.
    """

    start: CellState
    final: CellState
    path: Float[Tensor, "cells steps latent"]
    doses: Float[Tensor, "cells time perturbations"]
    success: Tensor


@torch.no_grad()
def simulate(problem: DesignProblem, planner: Planner, start: Population) -> Simulation:
    """Run one episode per row of ``start`` (places or states) under a design, then let the cells relax without dose."""
    env = CellStateEnv(
        problem.twin, problem.task, space=problem.space, horizon=problem.horizon, n_cells=len(start)
    )
    env.set_seed(problem.seed)
    state = env.reset(TensorDict({schema.CELL_STATE: start}, batch_size=env.batch_size, device=start.device))
    goal, path, doses = state[schema.GOAL_STATE], [state[schema.CELL_STATE]], []
    over = torch.zeros(len(start), 1, dtype=torch.bool, device=start.device)
    for step in range(problem.horizon):
        state[schema.ACTION] = planner.action(state, step)
        state = step_mdp(env.step(state))
        # A cell whose episode has ended early is left alone from then on.
        state[schema.CELL_STATE] = torch.where(over, path[-1], state[schema.CELL_STATE])
        path.append(state[schema.CELL_STATE])
        doses.append(state[schema.DOSE] * ~over)
        over = over | state[schema.DONE]
    final = relax(problem.twin, state[schema.CELL_STATE], state[schema.MEMBER][:, 0], env.generator)
    place = problem.twin.place
    success = problem.task.is_success(place(final), goal)
    places = torch.stack([place(states) for states in path], 1)
    return Simulation(places[:, 0], place(final), places, torch.stack(doses, 1), success)
