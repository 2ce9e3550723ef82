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

from perturbrl.evaluation.statistics import bootstrap_interval

FRAMES, EPISODES = 16_384, 20
README = Path(__file__).parents[2] / "README.md"
SECTION = "## The natural-gradient step as an optimiser"

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
    section = README.read_text().split(SECTION, 1)[1].split("\n## ", 1)[0]
    code = "".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    scope: dict[str, Any] = {"print": lambda *_: None}
    exec(code.replace("seed = 0", f"seed = {seed}"), scope)
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
