"""What the rows of the escape study amount to: one entry per task and method, and the figures of the JSON line."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np
import pandas as pd

from perturbrl.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    improvement_interval,
    interquartile_mean,
)
from studies.escape_methods import DEFAULT, METHODS

SOLVED = 0.9
HEADLINE_TASKS = ("D10", "L4", "L4t")


@dataclass(frozen=True)
class Entry:
    """One method on one task, over seeds.

    Attributes:
        success: normalised between uniformly random actions (0) and the optimum (1): interquartile mean over
            seeds with its bootstrap interval.
        frames_to_90: median frames until success first reaches 0.9 on that scale; the budget where the median
            run never does (``reached`` is False), a lower bound then.
        seconds_to_90: processor seconds of training until then, or of the whole budget.
        reached: whether the median run gets there.
        interventions: median expected number of clamps before a cell first arrives.
        seconds: median processor time of training.
        n_seeds: runs behind the entry.
    """

    success: Interval
    frames_to_90: float
    seconds_to_90: float
    reached: bool
    interventions: float
    seconds: float
    n_seeds: int


class Study:
    """The rows of one version of the study, with success on a scale from random (0) to the optimum (1).

    Where no optimum is known, 1 is the best of all that was tried.

    Args:
        table: one row per run; ``random`` is among the methods of every task.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        table = table.fillna({"curve": "", "step": ""})
        self.knows_optimum = "optimum" in set(table.method)
        means = table.groupby(["method", "task"]).success.mean()
        best_known = means.groupby(level="task").max()
        self.floor, self.ceiling = means["random"], means["optimum"] if self.knows_optimum else best_known
        self.sweep = self._normalised(table[table.step.astype(str) != ""])
        self.table = self._normalised(table[table.step.astype(str) == ""])

    def _normalised(self, table: pd.DataFrame) -> pd.DataFrame:
        floor, ceiling = table.task.map(self.floor), table.task.map(self.ceiling)
        return table.assign(normalised=(table.success - floor) / (ceiling - floor))

    @property
    def tasks(self) -> list[str]:
        """Tasks in the order they were run."""
        return list(dict.fromkeys(self.table.task))

    @property
    def hard_tasks(self) -> list[str]:
        """Those with a detour or a trap; the easy ones are controls."""
        return [task for task in self.tasks if not task.startswith("S")]

    @property
    def methods(self) -> list[str]:
        """Methods in the order of their definition."""
        present = set(self.table.method)
        return [name for name in METHODS if name in present]

    def scores(self, method: str, task: str) -> np.ndarray:
        """Normalised success of every seed."""
        table = self.table
        return table[(table.method == method) & (table.task == task)].normalised.to_numpy()

    def entry(self, method: str, task: str) -> Entry | None:
        """The entry of a method on a task, ``None`` where it was not run."""
        rows = self.table[(self.table.method == method) & (self.table.task == task)]
        if rows.empty:
            return None
        frames, trained = self.frames_to_90(rows), bool(rows.frames.max())
        median = float(np.median(frames))
        shares = np.minimum(frames / rows.frames.clip(lower=1), 1.0)
        return Entry(
            success=interval_of(rows.normalised.to_numpy()),
            frames_to_90=min(median, float(rows.budget.max() if trained else 0)),
            seconds_to_90=float((shares * rows.seconds).median()),
            reached=bool(median < inf),
            interventions=_median(rows.interventions),
            seconds=float(rows.seconds.median()),
            n_seeds=len(rows),
        )

    def frames_to_90(self, rows: pd.DataFrame) -> np.ndarray:
        """Frames until each run first reaches 0.9, infinite where it never does."""
        return np.array([self._first(row) for row in rows.itertuples()])

    def _first(self, row: object) -> float:
        curve = self.curve(row)
        hits = np.flatnonzero(curve >= SOLVED)
        frames: float = row.frames  # type: ignore[attr-defined]
        return (hits[0] + 1) * frames / len(curve) if len(hits) else inf

    def curve(self, row: object) -> np.ndarray:
        """Normalised success of a run after every iteration."""
        task, curve = row.task, row.curve  # type: ignore[attr-defined]
        values = np.array([float(value) for value in str(curve).split()])
        return (values - self.floor[task]) / (self.ceiling[task] - self.floor[task])

    def best_of(self, methods: Iterable[str], tasks: Sequence[str]) -> str | None:
        """The method with the highest mean success over tasks, the fastest to 0.9 among equals."""
        run = [m for m in methods if all(len(self.scores(m, t)) for t in tasks)]
        return max(run, key=lambda m: self._rank(m, tasks), default=None)

    def _rank(self, method: str, tasks: Sequence[str]) -> tuple[float, float]:
        entries = [self.entry(method, task) for task in tasks]
        success = np.mean([e.success.estimate for e in entries if e is not None])
        speed = -np.mean([np.log(e.frames_to_90) for e in entries if e is not None])
        return round(float(success), 2), float(speed)


def _median(values: pd.Series) -> float:
    """Of those that exist: cells of exact references that never arrive need no number of clamps."""
    known = values.dropna()
    return float(known.median()) if len(known) else nan


def interval_of(scores: np.ndarray) -> Interval:
    """Interquartile mean with its interval; fewer than five scores have none."""
    if len(scores) < 5:
        return Interval(float(interquartile_mean(scores)), nan, nan)
    return bootstrap_interval([scores])


def frames_ratios(
    study: Study, rivals: Sequence[str], tasks: Sequence[str], patient: Study | None = None
) -> dict[str, float]:
    """Per task: the fastest rival's frames to 0.9 over those of the default method.

    Who does not get there counts with the budget: the ratio is a lower bound where that is every rival, an upper
    bound where it is the default method. Tasks that none of them solves are left out. What rivals did with more
    patience counts instead, where they were given it.
    """
    ratios = {}
    for task in tasks:
        ours = study.entry(DEFAULT, task)
        theirs = [] if patient is None else _entries(patient, rivals, task)
        theirs = theirs or _entries(study, rivals, task)
        if ours is not None and theirs and any(entry.reached for entry in (ours, *theirs)):
            ratios[task] = min(entry.frames_to_90 for entry in theirs) / ours.frames_to_90
    return ratios


def _entries(study: Study, methods: Sequence[str], task: str) -> list[Entry]:
    return [entry for method in methods if (entry := study.entry(method, task)) is not None]


def geometric_mean(values: Iterable[float]) -> float:
    """Of ratios; nan where there is none."""
    logs = [np.log(value) for value in values]
    return float(np.exp(np.mean(logs))) if logs else nan


def improvement(study: Study, rival: str, tasks: Sequence[str], most: float = inf) -> Interval | None:
    """Probability that a run of the default method beats one of ``rival``; ties count one half.

    Scores above ``most`` count as ``most``: where runs stop once a task is solved, they do not differ beyond.
    """
    tasks = [t for t in tasks if len(study.scores(DEFAULT, t)) > 1 and len(study.scores(rival, t)) > 1]
    if not tasks:
        return None
    ours, theirs = ([study.scores(m, t).clip(max=most).round(3) for t in tasks] for m in (DEFAULT, rival))
    return improvement_interval(ours, theirs)


def robustness(study: Study) -> dict[str, float]:
    """Share of each method's step sizes and tasks where the interquartile mean over seeds reaches 0.9."""
    sweep = study.sweep
    if sweep.empty:
        return {}
    iqm = sweep.groupby(["method", "task", "step"]).normalised.apply(
        lambda scores: float(interquartile_mean(scores.to_numpy()))
    )
    return {str(m): float((rows >= SOLVED).mean()) for m, rows in iqm.groupby(level="method")}


def at_equal_time(study: Study, task: str, methods: Sequence[str]) -> Mapping[str, Interval]:
    """Success when every method has had as much processor time as the quickest one needs for its budget."""
    rows = study.table[(study.table.task == task) & study.table.method.isin(methods)]
    rows = rows[rows.curve != ""]
    if rows.empty:
        return {}
    budget = rows.groupby("method").seconds.median().min()
    found = {}
    for method, runs in rows.groupby("method"):
        scores = [_after(study, row, budget) for row in runs.itertuples()]
        found[str(method)] = interval_of(np.array(scores))
    return found


def _after(study: Study, row: object, budget: float) -> float:
    curve = study.curve(row)
    share = min(1.0, budget / max(row.seconds, 1e-9))  # type: ignore[attr-defined]
    return float(curve[max(0, round(share * len(curve)) - 1)])
