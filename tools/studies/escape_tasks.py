"""The escape study's tasks: horizon, twin, aimed goal, what judges a policy exactly, and the columns of a row."""

from functools import lru_cache
from math import nan
from typing import Any

import torch

from perturbrl.envs.tasks import ReachCellState
from perturbrl.planning.exact import ExactResult, PolicyChain
from perturbrl.twins.macro import MacroTwin
from perturbrl.twins.network_twin import NetworkTwin
from perturbrl.twins.task_suite import ReprogrammingTask
from studies.escape_methods import HORIZON, N_CELLS, VERSIONS, Method, Version
from studies.runner import Row


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


def task_start(twin: NetworkTwin, task: ReprogrammingTask) -> torch.Tensor:
    """The source attractor, where evaluation always starts."""
    return twin.attractors()[task.source]


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
