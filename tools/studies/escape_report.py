"""Tables, the JSON line and figures of the escape study."""

from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from perturbrl.evaluation.statistics import interquartile_mean, performance_profile
from studies.escape_methods import DEFAULT, HELPED_PPO, SWEEPS, TUNED_PPO
from studies.escape_tables import (
    HEADLINE_TASKS,
    SOLVED,
    Entry,
    Study,
    at_equal_time,
    frames_ratios,
    geometric_mean,
    improvement,
    robustness,
)

CURVES = (DEFAULT, "trust_region_only", "ppo_only", "ppo_only_helped")
COLOURS = dict(zip(CURVES, ("#0072B2", "#009E73", "#D55E00", "#CC79A7"), strict=True))


def summary(study: Study) -> dict[str, object]:
    """The study in one object, the last line of its output."""
    hard = study.hard_tasks
    headline = [task for task in HEADLINE_TASKS if task in study.tasks]
    best, helped = study.best_of(TUNED_PPO, headline or hard), study.best_of(HELPED_PPO, headline or hard)
    ours = [entry.success.estimate for task in hard if (entry := study.entry(DEFAULT, task))]
    ratios, helped_ratios = (frames_ratios(study, rivals, hard) for rivals in (TUNED_PPO, HELPED_PPO))
    found: dict[str, object] = {
        "normalised_success": {task: _intervals(study, task) for task in study.tasks},
        "two_stage_min_normalised_success": _rounded(min(ours, default=float("nan"))),
        "frames_to_90_ratio_over_tuned_ppo": _rounded(geometric_mean(ratios.values())),
        "frames_to_90_ratio_by_task": {task: _rounded(value) for task, value in ratios.items()},
        "frames_to_90_ratio_over_helped_ppo": _rounded(geometric_mean(helped_ratios.values())),
        "robustness": {method: _rounded(share) for method, share in robustness(study).items()},
        "tuned_ppo": best,
    }
    for key, rival in (("over_ppo", best), ("over_helped_ppo", helped)):
        won = None if rival is None else improvement(study, rival, headline)
        if won is not None:
            found[f"probability_of_improvement_{key}"] = [_rounded(x) for x in (won.estimate, won.low, won.high)]
    return found


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if isfinite(value) else None


def _intervals(study: Study, task: str) -> dict[str, list[float | None]]:
    found = {}
    for method in study.methods:
        entry = study.entry(method, task)
        if entry is not None:
            interval = entry.success
            found[method] = [_rounded(x) for x in (interval.estimate, interval.low, interval.high)]
    return found


def print_tables(study: Study, console: Console) -> None:
    """Success, frames and interventions of every method on every task; equal time; robustness."""
    console.print(_table(study, "Normalised success at equal frames: IQM over seeds [95 % interval]", _success))
    console.print(_table(study, f"Thousand frames until {SOLVED:g} of the optimum, median (> budget: never)", _frames))
    console.print(_table(study, "Clamps before a cell first arrives, median (optimum: the least that can be)", _clamps))
    console.print(_time_table(study))
    shares = robustness(study)
    if shares:
        table = Table(title=f"Share of step sizes and tasks that reach {SOLVED:g}")
        for method in shares:
            table.add_column(method, justify="right")
        table.add_row(*(f"{share:.2f}" for share in shares.values()))
        console.print(table)


def _table(study: Study, title: str, show: Callable[[Entry], str]) -> Table:
    table = Table(title=title)
    table.add_column("method")
    for task in study.tasks:
        table.add_column(task, justify="right")
    for method in study.methods:
        entries = [study.entry(method, task) for task in study.tasks]
        table.add_row(method, *("" if entry is None else show(entry) for entry in entries))
    return table


def _success(entry: Entry) -> str:
    value = entry.success
    ends = f" [{value.low:.2f}, {value.high:.2f}]" if isfinite(value.low) and value.low < value.high else ""
    return f"{value.estimate:.2f}{ends}"


def _frames(entry: Entry) -> str:
    if not entry.frames_to_90:
        return ""
    return f"{'' if entry.reached else '> '}{entry.frames_to_90 / 1000:.0f}"


def _clamps(entry: Entry) -> str:
    return f"{entry.interventions:.1f}" if isfinite(entry.interventions) else ""


def _time_table(study: Study) -> Table:
    table = Table(title="Normalised success at equal processor time: IQM over seeds")
    table.add_column("method")
    found = {task: at_equal_time(study, task, study.methods) for task in study.tasks}
    for task in study.tasks:
        table.add_column(task, justify="right")
    for method in study.methods:
        cells = [f"{found[t][method].estimate:.2f}" if method in found[t] else "" for t in study.tasks]
        if any(cells):
            table.add_row(method, *cells)
    return table


def write_summary(study: Study, path: Path) -> None:
    """One row per task and method, small enough to keep."""
    rows = []
    for task in study.tasks:
        for method in study.methods:
            entry = study.entry(method, task)
            if entry is not None:
                rows.append(
                    {
                        "task": task,
                        "method": method,
                        "seeds": entry.n_seeds,
                        "normalised_success_iqm": round(entry.success.estimate, 4),
                        "low": round(entry.success.low, 4),
                        "high": round(entry.success.high, 4),
                        "frames_to_90": entry.frames_to_90,
                        "reached": entry.reached,
                        "interventions": round(entry.interventions, 3),
                        "seconds": round(entry.seconds, 2),
                    }
                )
    pd.DataFrame(rows).to_csv(path, index=False)


def write_figures(study: Study, folder: Path) -> None:
    """Learning curves beside the performance profile, and success against step size where it was swept."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [m for m in CURVES if m in study.methods]
    tasks = [t for t in (*HEADLINE_TASKS, *study.tasks) if t in study.tasks]
    _curves(study, list(dict.fromkeys(tasks))[:3], shown, folder / "escape.png")
    if not study.sweep.empty:
        _sweep(study, folder / "escape_steps.png")


def _curves(study: Study, tasks: Sequence[str], methods: Sequence[str], path: Path) -> None:
    figure, axes = plt.subplots(1, len(tasks) + 1, figsize=(3.1 * (len(tasks) + 1), 3.2), layout="constrained")
    for axis, task in zip(axes, tasks, strict=False):
        for method in methods:
            _curve(study, axis, task, method)
        axis.set(title=task, xlabel="thousand frames", ylim=(-0.05, 1.05))
    axes[0].set_ylabel("success, 0 random to 1 optimum")
    thresholds = np.linspace(0, 0.99, 100)
    hard = study.hard_tasks
    for method in methods:
        strata = [study.scores(method, task) for task in hard]
        axes[-1].plot(thresholds, performance_profile(strata, thresholds), color=COLOURS[method], label=method)
    axes[-1].set(title=f"all {len(hard)} hard tasks", xlabel="final success above", ylabel="share of runs")
    axes[-1].set_ylim(-0.05, 1.05)
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _curve(study: Study, axis: plt.Axes, task: str, method: str) -> None:
    rows = study.table[(study.table.task == task) & (study.table.method == method)]
    curves = np.array([study.curve(row) for row in rows.itertuples()])
    frames = float(rows.frames.iloc[0]) / 1000 * np.arange(1, curves.shape[1] + 1) / curves.shape[1]
    axis.plot(frames, interquartile_mean(curves.T), color=COLOURS[method])
    axis.fill_between(frames, *np.quantile(curves, (0.25, 0.75), axis=0), color=COLOURS[method], alpha=0.15, lw=0)


def _sweep(study: Study, path: Path) -> None:
    tasks, methods = list(dict.fromkeys(study.sweep.task)), list(dict.fromkeys(study.sweep.method))
    figure, axes = plt.subplots(1, len(tasks), figsize=(3.4 * len(tasks), 3.2), layout="constrained", squeeze=False)
    markers = dict(zip(SWEEPS, "osv^Dx", strict=True))
    for axis, task in zip(axes[0], tasks, strict=True):
        for method in methods:
            rows = study.sweep[(study.sweep.task == task) & (study.sweep.method == method)]
            by_step = rows.assign(step=rows.step.astype(float)).groupby("step").normalised
            iqm = by_step.apply(lambda scores: float(interquartile_mean(scores.to_numpy())))
            axis.plot(iqm.index, iqm, marker=markers[method], label=method)
        axis.set(title=task, xscale="log", xlabel="step size (nats, or learning rate if clipped)", ylim=(-0.05, 1.05))
    axes[0, 0].set_ylabel("success, 0 random to 1 optimum")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
