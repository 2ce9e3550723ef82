"""The escape study's tasks on stochastic differential equations, with continuous doses of all allowed genes.

Success is the share of cells that are nearest to the target after dosing has ended and they have relaxed. There
is no exact optimum here; the reference is the best of all that was tried, called best_known: the Boolean optimum
replayed (the dose of each cell's nearest attractor), cross-entropy search and every trained policy.
"""

import time
from functools import lru_cache
from math import nan
from typing import Any, Final

import torch
from lightning import LightningModule, Trainer
from tensordict import TensorDictBase
from torch import Generator, Tensor

from perturbrl import schema
from perturbrl.evaluation.simulation import PolicyDesign, simulate
from perturbrl.planning.cross_entropy import CrossEntropySearch
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.exact import ExactResult
from perturbrl.planning.planners import NoOpDesign
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.goals import start_and_goal
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin
from perturbrl.twins.task_suite import ReprogrammingTask
from studies.escape_methods import N_CELLS, Method, Version
from studies.escape_tasks import horizon_of, iterations_for, reach, row_of, task_start
from studies.escape_training import TrainingClock, module_of, train
from studies.runner import Row

NOISE: Final = 0.05
HOLD: Final = 40
JUDGED_CELLS: Final = 256
JUDGE_EVERY: Final = 4


class UniformDoses(Planner):
    """Every cell gets doses of its own at every step, uniform in the box."""

    name = "random"

    def plan(self, problem: DesignProblem) -> bool:
        self.space = problem.space
        self.generator = Generator().manual_seed(problem.seed)
        return not problem.space.discrete

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        drawn = torch.rand(len(observed), self.space.n_perturbations, generator=self.generator)
        return self.space.low + drawn * (self.space.high - self.space.low)


class ReplayedOptimum(Planner):
    """The optimal clamps of the Boolean decision process, given by each cell's nearest attractor.

    Args:
        task: names source, target and allowed genes.
    """

    name = "replay"

    def __init__(self, task: ReprogrammingTask) -> None:
        self.task = task

    def plan(self, problem: DesignProblem) -> bool:
        twin = problem.twin
        if not isinstance(twin, RegulatoryNetworkTwin):
            return False
        self.twin = twin
        self.policy = self.task.mdp.optimal_policy(self.task.target, problem.horizon)[::-1].copy()
        return True

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        nearest = [
            self.task.mdp.node(name) for name in self.twin.nearest_attractor(observed[schema.CELL_STATE])
        ]
        choice = torch.from_numpy(self.policy[step])[nearest]
        n = self.twin.perturbations.n_perturbations
        clamps = torch.cat((torch.zeros(1, n), torch.eye(n), -torch.eye(n)))
        return clamps[choice]


class SampledCurve(TrainingClock):
    """Share of simulated cells that arrive, every few iterations, by the policy's mean doses.

    Args:
        problem: twin, task and horizon.
        target: attractor to reach.
    """

    def __init__(self, problem: DesignProblem, target: str) -> None:
        super().__init__()
        self.problem, self.target = problem, target
        self.curve: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *args)
        assert isinstance(pl_module, TwoStageModule)
        if (trainer.current_epoch + 1) % JUDGE_EVERY == 0:
            self.curve.append(share_arrived(self.problem, PolicyDesign(pl_module.actor), self.target))


@lru_cache(maxsize=4)
def continuous_twin(task: ReprogrammingTask) -> RegulatoryNetworkTwin:
    """Differential equations whose transition holds a dose until it has settled and lets go as long."""
    return RegulatoryNetworkTwin(
        task.network,
        task.controllable,
        task.source,
        noise=NOISE,
        steps_per_action=HOLD,
        release_steps=HOLD,
    )


def share_arrived(problem: DesignProblem, planner: Planner, target: str) -> float:
    """Share of cells nearest to the target after dosing has ended and they have relaxed."""
    twin = problem.twin
    assert isinstance(twin, RegulatoryNetworkTwin)
    rows = torch.arange(JUDGED_CELLS) % len(twin.start_cells)
    final = simulate(problem, planner, twin.start_cells[rows]).final
    return sum(name == target for name in twin.nearest_attractor(final)) / len(final)


def continuous_run(method: Method, task: ReprogrammingTask, version: Version, frames: int, seed: int) -> Row:
    """The row of one setting on the differential equations."""
    twin, data = continuous_twin(task), PerturbationDataModule(source=task.source, target=task.target)
    twin.start_from(task_start(twin, task))
    aimed = reach(task, twin, version, method)
    start, goal, reference, *_ = start_and_goal(twin, data, Generator().manual_seed(seed))
    twin.start_from(start)
    aimed.aim(start, goal, reference)
    problem = DesignProblem(twin, aimed, twin.perturbations, horizon_of(task), goal, seed)
    started = time.process_time()
    if method.kind != "trained":
        planner = {
            "no_op": NoOpDesign(),
            "random": UniformDoses(),
            "replay": ReplayedOptimum(task),
            "cem": CrossEntropySearch(n_iterations=20),
        }[method.name]
        planner.plan(problem)
        share = share_arrived(problem, planner, task.target)
        return row_of(ExactResult(share, nan), [], time.process_time() - started, 0)
    iterations = iterations_for(frames, task)
    module = module_of(method, twin, aimed, horizon_of(task), version.exploring_frames, None, seed)
    watch = SampledCurve(problem, task.target)
    train(module, task, iterations, watch)
    end = ExactResult(share_arrived(problem, PolicyDesign(module.actor), task.target), nan)
    return row_of(end, watch.curve, watch.seconds, iterations * N_CELLS * horizon_of(task))
