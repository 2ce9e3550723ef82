"""Which of hundreds of perturbations a policy chooses among: those that do most alone."""

import torch
from torch import Generator

from perturbrl.envs.base import Task
from perturbrl.envs.schedule_returns import schedule_returns, single_doses
from perturbrl.errors import ConfigurationError
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace

_CELLS = 32


def best_candidates(
    twin: DigitalTwin, task: Task, space: PerturbationSpace, horizon: int, n: int, seed: int
) -> tuple[str, ...]:
    """The ``n`` perturbations whose full dose, held for an episode, is paid most, in the order of ``space``.

    A policy that explores by chance meets one of hundreds too seldom to learn of it.

    Args:
        twin: with its start cells.
        task: aimed at the goal.
        space: what may be dosed.
        horizon: steps of an episode.
        n: how many are kept.
        seed: of the cells, members and noise, which are the same for all.

    Raises:
        ConfigurationError: fewer than one is to be kept, or actions are discrete.
    """
    if n < 1 or space.discrete:
        raise ConfigurationError(
            f"model.n_candidates is {n}; give at least 1, and none (null) where actions are discrete"
        )
    generator = Generator(device=twin.start_cells.device).manual_seed(seed)
    state = twin.initial_state(_CELLS, generator)
    none = torch.zeros(_CELLS, space.n_perturbations, dtype=torch.bool, device=state.device)
    doses = single_doses(space, 1)[1:]
    schedules = doses[:, None].expand(-1, horizon, -1)
    paid = schedule_returns(
        twin, task, space, schedules, state, task.goal_state(twin.place(state)), none, seed
    )
    best = paid.new_full((space.n_perturbations,), -torch.inf)
    best = best.scatter_reduce(0, doses.abs().argmax(1), paid, "amax")
    kept = best.argsort(descending=True, stable=True)[:n].sort().values
    return tuple(space.names[i] for i in kept.tolist())
