"""Our side of the training benchmark: TwoStageModule under Lightning's Trainer, rates, and where the time goes."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from quiet import quiet

from benchmarks.breakdown import TRAINING_PARTS, Parts
from benchmarks.peer_training import peer_collection, peer_update
from benchmarks.screen_task import Screen, ScreenData, our_task, our_twin
from benchmarks.stopwatch import Race, finish
from benchmarks.train_settings import MINIBATCH, NETWORK, SETTINGS
from perturbrl.rl.critic_fit import critic_epochs
from perturbrl.rl.flat import FlatLayout
from perturbrl.rl.minibatches import Minibatches
from perturbrl.rl.ppo_kl import Moved, PPOKLLoss, ppo_kl_epochs
from perturbrl.rl.processes import ALONE
from perturbrl.rl.rollouts import add_advantages
from perturbrl.training.freed_memory import keep_freed_memory
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    TrustRegionOptions,
)
from perturbrl.training.stages import normalise_advantages
from perturbrl.training.two_stage import TwoStageModule


def make_module(
    screen: Screen, seed: int, hidden_sizes: Sequence[int] = NETWORK, **changes: Any
) -> TwoStageModule:
    """Large batches, a falling radius, and a network too small to learn from noise what it has no time to unlearn.

    With the peers' network of two layers of 64 the mean dose is as good, but what it learns of each cell is noise:
    both are in the table.
    """
    chosen = SETTINGS[screen.horizon]
    options: dict[str, Any] = {
        "policy": PolicyOptions(init_log_std=chosen.log_std, hidden_sizes=hidden_sizes),
        "rollout": RolloutOptions(n_cells=chosen.frames // screen.horizon, horizon=screen.horizon),
        "trust_region": TrustRegionOptions(
            max_kl=chosen.max_kl, max_kl_annealing="linear", cg_damping=100.0, cg_max_steps=2
        ),
        # With four steps an iteration stage 2 cannot add target_kl whatever the weight, so an adaptive one only falls.
        "ppo": PPOOptions(epochs=1, minibatch_size=MINIBATCH, target_kl=0.2, kl_coef_factor=1.0),
        "critic": CriticOptions(epochs=chosen.critic_epochs, minibatch_size=1024, learning_rate=3e-3),
    }
    return TwoStageModule(our_twin(), our_task(), seed=seed, **(options | changes))


class _Judge(Callback):
    def __init__(self, race: Race) -> None:
        self._race, self.iterations = race, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The twin is fitted and the networks are built, as the peer's are when its clock starts."""
        self._race.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TwoStageModule)
        network = pl_module.actor.module[0].module

        @torch.no_grad()
        def policy(seen: np.ndarray) -> np.ndarray:
            return network(torch.as_tensor(seen, device=pl_module.device))[0].cpu().numpy()

        self.iterations += 1
        self._race.judge(policy)
        trainer.should_stop = self._race.is_over()


def quiet_trainer(device: str, max_epochs: int, *callbacks: Callback) -> Trainer:
    """Without files and output; metrics are still logged to the trainer in every iteration."""
    keep_freed_memory()  # as the command does
    quiet()
    return Trainer(
        max_epochs=max_epochs,
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        log_every_n_steps=1,
    )


def run_ours(screen: Screen, budget: float, seed: int, device: str, **changes: Any) -> dict[str, Any]:
    """Train until 99 % of the way, the end of the budget or of the radius; seconds do not count judging."""
    module, race = make_module(screen, seed, **changes), Race(screen, budget)
    judge, parts = _Judge(race), Parts()
    with parts.measured():
        quiet_trainer(device, SETTINGS[screen.horizon].iterations, judge).fit(module, ScreenData(screen))
    frames = judge.iterations * module.rollout.n_cells * screen.horizon
    trained = sum(parts.seconds[name] for name in TRAINING_PARTS)
    return race.result() | {"frames": frames, "frames_trained_per_s": frames / trained}


class Bench:
    """A module that is set up for training, to time its pieces one by one."""

    def __init__(self, screen: Screen, device: str, **changes: Any) -> None:
        self.module = make_module(screen, 0, **changes)
        quiet_trainer(device, 1).fit(self.module, ScreenData(screen))
        self.rollouts = self.module.rollouts
        assert self.rollouts is not None

    def collection(self, seconds: float) -> float:
        """Frames per second through TorchRL's collector, values and advantages included, as the peer's are."""
        assert self.rollouts is not None
        started = perf_counter()
        rates: list[float] = []
        while perf_counter() - started < seconds:
            begin = perf_counter()
            batch = self.rollouts.collect(len(rates))
            frames = add_advantages(batch, self.module.critic, gamma=1.0, gae_lambda=0.95).numel()
            finish()
            rates.append(frames / (perf_counter() - begin))
        return float(np.median(rates))


def our_update(
    screen: Screen, n_rows: int, minibatch_size: int, epochs: int, device: str
) -> Callable[[], float]:
    """PPO and critic epochs on a batch of ours with the peer's minibatches, epochs and clipping; returns seconds.

    Adam is stepped directly; under Lightning each step costs what ``LightningOptimizer`` adds (see the breakdown).
    """
    rollout = RolloutOptions(n_cells=n_rows // screen.horizon, horizon=screen.horizon)
    bench = Bench(screen, device, rollout=rollout, policy=PolicyOptions(init_log_std=0.0))
    module, rollouts = bench.module, bench.rollouts
    assert rollouts is not None
    batch = add_advantages(rollouts.collect(0), module.critic, gamma=1.0, gae_lambda=0.95).reshape(-1)
    normalise_advantages(batch, ALONE)
    loss = PPOKLLoss(module.actor, 0.2)
    actor, critic = (
        torch.optim.Adam(m.parameters(), 3e-4, fused=True) for m in (module.actor, module.critic)
    )
    minibatches = Minibatches(len(batch), minibatch_size)
    layout = FlatLayout(list(module.actor.parameters()))
    start = layout.gather()
    common: dict[str, Any] = {"epochs": epochs, "max_grad_norm": 0.5}

    def run() -> float:
        layout.assign(start)
        started, random = perf_counter(), torch.Generator(device).manual_seed(0)
        done = ppo_kl_epochs(
            loss,
            actor.step,
            batch,
            minibatches,
            kl_coef=1e-3,
            kl_limit=1e9,
            generator=random,
            moved=Moved(),
            **common,
        )
        critic_epochs(module.critic, critic.step, batch, minibatches, generator=random, **common)
        assert done.steps == epochs * minibatches.per_epoch
        finish()
        return perf_counter() - started

    return run


def same_work(screen: Screen, n_rows: int, minibatch_size: int, epochs: int, device: str) -> dict[str, float]:
    """Seconds of both sides for the same minibatches and epochs, in turns; the ratio is the median over the turns."""
    arguments = (screen, n_rows, minibatch_size, epochs, device)
    theirs, ours = peer_update(*arguments), our_update(*arguments)
    times = np.array([(theirs(), ours()) for _ in range(6)])[1:]
    peer, mine = np.median(times, axis=0)
    return {"peer": float(peer), "ours": float(mine), "ratio": float(np.median(times[:, 0] / times[:, 1]))}


def collection(screen: Screen, device: str) -> dict[str, float]:
    """Frames per second collected by both sides, in turns; the ratio is the median over the turns."""
    bench = Bench(screen, device, policy=PolicyOptions(init_log_std=0.0))
    rates = np.array([(peer_collection(screen, 2.0, device), bench.collection(1.0)) for _ in range(4)])[1:]
    peer, mine = np.median(rates, axis=0)
    return {"peer": float(peer), "ours": float(mine), "ratio": float(np.median(rates[:, 1] / rates[:, 0]))}
