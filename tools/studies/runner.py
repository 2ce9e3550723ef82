"""Runs that can be interrupted: each finished run is a CSV row, and what has a row is not run again."""

import argparse
import csv
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing import active_children, connection, get_context, parent_process
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from perturbrl.errors import ConfigurationError, DataError, PerturbRLError
from perturbrl.training.freed_memory import keep_freed_memory
from studies.provenance import write_provenance

Run = Mapping[str, Hashable]
Row = dict[str, object]
Key = tuple[str, ...]


class StudyError(PerturbRLError):
    """Runs of a study have failed; the others have their rows."""


def add_common_arguments(parser: argparse.ArgumentParser, *, seeds: int, frames: int | None = None) -> None:
    """The options of every study; ``frames`` is the default of ``--frames``, ``None`` leaves it to the study."""
    parser.add_argument("--seeds", type=int, default=seeds, help="seeds 0, 1, ... of every setting")
    parser.add_argument("--frames", type=int, default=frames, help="environment frames of every run")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--out", type=Path, default=None, help="CSV with one row per run; default: a new one")


def run_all(work: Callable[[Run], Row], runs: Sequence[Run], out: Path, jobs: int) -> pd.DataFrame:
    """Run ``work`` on every run that has no row in ``out`` yet; the table of all rows that were asked for.

    A row is on the disk before the next one is taken up, so a study that is killed loses the runs in flight.
    A run that raises loses nothing but itself. What made the rows is written beside them, see ``provenance``.

    Args:
        work: a module-level function of one run; its result's columns follow the run's own.
        runs: settings, all with the same keys, that identify a run.
        out: CSV file, made if missing, appended to as runs end.
        jobs: processes; each computes on one thread.

    Raises:
        ConfigurationError: there is nothing to run, or no process to run it.
        DataError: ``out`` holds the rows of another study.
        StudyError: runs have failed; it comes after all the others have ended.
    """
    if not runs or jobs < 1:
        raise ConfigurationError(
            f"a study of {len(runs)} runs with {jobs} jobs does nothing; give at least 1"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    _drop_half_a_row(out)
    finished = _finished(out, tuple(runs[0]))
    missing = [run for run in runs if _key(run) not in finished]
    if missing:
        write_provenance(out, runs, n_missing=len(missing))
        _work_off(work, missing, out, min(jobs, len(missing)))
        write_provenance(out, runs, n_missing=0)
    asked = {_key(run) for run in runs}
    keys = _keys(out, tuple(runs[0]))
    # Two commands on one file at the same time leave two rows of a run, which is one run all the same.
    repeated = pd.Series(keys, dtype=object).duplicated()
    return pd.read_csv(out)[[key in asked and not again for key, again in zip(keys, repeated, strict=True)]]


def _key(run: Run) -> Key:
    return tuple(str(value) for value in run.values())


def _keys(out: Path, columns: Sequence[str]) -> list[Key]:
    # As text: a setting such as None or 007 must come back as it was written.
    table = pd.read_csv(out, dtype=str, keep_default_na=False)
    absent = [column for column in columns if column not in table]
    if absent:
        raise DataError(
            f"'{out}' has no column {', '.join(absent)}, so it is not a table of this study (it has "
            f"{', '.join(table.columns[:6])}, ...); give another --out"
        )
    return list(table[list(columns)].itertuples(index=False, name=None))


def _finished(out: Path, columns: Sequence[str]) -> set[Key]:
    return set(_keys(out, columns)) if _has_rows(out) else set()


def _has_rows(out: Path) -> bool:
    return out.is_file() and out.stat().st_size > 0


def _drop_half_a_row(out: Path) -> None:
    """A process killed while it wrote leaves a last line without an end."""
    if not _has_rows(out):
        return
    content = out.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        lost = content[len(whole) :].decode(errors="replace")
        print(f"study: dropped the half-written last row '{lost[:60]}' of {out.name}", file=sys.stderr)
        os.truncate(out, len(whole))


def _work_off(work: Callable[[Run], Row], runs: Sequence[Run], out: Path, jobs: int) -> None:
    # Forked children would inherit torch's thread pool in an undefined state.
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start_worker)
    failures: list[str] = []
    with _one_thread_each(), _bar() as bar:
        task = bar.add_task("runs", total=len(runs))
        try:
            waiting = {pool.submit(partial(_without_fail, work), run): run for run in runs}
            for future in as_completed(waiting):
                failure = _take(future, waiting[future], out)
                if failure:
                    if failure not in failures:
                        bar.console.print(f"study: {failure}", markup=False, highlight=False)
                    failures.append(failure)
                _advance(bar, task, waiting[future])
        except BaseException:
            # Killed, not asked to end: Lightning answers SIGTERM only between two batches.
            for child in active_children():
                child.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    if failures:
        raise StudyError(
            f"{len(failures)} of {len(runs)} runs have no row ({failures[0].splitlines()[0]}); mend the cause and "
            "repeat the command, which does only what is missing"
        )


def _without_fail(work: Callable[[Run], Row], run: Run) -> Row | str:
    """The row of a run, or the traceback of what it raised, which not every exception survives as an object."""
    try:
        return work(run)
    except PerturbRLError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}\n{traceback.format_exc()}"


def _take(future: "Future[Row | str]", run: Run, out: Path) -> str | None:
    """Write a run's row; what went wrong, if it did."""
    try:
        result = future.result()
    except BrokenProcessPool:
        return "a process ended in the middle of a run, which is how the system ends one that takes too much memory"
    if isinstance(result, str):
        return f"the run {_setting(run)} raised {result}"
    _append(out, dict(run) | result)
    return None


def _setting(run: Run) -> str:
    return ", ".join(f"{key} = {value}" for key, value in run.items())


def _append(out: Path, row: Row) -> None:
    line = io.StringIO()
    writer = csv.DictWriter(line, fieldnames=list(row), lineterminator="\n")
    if _has_rows(out):
        _check_header(out, list(row))
    else:
        writer.writeheader()
    # A line break inside a value could pass for the end of a row.
    writer.writerow({k: " ".join(v.splitlines()) if isinstance(v, str) else v for k, v in row.items()})
    with out.open("a", newline="") as file:
        file.write(line.getvalue())
        file.flush()
        os.fsync(file.fileno())


def _check_header(out: Path, columns: list[str]) -> None:
    with out.open(newline="") as file:
        header = next(csv.reader(file))
    if header != columns:
        raise DataError(
            f"'{out}' has the columns {', '.join(header[:6])}, ... and this study makes "
            f"{', '.join(columns[:6])}, ...; give another --out"
        )


def _start_worker() -> None:
    keep_freed_memory()  # as the command does
    _live_and_die_with_parent()


def _live_and_die_with_parent() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it: nobody would take an orphan's result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Children read this when they load their numerical libraries, before any code of ours could say it."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _advance(bar: Progress, task: TaskID, run: Run) -> None:
    bar.advance(task)
    if not bar.console.is_terminal:
        done = bar.tasks[task]
        line = f"{done.completed:.0f} of {done.total:.0f} runs: {_setting(run)}"
        bar.console.print(line, markup=False, highlight=False)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeLeft(), console=Console(stderr=True))


class TimeLeft(ProgressColumn):
    """What is left if runs go on as fast as on average up to now.

    The library's own column goes by the last few, and runs side by side tend to end together.
    """

    def render(self, task: Task) -> Text:
        if not task.completed or task.elapsed is None or task.total is None:
            return Text("time left unknown")
        seconds = task.elapsed / task.completed * (task.total - task.completed)
        return Text(f"{timedelta(seconds=round(seconds))} left")
