"""Tables, the JSON line and figures of the escape study."""

from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from perturbrl.evaluation.statistics import interquartile_mean
from perturbrl.twins.task_suite import reprogramming_task
from studies.escape_methods import DEFAULT, HELPED_PPO, TUNED_PPO, VERSIONS
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


def summary(studies: Mapping[str, Study]) -> dict[str, object]:
    """The studies in one object, the last line of the output."""
    found: dict[str, object] = {}
    for version, study in studies.items():
        key = "normalised_success" if version == "boolean" else f"normalised_success_{version}"
        found[key] = {task: _intervals(study, task) for task in study.tasks}
    if "boolean" in studies:
        found |= _headline(studies["boolean"], studies.get("patient"))
    if "scaling" in studies:
        found["frames_to_90_by_length"] = _by_length(studies["scaling"])
        found |= _improvement_on_ladders(studies["scaling"])
    return found


def _improvement_on_ladders(study: Study) -> dict[str, object]:
    """Over generated ladders that exact vanilla policy gradient does not climb."""
    high, found = [task for task in study.tasks if int(task[1 : task.index("m")]) >= 4], dict[str, object]()
    for key, rival in (("ppo", "ppo_only"), ("helped_ppo", "ppo_only_helped")):
        won = improvement(study, rival, high, most=SOLVED)
        if won is not None:
            interval = [_rounded(won.low), _rounded(won.high)]
            found[f"probability_of_improvement_on_ladders_over_{key}"] = [_rounded(won.estimate), *interval]
    return found


def _headline(study: Study, patient: Study | None) -> dict[str, object]:
    hard = study.hard_tasks
    headline = [task for task in HEADLINE_TASKS if task in study.tasks]
    best, helped = study.best_of(TUNED_PPO, headline or hard), study.best_of(HELPED_PPO, headline or hard)
    ours = [entry.success.estimate for task in hard if (entry := study.entry(DEFAULT, task))]
    ratios, helped_ratios = (frames_ratios(study, rivals, hard) for rivals in (TUNED_PPO, HELPED_PPO))
    found: dict[str, object] = {
        "two_stage_min_normalised_success": _rounded(min(ours, default=float("nan"))),
        "frames_to_90_ratio_over_tuned_ppo": _rounded(geometric_mean(ratios.values())),
        "frames_to_90_ratio_by_task": {task: _rounded(value) for task, value in ratios.items()},
        "frames_to_90_ratio_over_helped_ppo": _rounded(geometric_mean(helped_ratios.values())),
        "robustness": {method: _rounded(share) for method, share in robustness(study).items()},
        "tuned_ppo": best,
    }
    if patient is not None:
        bounds = frames_ratios(study, TUNED_PPO, hard, patient).values()
        found["frames_to_90_ratio_over_patient_ppo"] = _rounded(geometric_mean(bounds))
    for key, rival in (("over_ppo", best), ("over_helped_ppo", helped)):
        everywhere = None if rival is None else improvement(study, rival, hard)
        found[f"probability_of_improvement_{key}_on_all_tasks"] = everywhere and _rounded(everywhere.estimate)
        won = None if rival is None else improvement(study, rival, headline)
        if won is not None:
            name = f"probability_of_improvement_{key}"
            found[name] = _rounded(won.estimate)
            found[f"{name}_interval"] = [_rounded(won.low), _rounded(won.high)]
    return found


def _by_length(study: Study) -> dict[str, dict[str, float | str]]:
    found: dict[str, dict[str, float | str]] = {}
    for method in study.methods:
        entries = {task: study.entry(method, task) for task in study.tasks}
        if any(entry is not None and entry.frames_to_90 for entry in entries.values()):
            found[method] = {
                task: entry.frames_to_90 if entry.reached else f"> {entry.frames_to_90:.0f}"
                for task, entry in entries.items()
                if entry is not None
            }
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


def print_tables(study: Study, version: str, console: Console) -> None:
    """Success, frames and interventions of every method on every task; equal time; robustness."""
    one = "optimum" if study.knows_optimum else "best known"
    when = (
        f"when runs end, at {SOLVED:g} if they get there"
        if VERSIONS[version].stops_when_solved
        else "at equal frames"
    )
    shown = (
        (f"success, 0 random to 1 {one}, {when}: IQM over seeds [95 % interval]", _success),
        (f"thousand frames until {SOLVED:g} of that, median (> budget: never)", _frames),
        (f"processor seconds until {SOLVED:g} of that, median (> budget: never)", _seconds),
        ("expected clamps before a cell first arrives, of those that do, median", _clamps),
    )
    for title, show in shown:
        table = _table(study, f"{version}: {title}", show)
        if show is _clamps and study.knows_optimum:
            table.add_row("the least that is certain", *(_least(task) for task in study.tasks))
        console.print(table)
    if not VERSIONS[version].stops_when_solved:
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


def _seconds(entry: Entry) -> str:
    if not entry.frames_to_90:
        return ""
    return f"{'' if entry.reached else '> '}{entry.seconds_to_90:.1f}"


def _clamps(entry: Entry) -> str:
    return f"{entry.interventions:.1f}" if isfinite(entry.interventions) else ""


def _least(name: str) -> str:
    task = reprogramming_task(name)
    return f"{task.mdp.expected_interventions(task.target)[task.mdp.node(task.source)]:.1f}"


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
                        "seconds_to_90": round(entry.seconds_to_90, 2),
                        "reached": entry.reached,
                        "interventions": round(entry.interventions, 3),
                        "seconds": round(entry.seconds, 2),
                    }
                )
    pd.DataFrame(rows).to_csv(path, index=False)


def write_sweep(study: Study, path: Path) -> None:
    """One row per task, method and step size."""
    rows = [
        {
            "task": task,
            "method": method,
            "step": step,
            "seeds": len(runs),
            "normalised_success_iqm": round(float(interquartile_mean(runs.normalised.to_numpy())), 4),
        }
        for (task, method, step), runs in study.sweep.groupby(["task", "method", "step"])
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
