"""A study that is killed goes on where it was."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from studies.runner import run_all

from perturbrl.data.synthetic import simulate_screen

TOOLS = Path(__file__).parents[1] / "tools"


def square(setting: dict[str, int]) -> dict[str, int]:
    return {"square": setting["x"] ** 2}


def fail(setting: dict[str, int]) -> dict[str, int]:
    raise AssertionError(f"{setting} was run again")


def test_finished_runs_are_not_run_again(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run_all(square, [{"x": 1}, {"x": 2}], out, jobs=1)
    table = run_all(square, [{"x": x} for x in (1, 2, 3)], out, jobs=2)
    assert sorted(table["square"]) == [1, 4, 9]
    assert len(pd.read_csv(out)) == 3
    assert list(run_all(fail, [{"x": 2}], out, jobs=1)["square"]) == [4]


@pytest.mark.slow
def test_recover_combinations_ends_with_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "screen.h5ad"
    simulate_screen(4, 60, 80, 40, n_combinations=1).write_h5ad(path)
    command = [sys.executable, str(TOOLS / "study.py"), "recover-combinations", "--data", str(path)]
    options = ["--seeds", "1", "--epochs", "2", "--out", str(tmp_path / "rows.csv")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240, check=True)
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    assert {"recall_at_2", "recall_at_2_nnls", "regret"} <= set(summary)
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 1


def test_a_screen_without_recoverable_doubles_is_said(tmp_path: Path) -> None:
    path = tmp_path / "screen.h5ad"
    simulate_screen(3, 40, 40, 20, n_combinations=0).write_h5ad(path)
    command = [sys.executable, str(TOOLS / "study.py"), "recover-combinations", "--data", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "no double whose two singles" in done.stderr
    assert "Traceback" not in done.stderr
