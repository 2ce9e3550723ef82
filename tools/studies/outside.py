"""The escape study's tasks for stable-baselines3 and sb3-contrib, with their defaults (extra ``bench``).

The second stage of TRPO followed by PPO starts from the first's networks, as in the paper authors' notebooks,
but with ``target_kl=None``: there the value is read from a log key that does not exist and ends up 0, which
stops PPO at its first minibatch. Their discount, minibatches, epochs and networks are their own defaults.
"""

import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from perturbrl import schema
from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.planning.exact import ExactResult, PolicyChain
from perturbrl.twins.task_suite import ReprogrammingTask
from studies.escape_methods import N_CELLS
from studies.escape_tasks import horizon_of, reach, task_start, twin_of


class TaskVecEnv(VecEnv):
    """All cells of a task as one vectorised environment, so that the peers pay no price for Python loops.

    Args:
        task: the reprogramming task.
        seed: of starts and outcomes.
    """

    def __init__(self, task: ReprogrammingTask, seed: int) -> None:
        twin = twin_of(task)
        twin.start_from(task_start(twin, task))
        self.env = CellStateEnv(twin, reach(task, twin), horizon=horizon_of(task), n_cells=N_CELLS)
        self.env.set_seed(seed)
        width = self.env.observation_spec[schema.OBSERVATION].shape[-1]
        observation = gym.spaces.Box(-np.inf, np.inf, (width,), np.float32)
        super().__init__(N_CELLS, observation, gym.spaces.Discrete(self.env.space.n_actions))

    def reset(self) -> np.ndarray:
        self._state = self.env.reset()
        return self._state[schema.OBSERVATION].numpy()

    def step_async(self, actions: np.ndarray) -> None:
        self._state[schema.ACTION] = torch.as_tensor(actions, dtype=torch.int64)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        after = self.env.step(self._state)[schema.NEXT]
        done = after[schema.DONE][:, 0].numpy()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            # All cells end together, since only the horizon ends an episode.
            for info, last in zip(infos, after[schema.OBSERVATION].numpy(), strict=True):
                info["terminal_observation"] = last
        self._state = self.env.reset() if done.any() else after.exclude(schema.REWARD)
        return self._state[schema.OBSERVATION].numpy(), after[schema.REWARD][:, 0].numpy(), done, infos

    def close(self) -> None:
        """Nothing to let go of."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"{attr_name} cannot be set on cells that are simulated together")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise AttributeError(f"there is no method {method_name} of single cells")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class _Watch(BaseCallback):
    """Judges the policy exactly between iterations, outside the clock."""

    def __init__(self, chain: PolicyChain) -> None:
        super().__init__()
        self.chain, self.curve, self.outside = chain, list[ExactResult](), 0.0

    def judge_now(self) -> None:
        started = time.process_time()
        self.curve.append(judge(self.model, self.chain))
        self.outside += time.process_time() - started

    def _on_rollout_start(self) -> None:
        if self.num_timesteps:
            self.judge_now()

    def _on_step(self) -> bool:
        return True


def judge(model: Any, chain: PolicyChain) -> ExactResult:
    """The exact result of sampling from a stable-baselines3 policy."""
    with torch.no_grad():
        seen = chain.observation
        dist = model.policy.get_distribution(seen.flatten(0, 1)).distribution
        return chain.judge_table(dist.probs.double().unflatten(0, seen.shape[:2]))


def train_outside(
    name: str, task: ReprogrammingTask, chain: PolicyChain, iterations: int, seed: int
) -> tuple[list[ExactResult], float]:
    """Train a peer with its defaults on batches as large as ours; its curve, and the processor time it took."""
    torch.manual_seed(seed)
    common: dict[str, Any] = {"n_steps": horizon_of(task), "seed": seed, "device": "cpu"}
    batch = N_CELLS * horizon_of(task)
    first = {"sb3_ppo": 0, "sb3_trpo": iterations, "sb3_trpo_then_ppo": max(1, iterations // 2)}[name]
    env, watch = TaskVecEnv(task, seed), _Watch(chain)
    started = time.process_time()
    model: Any = PPO("MlpPolicy", env, target_kl=None, **common)
    if first:
        natural = TRPO("MlpPolicy", env, **common).learn(first * batch, watch)
        watch.judge_now()
        model.policy.load_state_dict(natural.policy.state_dict())
    if iterations > first:
        model.learn((iterations - first) * batch, watch)
        watch.judge_now()
    return watch.curve, time.process_time() - started - watch.outside
