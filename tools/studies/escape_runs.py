"""One run of the escape study: a method on a task with a seed, judged exactly."""

import logging
import time
import warnings
from functools import lru_cache
from math import nan
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from perturbrl.envs.macro_twin import MacroTwin
from perturbrl.envs.task_suite import ReprogrammingTask, reprogramming_task
from perturbrl.envs.tasks import ReachCellState
from perturbrl.evaluation.design import simulate
from perturbrl.evaluation.exact import ExactResult, PolicyChain
from perturbrl.evaluation.planners import DesignProblem
from perturbrl.evaluation.search_planners import CrossEntropySearch, ModelPredictiveControl
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    TrustRegionOptions,
)
from perturbrl.training.two_stage import TwoStageModule
from studies.escape_methods import BASE, ENTROPY_SHARE, HORIZON, METHODS, N_CELLS, Method
from studies.runner import Row, Run

SEARCH_CELLS = 512


def horizon_of(task: ReprogrammingTask) -> int:
    """Actions per episode: enough for the detour to pay under a price on time spent far away."""
    return max(HORIZON, task.horizon) if task.kind == "ladder" else HORIZON


def iterations_for(frames: int, task: ReprogrammingTask) -> int:
    """Whole iterations that the budget pays for."""
    return max(1, frames // (N_CELLS * horizon_of(task)))


@lru_cache(maxsize=4)
def twin_of(task: ReprogrammingTask) -> MacroTwin:
    """The task's twin; the table behind it takes longer to make than many a run."""
    return task.macro_twin()


def reach(task: ReprogrammingTask, twin: MacroTwin, **options: Any) -> ReachCellState:
    """The goal, aimed: minus the Hamming distance after every action, and success at the target itself."""
    settings = {"reward": "closeness", "norm": "manhattan"} | options
    aimed = ReachCellState(goal="centroid", success="radius", success_radius=0.01, **settings)
    aimed.aim(twin.start_cells, twin.attractors()[task.target])
    return aimed


def chain_of(task: ReprogrammingTask) -> PolicyChain:
    """What judges every policy on the task."""
    twin = twin_of(task)
    return PolicyChain(twin, reach(task, twin), twin.attractors()[task.target], horizon_of(task))


class ExactCurve(Callback):
    """Success after every iteration, computed exactly, and the processor time that training took.

    Args:
        chain: judges the policy.
    """

    def __init__(self, chain: PolicyChain) -> None:
        self.chain, self.results = chain, list[ExactResult]()
        self.seconds, self._started = 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._started = time.process_time()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, TwoStageModule)
        self.seconds += time.process_time() - self._started
        self.results.append(self.chain.judge(pl_module.actor))


def module_of(
    method: Method, task: ReprogrammingTask, iterations: int, step: float | None, seed: int
) -> TwoStageModule:
    """The module of a trained method on a task."""
    changes = {group: dict(values) for group, values in method.options.items()}
    if step is not None and method.step is not None:
        group, name = method.step
        changes.setdefault(group, {})[name] = step
    rollout = {"n_cells": N_CELLS, "horizon": horizon_of(task)} | changes.get("rollout", {})
    if "entropy_bonus" in rollout:
        rollout["entropy_iterations"] = max(1, round(ENTROPY_SHARE * iterations))
    twin = twin_of(task)
    twin.start_from(task_start(twin, task))
    return TwoStageModule(
        twin,
        reach(task, twin, **changes.get("task", {})),
        method.schedule,
        method.trust_region_iterations,
        PolicyOptions(**BASE["policy"]),
        RolloutOptions(**rollout),
        TrustRegionOptions(**(BASE["trust_region"] | changes.get("trust_region", {}))),
        PPOOptions(**(BASE["ppo"] | changes.get("ppo", {}))),
        CriticOptions(**BASE["critic"]),
        seed=seed,
    )


def task_start(twin: MacroTwin, task: ReprogrammingTask) -> torch.Tensor:
    """The source attractor, where evaluation always starts."""
    return twin.attractors()[task.source]


def quiet() -> None:
    """One line per run is the runner's; Lightning's notes are not wanted beside it."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def one_run(frames: int, setting: Run) -> Row:
    """The row of one setting: task, method, step (empty: the method's own) and seed."""
    quiet()
    torch.set_num_threads(1)
    task, method = reprogramming_task(str(setting["task"])), METHODS[str(setting["method"])]
    seed = int(str(setting["seed"]))
    step = None if setting["step"] == "" else float(str(setting["step"]))
    if method.kind == "trained":
        return _trained(method, task, frames, step, seed)
    if method.kind == "exact":
        return _row(_exact(method, task), [], 0.0, frames, task)
    if method.kind == "search":
        return _searched(method, task, frames, seed)
    from studies.outside import train_outside

    curve, seconds = train_outside(method.name, task, chain_of(task), frames, seed)
    return _row(curve[-1], [result.success for result in curve], seconds, frames, task)


def _trained(method: Method, task: ReprogrammingTask, frames: int, step: float | None, seed: int) -> Row:
    iterations = iterations_for(frames, task)
    module = module_of(method, task, iterations, step, seed)
    watch = ExactCurve(chain_of(task))
    trainer = Trainer(
        max_epochs=iterations,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=[watch],
    )
    trainer.fit(module, PerturbationDataModule(source=task.source, target=task.target))
    curve = [result.success for result in watch.results]
    likeliest = watch.chain.judge(module.actor, explore=False)
    return _row(watch.results[-1], curve, watch.seconds, frames, task, likeliest.success)


def _exact(method: Method, task: ReprogrammingTask) -> ExactResult:
    chain, mdp = chain_of(task), task.mdp
    if method.name == "random":
        n_states, n_actions = chain.outcome.shape[:2]
        return chain.judge_table(torch.full((chain.horizon, n_states, n_actions), 1.0 / n_actions).double())
    if method.name == "no_op":
        policy = np.zeros((chain.horizon, len(mdp.attractors)), dtype=np.int64)
    elif method.name == "optimum":
        policy = mdp.optimal_policy(task.target, chain.horizon)[::-1]
    elif method.name == "greedy":
        policy = np.tile(mdp.greedy_policy(task.target), (chain.horizon, 1))
    else:
        policy = np.tile(mdp.lookahead_policy(task.target, method.depth), (chain.horizon, 1))
    return chain.judge_actions(_by_state(policy, task))


def _by_state(policy: np.ndarray, task: ReprogrammingTask) -> torch.Tensor:
    """A policy over attractors, ``[time, attractors]``, as one over the twin's states."""
    return torch.from_numpy(np.ascontiguousarray(policy))[:, twin_of(task).node]


def _searched(method: Method, task: ReprogrammingTask, frames: int, seed: int) -> Row:
    twin = twin_of(task)
    twin.start_from(task_start(twin, task))
    aimed, goal = reach(task, twin), twin.attractors()[task.target]
    problem = DesignProblem(twin, aimed, twin.perturbations, horizon_of(task), goal, seed)
    planner = CrossEntropySearch() if method.name == "cem" else ModelPredictiveControl()
    started = time.process_time()
    if not planner.plan(problem):
        raise RuntimeError(f"{method.name} cannot treat {task.name}")
    ended = simulate(problem, planner, twin.start_cells.expand(SEARCH_CELLS, -1)).final
    share = float(aimed.is_success(ended, goal.expand_as(ended)).float().mean())
    return _row(ExactResult(share, nan), [], time.process_time() - started, frames, task)


def _row(
    result: ExactResult,
    curve: list[float],
    seconds: float,
    frames: int,
    task: ReprogrammingTask,
    likeliest: float = nan,
) -> Row:
    return {
        "success": round(result.success, 5),
        "likeliest_success": round(likeliest, 5),
        "interventions": round(result.interventions, 4),
        "frames": frames if curve else 0,
        "seconds": round(seconds, 2),
        "curve": " ".join(f"{value:.3f}" for value in curve),
    }

