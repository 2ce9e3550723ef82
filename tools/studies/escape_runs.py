"""One run of the escape study: a method on a task with a seed, judged exactly."""

import logging
import time
import warnings
from functools import lru_cache
from math import inf, nan
from typing import Any, Final

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from perturbrl.envs.tasks import ReachCellState
from perturbrl.evaluation.design import simulate
from perturbrl.planning.cross_entropy import CrossEntropySearch, ModelPredictiveControl
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.planning.exact import ExactResult, PolicyChain
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    TrustRegionOptions,
)
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.macro import MacroTwin
from perturbrl.twins.network_twin import NetworkTwin
from perturbrl.twins.task_suite import ReprogrammingTask, reprogramming_task
from studies.escape_methods import BASE, HORIZON, METHODS, N_CELLS, VERSIONS, Method, Version
from studies.escape_tables import SOLVED
from studies.runner import Row, Run

SEARCH_CELLS: Final = 512


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


def reach(
    task: ReprogrammingTask,
    twin: NetworkTwin,
    version: Version = VERSIONS["boolean"],
    method: Method | None = None,
) -> ReachCellState:
    """The goal, aimed; Hamming distances, and success at the target itself (between states: nearest to it)."""
    changes = {} if method is None else method.options.get("task", {})
    settings: dict[str, Any] = {
        "reward": version.reward,
        "norm": "manhattan",
        "success_radius": 0.01,
    } | changes
    aimed = ReachCellState(goal="centroid", success="radius", **settings)
    aimed.aim(twin.start_cells, twin.attractors()[task.target])
    return aimed


def chain_of(task: ReprogrammingTask) -> PolicyChain:
    """What judges every policy on the task."""
    twin = twin_of(task)
    twin.start_from(task_start(twin, task))
    return PolicyChain(twin, reach(task, twin), twin.attractors()[task.target], horizon_of(task))


class ExactCurve(Callback):
    """Success after every iteration, computed exactly, and the processor time that training took.

    The module's own task says what the policy sees: another one, aimed at the same goal, could scale it differently.

    Args:
        enough: success at which training may end; infinite trains for the whole budget.
    """

    def __init__(self, enough: float = inf) -> None:
        self.enough, self.results = enough, list[ExactResult]()
        self.seconds, self._started = 0.0, 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The module has aimed its task."""
        assert isinstance(pl_module, TwoStageModule)
        assert isinstance(pl_module.twin, MacroTwin)
        self.chain = PolicyChain(
            pl_module.twin, pl_module.task, pl_module.goal_cells[:1], pl_module.rollout.horizon
        )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._started = time.process_time()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, TwoStageModule)
        self.seconds += time.process_time() - self._started
        self.results.append(self.chain.judge(pl_module.actor))
        trainer.should_stop = self.results[-1].success >= self.enough


def module_of(
    method: Method,
    twin: NetworkTwin,
    task: ReachCellState,
    horizon: int,
    exploring_frames: int,
    step: float | None,
    seed: int,
) -> TwoStageModule:
    """The module of a trained method."""
    changes = {group: dict(values) for group, values in method.options.items()}
    if step is not None and method.step is not None:
        group, name = method.step
        changes.setdefault(group, {})[name] = step
    rollout = {"n_cells": N_CELLS, "horizon": horizon} | changes.get("rollout", {})
    if "entropy_bonus" in rollout:
        rollout["entropy_iterations"] = max(1, exploring_frames // (N_CELLS * horizon))
    return TwoStageModule(
        twin,
        task,
        method.schedule,
        method.trust_region_iterations,
        PolicyOptions(**BASE["policy"]),
        RolloutOptions(**rollout),
        TrustRegionOptions(**(BASE["trust_region"] | changes.get("trust_region", {}))),
        PPOOptions(**(BASE["ppo"] | changes.get("ppo", {}))),
        CriticOptions(**BASE["critic"]),
        seed=seed,
    )


def task_start(twin: NetworkTwin, task: ReprogrammingTask) -> torch.Tensor:
    """The source attractor, where evaluation always starts."""
    return twin.attractors()[task.source]


def quiet() -> None:
    """One line per run is the runner's; Lightning's notes are not wanted beside it."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def one_run(setting: Run) -> Row:
    """The row of one setting: version, task, method, step (empty: the method's own), budget and seed."""
    quiet()
    torch.set_num_threads(1)
    task, method = reprogramming_task(str(setting["task"])), METHODS[str(setting["method"])]
    version, seed = VERSIONS[str(setting["version"])], int(str(setting["seed"]))
    step = None if setting["step"] == "" else float(str(setting["step"]))
    frames = int(str(setting["budget"]))
    if version.continuous:
        from studies.escape_ode import continuous_run

        return continuous_run(method, task, version, frames, seed)
    if method.kind == "trained":
        return _trained(method, task, version, frames, step, seed)
    if method.kind == "exact":
        return row_of(_exact(method, task), [], 0.0, 0)
    if method.kind == "search":
        return _searched(method, task, seed)
    from studies.outside import train_outside

    iterations = iterations_for(frames, task)
    curve, seconds = train_outside(method.name, task, chain_of(task), iterations, seed)
    success = [result.success for result in curve]
    return row_of(curve[-1], success, seconds, iterations * N_CELLS * horizon_of(task))


def _trained(
    method: Method, task: ReprogrammingTask, version: Version, frames: int, step: float | None, seed: int
) -> Row:
    horizon, twin = horizon_of(task), twin_of(task)
    twin.start_from(task_start(twin, task))
    aimed = reach(task, twin, version, method)
    module = module_of(method, twin, aimed, horizon, version.exploring_frames, step, seed)
    watch = ExactCurve(solved_at(task) if version.stops_when_solved else inf)
    train(module, task, iterations_for(frames, task), watch)
    curve = [result.success for result in watch.results]
    likeliest = watch.chain.judge(module.actor, explore=False)
    return row_of(watch.results[-1], curve, watch.seconds, len(curve) * N_CELLS * horizon, likeliest.success)


def solved_at(task: ReprogrammingTask) -> float:
    """Success at 0.9 between uniformly random actions and the optimum, with room for what a row rounds off."""
    floor, best = (_exact(METHODS[name], task).success for name in ("random", "optimum"))
    return floor + SOLVED * (best - floor) + 1e-3


def train(module: TwoStageModule, task: ReprogrammingTask, iterations: int, *callbacks: Callback) -> None:
    """Fit a module, writing nothing."""
    trainer = Trainer(
        max_epochs=iterations,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=list(callbacks),
    )
    trainer.fit(module, PerturbationDataModule(source=task.source, target=task.target))


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


def _searched(method: Method, task: ReprogrammingTask, seed: int) -> Row:
    twin = twin_of(task)
    twin.start_from(task_start(twin, task))
    aimed, goal = reach(task, twin), twin.attractors()[task.target]
    problem = DesignProblem(twin, aimed, twin.perturbations, horizon_of(task), goal, seed)
    planner = CrossEntropySearch() if method.name == "cem" else ModelPredictiveControl()
    started = time.process_time()
    planner.plan(problem)
    ended = simulate(problem, planner, twin.start_cells.expand(SEARCH_CELLS, -1)).final
    share = float(aimed.is_success(ended, goal.expand_as(ended)).float().mean())
    return row_of(ExactResult(share, nan), [], time.process_time() - started, 0)


def row_of(
    result: ExactResult, curve: list[float], seconds: float, frames: int, likeliest: float = nan
) -> Row:
    """The columns of one run; ``frames`` is 0 for what is not trained."""
    return {
        "success": round(result.success, 5),
        "likeliest_success": round(likeliest, 5),
        "interventions": round(result.interventions, 4),
        "frames": frames,
        "seconds": round(seconds, 2),
        "curve": " ".join(f"{value:.3f}" for value in curve),
    }
