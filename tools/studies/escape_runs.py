"""One run of the escape study: a method on a task with a seed, judged exactly."""

import time
from math import inf, nan
from typing import Any, Final

import numpy as np
import torch
from lightning import LightningModule, Trainer
from quiet import quiet

from perturbrl.evaluation.simulation import simulate
from perturbrl.planning.cross_entropy import CrossEntropySearch, ModelPredictiveControl
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.planning.exact import ExactResult, PolicyChain
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.macro import MacroTwin
from perturbrl.twins.task_suite import ReprogrammingTask, reprogramming_task
from studies.escape_methods import METHODS, N_CELLS, VERSIONS, Method, Version
from studies.escape_ode import continuous_run
from studies.escape_tables import SOLVED
from studies.escape_tasks import chain_of, horizon_of, iterations_for, reach, row_of, task_start, twin_of
from studies.escape_training import TrainingClock, module_of, train
from studies.runner import Row, Run

SEARCH_CELLS: Final = 512


class ExactCurve(TrainingClock):
    """Success after every iteration, computed exactly, and the processor time that training took.

    The module's own task says what the policy sees: another one, aimed at the same goal, could scale it differently.

    Args:
        enough: success at which training may end; infinite trains for the whole budget.
    """

    def __init__(self, enough: float = inf) -> None:
        super().__init__()
        self.enough, self.results = enough, list[ExactResult]()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The module has aimed its task."""
        assert isinstance(pl_module, TwoStageModule)
        assert isinstance(pl_module.twin, MacroTwin)
        self.chain = PolicyChain(
            pl_module.twin, pl_module.task, pl_module.goal_cells[:1], pl_module.rollout.horizon
        )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *args)
        assert isinstance(pl_module, TwoStageModule)
        self.results.append(self.chain.judge(pl_module.actor))
        trainer.should_stop = self.results[-1].success >= self.enough


def one_run(setting: Run) -> Row:
    """The row of one setting: version, task, method, step (empty: the method's own), budget and seed."""
    quiet()
    torch.set_num_threads(1)
    task, method = reprogramming_task(str(setting["task"])), METHODS[str(setting["method"])]
    version, seed = VERSIONS[str(setting["version"])], int(str(setting["seed"]))
    step = None if setting["step"] == "" else float(str(setting["step"]))
    frames = int(str(setting["budget"]))
    if version.continuous:
        return continuous_run(method, task, version, frames, seed)
    if method.kind == "trained":
        return _trained(method, task, version, frames, step, seed)
    if method.kind == "exact":
        return row_of(_exact(method, task), [], 0.0, 0)
    if method.kind == "search":
        return _searched(method, task, seed)
    from studies.outside import train_outside  # stable-baselines3 comes with the extra bench only

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
