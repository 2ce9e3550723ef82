"""The authors' own stack on the gene-screen task: stable-baselines3's PPO, sb3-contrib's TRPO, and one after the other.

Everything is at its library default (MlpPolicy; 2,048 steps of each environment per rollout; PPO: minibatches of 64,
10 epochs, rate 3e-4, clip 0.2; TRPO: target_kl 0.01 per action dimension, 15 conjugate-gradient steps), with 16
environments in a DummyVecEnv, unless a method below says otherwise. No Monitor wraps the environments. One row is not
the authors' stack: PPO with our network, first deviation, batch and minibatches, and the best of a few rates, shows
what the settings are worth without our code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks.screen_task import Screen, ScreenEnv
from benchmarks.stopwatch import Race
from benchmarks.train_settings import MINIBATCH, NETWORK, SETTINGS

N_ENVS: Final = 16
NO_END: Final = 10**9


@dataclass(frozen=True)
class PeerMethod:
    """A way to use the peer.

    Attributes:
        trpo_share: share of the time budget that TRPO gets before PPO takes over its weights.
        target_kl: PPO's; in the notebooks it is read from a log key that does not exist, and is 0.
        ppo: further options of PPO, by horizon.
    """

    trpo_share: float
    target_kl: float | None = None
    ppo: Callable[[int], dict[str, Any]] = lambda horizon: {}


OUR_SETTINGS: Final = "PPO, our settings"


def _our_settings(horizon: int) -> dict[str, Any]:
    """Rate and epochs are the best of four pairs on a screen of seed 1, at both horizons."""
    chosen = SETTINGS[horizon]
    return {
        "n_steps": chosen.frames // N_ENVS,
        "batch_size": MINIBATCH,
        "n_epochs": 4,
        "learning_rate": 1e-2,
        "policy_kwargs": {"log_std_init": chosen.log_std, "net_arch": list(NETWORK)},
    }


PEERS: Final = {
    "PPO": PeerMethod(0.0),
    OUR_SETTINGS: PeerMethod(0.0, ppo=_our_settings),
    "TRPO": PeerMethod(1.0),
    "TRPO then PPO": PeerMethod(0.5),
    "notebook PPO": PeerMethod(0.0, target_kl=0.0),
    "notebook TRPO then PPO": PeerMethod(0.5, target_kl=0.0),
}


def make_environments(screen: Screen, seed: int = 0) -> DummyVecEnv:
    return DummyVecEnv([lambda i=i: ScreenEnv(screen, N_ENVS * seed + i) for i in range(N_ENVS)])


class _Judge(BaseCallback):
    """Judges the policy after every update, and stops when the race is over or the share of its time used up."""

    def __init__(self, race: Race, share: float) -> None:
        super().__init__()
        self._race, self._share = race, share
        self.collecting = self.training = 0.0
        self.frames = 0
        self._mark = perf_counter()
        self._fresh = True

    def _on_rollout_start(self) -> None:
        if not self._fresh:
            self.training += perf_counter() - self._mark
            self.frames = self.model.num_timesteps
            self._race.judge(lambda seen: self.model.predict(seen, deterministic=True)[0])
        self._fresh = False
        self._mark = perf_counter()

    def _on_rollout_end(self) -> None:
        self.collecting += perf_counter() - self._mark
        self._mark = perf_counter()

    def _on_step(self) -> bool:
        return not self._race.is_over(self._share)


def run_peer(name: str, screen: Screen, budget: float, seed: int, device: str) -> dict[str, Any]:
    """Train until 99 % of the way or the end of the budget; seconds do not count judging."""
    method, environments = PEERS[name], make_environments(screen, seed)
    options: dict[str, Any] = {"seed": seed, "device": device}
    trpo = TRPO("MlpPolicy", environments, **options)
    ppo = PPO("MlpPolicy", environments, target_kl=method.target_kl, **method.ppo(screen.horizon), **options)
    race = Race(screen, budget)
    judges = []
    if method.trpo_share:
        judges.append(_learn(trpo, race, method.trpo_share))
        ppo.policy.load_state_dict(trpo.policy.state_dict(), strict=False)
    if method.trpo_share < 1.0 and not race.is_over():
        judges.append(_learn(ppo, race, 1.0))
    trained = sum(judge.training for judge in judges)
    frames = sum(judge.frames for judge in judges)
    return race.result() | {"frames": frames, "frames_trained_per_s": frames / trained if trained else None}


def _learn(model: Any, race: Race, share: float) -> _Judge:
    judge = _Judge(race, share)
    model.learn(NO_END, callback=judge)
    return judge


def peer_collection(screen: Screen, seconds: float, device: str) -> float:
    """Frames per second of the peer's own rollout collection, policy and buffer included."""
    model = PPO("MlpPolicy", make_environments(screen), n_steps=64, seed=0, device=device)
    model.set_logger(Logger(None, []))
    _, callback = model._setup_learn(NO_END, callback=None)
    environments = _environments_of(model)
    rates, started = [], perf_counter()
    while perf_counter() - started < seconds:
        begin = perf_counter()
        model.collect_rollouts(environments, callback, model.rollout_buffer, n_rollout_steps=model.n_steps)
        rates.append(model.n_steps * N_ENVS / (perf_counter() - begin))
    return float(np.median(rates))


def peer_update(
    screen: Screen, n_rows: int, minibatch_size: int, epochs: int, device: str
) -> Callable[[], float]:
    """One call of PPO's own ``train`` on a batch that it collected; returns its seconds."""
    model = PPO(
        "MlpPolicy",
        make_environments(screen),
        n_steps=n_rows // N_ENVS,
        batch_size=minibatch_size,
        n_epochs=epochs,
        seed=0,
        device=device,
    )
    model.set_logger(Logger(None, []))
    _, callback = model._setup_learn(NO_END, callback=None)
    environments = _environments_of(model)
    model.collect_rollouts(environments, callback, model.rollout_buffer, n_rollout_steps=model.n_steps)

    def run() -> float:
        started = perf_counter()
        model.train()
        return perf_counter() - started

    return run


def _environments_of(model: PPO) -> VecEnv:
    assert model.env is not None
    return model.env
