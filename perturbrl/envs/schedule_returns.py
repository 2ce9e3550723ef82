"""What schedules of actions are paid on a twin, the way to rest after the last one included."""

from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from perturbrl.envs.base import Task
from perturbrl.envs.steps import advance
from perturbrl.schema import CellState, WholeState
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace

Schedules = Float[Tensor, "schedules time perturbations"] | Int[Tensor, "schedules time"]
"""Doses, or the integers of discrete actions."""

_ROWS: Final = 1 << 16
_NUMBERS: Final = 1 << 22  # doses of all rows at a time


@torch.no_grad()
def schedule_returns(
    twin: DigitalTwin,
    task: Task,
    space: PerturbationSpace,
    schedules: Schedules,
    state: WholeState,
    goal: CellState,
    used: Bool[Tensor, "cells perturbations"],
    seed: int,
) -> Float[Tensor, " schedules"]:
    """Mean return over cells of each schedule; all see the same cells, members and noise.

    Args:
        twin: how cells move.
        task: what is paid.
        space: what may be dosed.
        schedules: one action per step.
        state: ``[cells, state]`` where every schedule starts.
        goal: ``[cells, latent]`` the cells' goals.
        used: ``[cells, perturbations]`` what they received before.
        seed: of members and noise.
    """
    rows = min(_ROWS, _NUMBERS // space.twin_columns)
    together = max(1, rows // len(state))
    parts = schedules.split(together)
    return torch.cat([_returns(twin, task, space, part, state, goal, used, seed) for part in parts])


def _returns(
    twin: DigitalTwin,
    task: Task,
    space: PerturbationSpace,
    schedules: Tensor,
    state: Tensor,
    goal: Tensor,
    used: Tensor,
    seed: int,
) -> Tensor:
    n, cells = len(schedules), len(state)
    generator = Generator(device=state.device).manual_seed(seed)
    state, goal, used = (x.repeat(n, 1) for x in (state, goal, used))
    member = twin.draw_members(cells, generator).repeat(n)
    total = state.new_zeros(n * cells)
    still = torch.zeros_like(schedules[:, 0])
    for wanted in [*schedules.unbind(1), *[still] * twin.relaxation_steps]:
        noise = twin.draw_noise(cells, generator)
        noise = noise.repeat(n, *(1 for _ in noise.shape[1:]))
        action = wanted.repeat_interleave(cells, 0)
        now = advance(twin, task, space, state, goal, used, action, noise, member)
        total += now.reward
        state, used = now.state, now.used
    return total.view(n, cells).mean(1)


def single_doses(space: PerturbationSpace, n_levels: int) -> Float[Tensor, "candidates perturbations"]:
    """No dose, and every perturbation alone at ``n_levels`` equal steps up to its highest and lowest dose."""
    levels = torch.arange(1, n_levels + 1, device=space.low.device) / n_levels
    ends = torch.cat((torch.diag(space.high), torch.diag(space.low)))
    doses = (ends[:, None, :] * levels[:, None]).flatten(0, 1)
    doses = doses[doses.abs().sum(1) > 0]
    return torch.cat((torch.zeros_like(space.low)[None], doses))
