"""A study that is killed goes on where it was, and a run that fails loses nothing but itself."""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import benchmark
import pandas as pd
import pytest
import study
from places import TOOLS
from rich.progress import Progress
from studies.provenance import command, provenance_path
from studies.runner import StudyError, TimeLeft, add_common_arguments, run_all
from study_work import die_on_two, fail, fail_on_two, square, two_columns

from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import ConfigurationError, DataError

SLOW_STUDY = """
import os, signal, sys, time
from pathlib import Path
from studies.runner import run_all

def work(run):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open("started", "a") as file:
        file.write(f"{run['seed']} {os.getpid()}\\n")
    time.sleep(0.4 if run["seed"] < 4 else float(sys.argv[1]))
    return {"square": run["seed"] ** 2}

if __name__ == "__main__":
    run_all(work, [{"seed": seed} for seed in range(12)], Path("rows.csv"), jobs=2)
"""


def test_finished_runs_are_not_run_again(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run_all(square, [{"x": 1}, {"x": 2}], out, jobs=1)
    table = run_all(square, [{"x": x} for x in (1, 2, 3)], out, jobs=2)
    assert sorted(table["square"]) == [1, 4, 9]
    assert len(pd.read_csv(out)) == 3
    assert list(run_all(fail, [{"x": 2}], out, jobs=1)["square"]) == [4]


def test_a_row_that_was_written_twice_counts_once(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("x,square\n1,1\n2,4\n1,1\n")
    assert list(run_all(fail, [{"x": 1}, {"x": 2}], out, jobs=1)["square"]) == [1, 4]


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    """None, 007 and True are other values once a table reader has guessed their types."""
    out = tmp_path / "rows.csv"
    out.write_text("label,x,square\nNone,1,1\n007,2,4\nTrue,3,9\n")
    runs = [{"label": None, "x": 1}, {"label": "007", "x": 2}, {"label": True, "x": 3}]
    assert list(run_all(fail, runs, out, jobs=1)["square"]) == [1, 4, 9]


def test_half_a_row_is_dropped_and_its_run_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("x,square\n1,1\n2,")
    assert sorted(run_all(square, [{"x": 1}, {"x": 2}], out, jobs=1)["square"]) == [1, 4]
    assert out.read_text() == "x,square\n1,1\n2,4\n"
    assert "dropped the half-written last row '2,'" in capsys.readouterr().err


def test_half_a_header_is_written_anew(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("x,squ")
    run_all(square, [{"x": 3}], out, jobs=1)
    assert out.read_text() == "x,square\n3,9\n"


def test_a_run_that_raises_is_named_and_loses_only_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, runs = tmp_path / "rows.csv", [{"x": x} for x in (1, 2, 3)]
    with pytest.raises(StudyError, match=r"1 of 3 runs .*the run x = 2 raised ValueError: two is too many"):
        run_all(fail_on_two, runs, out, jobs=1)
    assert sorted(pd.read_csv(out)["x"]) == [1, 3]
    assert "in fail_on_two" in capfd.readouterr().err
    assert sorted(run_all(square, runs, out, jobs=1)["square"]) == [1, 4, 9]


def test_a_worker_killed_by_the_system_is_said_and_keeps_what_was_done(tmp_path: Path) -> None:
    out, runs = tmp_path / "rows.csv", [{"x": x} for x in (1, 2, 3)]
    with pytest.raises(StudyError, match=r"2 of 3 runs .*takes too much memory"):
        run_all(die_on_two, runs, out, jobs=1)
    assert list(pd.read_csv(out)["x"]) == [1]
    assert sorted(run_all(square, runs, out, jobs=1)["square"]) == [1, 4, 9]


def test_a_table_of_another_study_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("y,square\n1,1\n")
    with pytest.raises(DataError, match="no column x"):
        run_all(square, [{"x": 1}], out, jobs=1)
    out.write_text("x,cube\n1,1\n")
    with pytest.raises(DataError, match="has the columns x, cube"):
        run_all(square, [{"x": 2}], out, jobs=1)
    assert out.read_text() == "x,cube\n1,1\n"


def test_a_line_break_in_a_value_does_not_end_a_row(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    assert list(run_all(two_columns, [{"x": 1}], out, jobs=1)["note"]) == ["one two"]
    assert len(out.read_text().splitlines()) == 2


def test_time_left_is_that_of_the_average_run() -> None:
    now = [0.0]
    bar = Progress(TimeLeft(), get_time=lambda: now[0])
    task = bar.add_task("runs", total=6)
    assert str(TimeLeft().render(bar.tasks[task])) == "time left unknown"
    now[0] = 40.0
    bar.advance(task, 2)
    assert str(TimeLeft().render(bar.tasks[task])) == "0:01:20 left"


def test_a_study_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does nothing"):
        run_all(square, [], tmp_path / "rows.csv", jobs=1)
    with pytest.raises(ConfigurationError, match="does nothing"):
        run_all(square, [{"x": 1}], tmp_path / "rows.csv", jobs=0)


def test_provenance_names_what_made_the_rows_and_every_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv", [str(TOOLS / "study.py"), "name", "--data", "/home/me/x.h5ad", "--out=/a/b"]
    )
    out = tmp_path / "rows.csv"
    run_all(square, [{"x": 1}], out, jobs=1)
    run_all(square, [{"x": 1}, {"x": 2}], out, jobs=1)
    run_all(fail, [{"x": 1}, {"x": 2}], out, jobs=1)
    found = json.loads(provenance_path(out).read_text())
    assert found["table"] == "rows.csv"
    assert found["settings"] == {"x": [1, 2]}
    assert [session["runs"] for session in found["sessions"]] == [1, 1]
    assert all(session["finished"] >= session["started"] for session in found["sessions"])
    assert found["sessions"][0]["command"] == "python tools/study.py name --data x.h5ad --out=b"
    assert found["sessions"][0]["versions"]["torch"]
    assert str(tmp_path) not in provenance_path(out).read_text()
    assert command().startswith("python tools/study.py")


def start_slow_study(folder: Path, later_runs: float = 0.4) -> "subprocess.Popen[str]":
    (folder / "slow_study.py").write_text(SLOW_STUDY)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (TOOLS, TOOLS.parent)))}
    return subprocess.Popen(
        [sys.executable, "slow_study.py", str(later_runs)],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(what: "object", seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def rows_of(folder: Path) -> int:
    out = folder / "rows.csv"
    return len(out.read_text().splitlines()) - 1 if out.is_file() else 0


def started(folder: Path) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in (folder / "started").read_text().splitlines()]


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_killed_study_loses_at_most_the_runs_in_flight_and_leaves_no_process(tmp_path: Path) -> None:
    study = start_slow_study(tmp_path)
    wait_until(lambda: rows_of(tmp_path) >= 4)
    os.kill(study.pid, signal.SIGKILL)
    study.wait()
    workers = {process for _, process in started(tmp_path)}
    wait_until(lambda: all(map(is_gone, workers)), seconds=20)
    done = rows_of(tmp_path)
    assert 4 <= done < 12
    assert len(started(tmp_path)) - done <= 2
    again = start_slow_study(tmp_path)
    assert again.wait(timeout=120) == 0, again.stderr.read()
    assert sorted(pd.read_csv(tmp_path / "rows.csv")["square"]) == [seed**2 for seed in range(12)]
    assert len(started(tmp_path)) <= 12 + 2
    sessions = json.loads((tmp_path / "rows.provenance.json").read_text())["sessions"]
    assert [session["finished"] is None for session in sessions] == [True, False]
    assert [session["runs"] for session in sessions] == [12, 12 - done]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_interrupting_by_hand_ends_quickly_and_quietly(tmp_path: Path) -> None:
    """Also where a run answers no signal, as Lightning does in the middle of a batch."""
    study = start_slow_study(tmp_path, later_runs=300)
    wait_until(lambda: rows_of(tmp_path) >= 4)
    os.killpg(study.pid, signal.SIGINT)
    _, errors = study.communicate(timeout=60)  # a run takes 300 seconds
    assert study.returncode != 0
    assert "resource_tracker" not in errors
    assert errors.count("KeyboardInterrupt") <= 1
    assert all(is_gone(process) for _, process in started(tmp_path))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "the same --out goes on"),
        (StudyError("2 of 3 runs"), 2, "error: 2 of 3 runs"),
    ],
)
def test_the_command_ends_in_a_sentence(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(arguments: argparse.Namespace) -> None:
        assert (arguments.seeds, arguments.frames, arguments.jobs, arguments.out) == (3, 100, 2, None)
        raise error

    stub = SimpleNamespace(add_arguments=lambda p: add_common_arguments(p, seeds=3), run=run)
    monkeypatch.setitem(sys.modules, "stub_study", stub)
    monkeypatch.setattr(study, "STUDIES", {"stub": "stub_study"})
    monkeypatch.setattr(sys, "argv", ["study.py", "stub", "--frames", "100"])
    with pytest.raises(SystemExit) as end:
        study.main()
    assert end.value.code == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", *study.STUDIES])
def test_help_says_what_a_study_is_in_the_words_of_its_file(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["study.py", *filter(None, [name]), "--help"])
    with pytest.raises(SystemExit) as end:
        study.main()
    assert end.value.code == 0
    said = "".join(capsys.readouterr().out.split())
    for own in [name] if name else study.STUDIES:
        about = str(importlib.import_module(study.STUDIES[own]).__doc__)
        assert "".join((about if name else about.partition("\n\n")[0]).split()) in said


def test_percent_signs_reach_the_list_of_studies_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = SimpleNamespace(add_arguments=print, __doc__="Clear of 0 by its 95 % t interval.")
    monkeypatch.setitem(sys.modules, "stub_study", stub)
    monkeypatch.setattr(study, "STUDIES", {"stub": "stub_study"})
    monkeypatch.setattr(sys, "argv", ["study.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        study.main()
    assert "0 by its 95 % t interval." in capsys.readouterr().out


@pytest.mark.parametrize("name", ["", *benchmark.BENCHMARKS])
def test_help_of_benchmarks(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *filter(None, [name]), "--help"])
    with pytest.raises(SystemExit) as end:
        benchmark.main()
    assert end.value.code == 0
    assert "usage: " in capsys.readouterr().out


@pytest.mark.slow
def test_recover_combinations_ends_with_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "screen.h5ad"
    simulate_screen(4, 60, 80, 40, n_combinations=1).write_h5ad(path)
    command = [sys.executable, str(TOOLS / "study.py"), "recover-combinations", "--data", str(path)]
    options = ["--seeds", "1", "--frames", "4096", "--out", str(tmp_path / "rows.csv")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240, check=True)
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    assert {"recall_at_2", "recall_at_2_nnls", "regret"} <= set(summary)
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 1
    assert "1 of 1 runs: data = screen.h5ad" in done.stderr


def test_a_screen_without_recoverable_doubles_is_said(tmp_path: Path) -> None:
    path = tmp_path / "screen.h5ad"
    simulate_screen(3, 40, 40, 20, n_combinations=0).write_h5ad(path)
    command = [sys.executable, str(TOOLS / "study.py"), "recover-combinations", "--data", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "no double whose two singles" in done.stderr
    assert "Traceback" not in done.stderr
