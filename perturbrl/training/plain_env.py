"""A whole TorchRL environment in place of twin and task."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchrl.data import Bounded, Categorical
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.errors import ConfigurationError
from perturbrl.rl.rollouts import returns

EnvFactory = Callable[[int], EnvBase]


@dataclass(frozen=True)
class ActionBox:
    """The actions of an environment: ``n_actions`` choices, or numbers between ``low`` and ``high``."""

    discrete: bool
    n_actions: int
    low: Tensor
    high: Tensor


def build_env(make: EnvFactory, n_cells: int) -> EnvBase:
    """An environment of the user's, checked.

    Args:
        make: called with the number of cells.
        n_cells: what the environment's one batch dimension must be.

    Raises:
        ConfigurationError: it is not an environment that the optimiser can use.
    """
    env = make(n_cells)
    if not isinstance(env, EnvBase):
        raise ConfigurationError(f"model.env returned a {type(env).__name__}; return a torchrl.envs.EnvBase")
    if tuple(env.batch_size) != (n_cells,):
        raise ConfigurationError(
            f"model.env returned an environment of batch size {tuple(env.batch_size)} when asked for {n_cells} "
            f"cells; its batch size must be ({n_cells},)"
        )
    observation_width(env)
    action_box(env)
    return env


def observation_width(env: EnvBase) -> int:
    """Numbers in an observation.

    Raises:
        ConfigurationError: there is no vector called ``observation``.
    """
    spec = env.observation_spec.get(schema.OBSERVATION, None)
    if spec is None or len(spec.shape) != 2 or not spec.dtype.is_floating_point:
        names = ", ".join(map(str, env.observation_spec.keys()))
        raise ConfigurationError(
            f"model.env observes {names or 'nothing'}; give it an 'observation' of one float vector per cell, for "
            "instance by torchrl.envs.CatTensors"
        )
    return spec.shape[-1]


def action_box(env: EnvBase) -> ActionBox:
    """What may be done in an environment.

    Raises:
        ConfigurationError: neither one integer nor a vector between finite bounds.
    """
    spec, empty = env.action_spec, torch.empty(0)
    if isinstance(spec, Categorical) and len(spec.shape) == 1:
        return ActionBox(True, spec.space.n, empty, empty)
    if isinstance(spec, Bounded) and len(spec.shape) == 2 and spec.dtype.is_floating_point:
        low, high = spec.space.low[0], spec.space.high[0]
        if bool(low.isfinite().all() & high.isfinite().all()):
            return ActionBox(False, 0, low, high)
    raise ConfigurationError(
        f"model.env takes actions of {type(spec).__name__} {tuple(spec.shape)}; give it one vector per cell "
        "between finite bounds (Bounded), or one integer per cell (Categorical)"
    )


@torch.no_grad()
def judge_policy(env: EnvBase, actor: ProbabilisticActor, steps: int, seed: int) -> float:
    """Mean return per episode of the policy without exploration, over ``steps`` steps of every cell."""
    env.set_seed(seed, static_seed=True)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        after = env.rollout(steps, actor, break_when_any_done=False)[schema.NEXT]
    total, episodes = returns(after).tolist()
    return total / episodes
