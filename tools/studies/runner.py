"""Runs that can be interrupted: each finished run is a CSV row, and what has a row is not run again."""

import csv
import multiprocessing
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Run = Mapping[str, Hashable]
Row = dict[str, object]


def run_all(work: Callable[[Run], Row], runs: Sequence[Run], out: Path, jobs: int) -> pd.DataFrame:
    """Run ``work`` on every run that has no row in ``out`` yet; the table of all rows that were asked for.

    Args:
        work: a module-level function of one run; its result's columns follow the run's own.
        runs: settings, all with the same keys, that identify a run.
        out: CSV file, made if missing, appended to as runs end.
        jobs: processes; each computes on one thread.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    missing = [run for run in runs if _key(run) not in _finished(out, tuple(runs[0]))]
    if missing:
        _work_off(work, missing, out, min(jobs, len(missing)))
    asked = {_key(run) for run in runs}
    table = pd.read_csv(out)
    return table[[tuple(map(str, row)) in asked for row in table[list(runs[0])].itertuples(index=False)]]


def _key(run: Run) -> tuple[str, ...]:
    return tuple(str(value) for value in run.values())


def _finished(out: Path, columns: tuple[str, ...]) -> set[tuple[str, ...]]:
    if not out.is_file():
        return set()
    table = pd.read_csv(out)
    return {tuple(map(str, row)) for row in table[list(columns)].itertuples(index=False)}


def _work_off(work: Callable[[Run], Row], runs: Sequence[Run], out: Path, jobs: int) -> None:
    # Forked children would inherit torch's thread pool in an undefined state.
    context = multiprocessing.get_context("spawn")
    with _bar() as bar, ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        task = bar.add_task("runs", total=len(runs))
        waiting = {pool.submit(work, run): run for run in runs}
        for future in as_completed(waiting):
            _append(out, dict(waiting[future]) | future.result())
            bar.advance(task)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def _append(out: Path, row: Row) -> None:
    new = not out.is_file()
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
