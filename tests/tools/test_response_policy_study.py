"""The study of policies on kriging, on a small simulated folder."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from places import TOOLS
from studies import response_policy

from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    screen = simulate_screen(8, 60, 120, 40, n_combinations=2, seed=1)
    screen.write_h5ad(path / response_policy.SCREENS["norman"].file)
    return path


@pytest.mark.slow
def test_gains_of_schedules_are_compared(folder, tmp_path):
    command = [sys.executable, str(TOOLS / "study.py"), "response-policy", f"--data={folder}", "--seeds=1"]
    command += ["--screens", "norman", "--schedules", "ppo_only", "alternate", "--jobs=1"]
    done = subprocess.run(
        [*command, f"--out={tmp_path / 'rows.csv'}"], capture_output=True, text=True, check=True, timeout=600
    )
    gain = json.loads(done.stdout.splitlines()[-1])["policy_gain"]
    assert gain.keys() == {"ppo_only", "alternate"}
    rows = pd.read_csv(tmp_path / "rows.csv").set_index("schedule")
    for schedule, found in gain.items():
        own, row = found["norman"], rows.loc[schedule]
        assert own["frames:mean"] == [pytest.approx(row["frames:mean"], abs=1e-4)]
        assert own["seeds"] == 1
        assert row["frames:mean"] <= 1
        kept = bool(row["frames:kept"])
        assert own["frames:kept"] == kept
        assert row["frames:used_mean"] == (row["frames:mean"] if kept else 0)


def test_intervals_are_over_seeds():
    rows = pd.DataFrame(
        [
            {
                "screen": "norman",
                "schedule": "alternate",
                "frames:kept": int(seed < 2),
                "seconds:kept": 0,
                **dict.fromkeys(response_policy.COLUMNS, 0.1 * seed),
            }
            for seed in range(10)
        ]
    )
    found = response_policy.policy_gain(rows)["alternate"]["norman"]
    estimate, low, high = found["frames:mean"]
    assert low < estimate < high
    assert estimate == pytest.approx(0.45, abs=0.01)
    assert (found["frames:kept"], found["seconds:kept"], found["seeds"]) == (2, 0, 10)


def test_a_cell_type_is_held_out_in_turn(tmp_path):
    screen = response_policy.Screen("x.h5ad", cell_types=("B", "NK"))
    (tmp_path / "x.h5ad").touch()
    assert "--data.split.cell_types=['NK']" in screen.options(tmp_path, 3)
    with pytest.raises(DataError, match=r"'y\.h5ad' is not in"):
        response_policy.Screen("y.h5ad").options(tmp_path, 0)
