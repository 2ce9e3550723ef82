"""Return on CartPole after equally many frames: the documented example beside sb3-contrib's TRPO at its defaults.

Both are scored by the mean return of 20 episodes in which the final policy takes its likeliest action.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import gymnasium
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sb3_contrib import TRPO
from torchrl.collectors import Collector
from torchrl.envs import GymEnv
from torchrl.objectives.value import GAE

from perturbrl.evaluation.statistics import bootstrap_interval
from perturbrl.rl.policies import categorical_actor, critic
from perturbrl.rl.trust_region import TrustRegion

FRAMES, EPISODES = 16_384, 20
EXAMPLE = Path(__file__).parents[2] / "docs" / "natural_step.md"

Policy = Callable[[np.ndarray], int]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmark.py gym-return", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    n_seeds = parser.parse_args(argv).seeds
    result: dict[str, object] = {"frames": FRAMES, "seeds": n_seeds}
    table = Table("", "interquartile mean", "95 % interval", "returns", "seconds per seed")
    for name, train in (("ours", train_ours), ("sb3_contrib", train_peer)):
        start = perf_counter()
        returns = np.array([score(train(seed)) for seed in range(n_seeds)])
        seconds = (perf_counter() - start) / n_seeds
        interval = bootstrap_interval([returns])
        bounds = f"{interval.low:.1f} to {interval.high:.1f}"
        table.add_row(name, f"{interval.estimate:.1f}", bounds, str(returns.round(1)), f"{seconds:.1f}")
        result |= {
            f"{name}_iqm": interval.estimate,
            f"{name}_low": interval.low,
            f"{name}_high": interval.high,
        }
    Console().print(table)
    print(json.dumps(result))


def train_ours(seed: int) -> Policy:
    """Run the example from the documentation as it stands there."""
    block = re.search(r"```python\n(.*?)```", EXAMPLE.read_text(), re.DOTALL)
    assert block is not None
    names = (Collector, GAE, GymEnv, TrustRegion, categorical_actor, critic)
    scope: dict[str, Any] = {name.__name__: name for name in names} | {
        "torch": torch,
        "seed": seed,
        "print": lambda *_: None,
    }
    torch.manual_seed(seed)
    exec(block.group(1), scope)
    network = scope["actor"].module[0].module

    def act(observation: np.ndarray) -> int:
        with torch.no_grad():
            return int(network(torch.as_tensor(observation)).argmax())

    return act


def train_peer(seed: int) -> Policy:
    model = TRPO("MlpPolicy", "CartPole-v1", seed=seed, device="cpu").learn(FRAMES)
    return lambda observation: int(model.predict(observation, deterministic=True)[0])


def score(act: Policy) -> float:
    """Mean return over episodes from fixed starts."""
    env, total = gymnasium.make("CartPole-v1"), 0.0
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=10_000 + episode)
        done = False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total, done = total + float(reward), terminated or truncated
    return total / EPISODES
