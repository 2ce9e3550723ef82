"""Figures of the escape study."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib.pyplot as plt
import numpy as np

from perturbrl.evaluation.statistics import interquartile_mean, performance_profile
from studies.escape_methods import DEFAULT, METHODS, SWEEPS
from studies.escape_tables import HEADLINE_TASKS, Study

CURVES: Final = (DEFAULT, "trust_region_only", "ppo_only", "ppo_only_helped")
COLOURS: Final = {
    DEFAULT: "#0072B2",
    "trust_region_only": "#009E73",
    "ppo_only": "#D55E00",
    "ppo_only_helped": "#CC79A7",
    "ppo_only_clipped": "#E69F00",
    "ppo_only_clipped_helped": "#56B4E9",
    "alternate_entropy": "#000000",
}
MARKERS: Final = dict(zip(COLOURS, "osv^DP*", strict=True))
WITHIN: Final = "success, 0 random to 1 optimum"


def write_figures(studies: Mapping[str, Study], folder: Path) -> None:
    """Learning curves, success against step size, and frames against ladder length, where there are such rows."""
    folder.mkdir(parents=True, exist_ok=True)
    if "boolean" in studies:
        study = studies["boolean"]
        tasks = dict.fromkeys(t for t in (*HEADLINE_TASKS, *study.hard_tasks) if t in study.tasks)
        shown = [m for m in CURVES if all(len(study.scores(m, task)) for task in study.hard_tasks)]
        if tasks and shown:
            _learning(study, list(tasks)[:3], shown, folder / "escape.png")
        if not study.sweep.empty:
            _steps(study, folder / "escape_steps.png")
    if "scaling" in studies:
        _scaling(studies["scaling"], folder / "escape_scaling.png")


def _learning(study: Study, tasks: Sequence[str], methods: Sequence[str], path: Path) -> None:
    width = len(tasks) + 1
    figure, axes = plt.subplots(1, width, figsize=(2.9 * width, 3.2), layout="constrained")
    for axis, task in zip(axes, tasks, strict=False):
        for method in methods:
            _curve(study, axis, task, method)
        axis.set(title=task, xlabel="thousand frames", ylim=(-0.05, 1.05))
    axes[0].set_ylabel(WITHIN)
    thresholds = np.linspace(0, 0.99, 100)
    for method in methods:
        strata = [study.scores(method, task) for task in study.hard_tasks]
        axes[-1].plot(
            thresholds, performance_profile(strata, thresholds), color=COLOURS[method], label=method
        )
    axes[-1].set(
        title=f"all {len(study.hard_tasks)} hard tasks", xlabel="final success above", ylim=(-0.05, 1.05)
    )
    axes[-1].set_ylabel("share of runs")
    _finish(figure, axes[-1], path, len(methods))


def _curve(study: Study, axis: plt.Axes, task: str, method: str) -> None:
    rows = study.table[(study.table.task == task) & (study.table.method == method)]
    curves = np.array([study.curve(row) for row in rows.itertuples()])
    frames = float(rows.frames.iloc[0]) / 1000 * np.arange(1, curves.shape[1] + 1) / curves.shape[1]
    axis.plot(frames, interquartile_mean(curves.T), color=COLOURS[method])
    low, high = np.quantile(curves, (0.25, 0.75), axis=0)
    axis.fill_between(frames, low, high, color=COLOURS[method], alpha=0.15, lw=0)


def _steps(study: Study, path: Path) -> None:
    tasks = list(dict.fromkeys(study.sweep.task))
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(3.4 * len(tasks), 3.6), layout="constrained", squeeze=False
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        for method in (m for m in SWEEPS if m in set(study.sweep.method)):
            rows = study.sweep[(study.sweep.task == task) & (study.sweep.method == method)]
            by_step = rows.assign(step=rows.step.astype(float)).groupby("step").normalised
            iqm = by_step.apply(lambda scores: float(interquartile_mean(scores.to_numpy())))
            axis.plot(iqm.index, iqm, marker=MARKERS[method], color=COLOURS[method], label=method)
        axis.set(title=task, xscale="log", xlabel="max_kl in nats; learning rate of PPO", ylim=(-0.2, 1.05))
    axes[0, 0].set_ylabel(WITHIN)
    _finish(figure, axes[0, 0], path, 3)


def _scaling(study: Study, path: Path) -> None:
    figure, axis = plt.subplots(figsize=(5.5, 4.2), layout="constrained")
    lengths = {task: int(re.sub(r"L(\d+).*", r"\1", task)) for task in study.tasks}
    for method in (m for m in COLOURS if m in study.methods):
        entries = {length: study.entry(method, task) for task, length in lengths.items()}
        solved = [(float(x), e.frames_to_90) for x, e in entries.items() if e is not None and e.reached]
        failed = [(x, e.frames_to_90) for x, e in entries.items() if e is not None and not e.reached]
        style: dict[str, Any] = {"color": COLOURS[method], "marker": MARKERS[method]}
        resets = "with" if METHODS[method].options.get("rollout", {}).get("restart_fraction") else "no"
        axis.plot(*np.array(solved).reshape(-1, 2).T, label=f"{method}, {resets} resets", **style)
        if failed:
            axis.plot(*np.array(failed).T, linestyle="", fillstyle="none", **style)
    axis.set(
        yscale="log",
        xlabel="rungs of the ladder",
        xticks=sorted(lengths.values()),
        ylabel="frames to 0.9 of the optimum",
        title="hollow: not within the budget",
    )
    _finish(figure, axis, path, 2)


def _finish(figure: plt.Figure, named: plt.Axes, path: Path, columns: int) -> None:
    handles = named.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=columns, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
