"""The response study on a small simulated folder, whose truth is known."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from places import TOOLS
from studies import response

from perturbrl.data.synthetic import simulate_screen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    simulate_screen(6, 60, 120, 60, n_combinations=4, seed=1).write_h5ad(path / response.NORMAN)
    return path


def test_doubles_are_held_out_by_what_is_known_of_their_parts(folder):
    both = response.held_out_conditions(folder, response.SPLITS["norman_both"])
    assert len(both) == 4
    assert all("+" in label for label in both)
    assert response.held_out_conditions(folder, response.SPLITS["norman_none"]) == []
    singles = response.held_out_conditions(folder, response.SPLITS["norman_singles"])
    assert set(singles) == {part for label in both for part in label.split("+")}


def test_additive_effects_are_found_and_the_winner_is_said(folder, tmp_path):
    command = [
        sys.executable,
        str(TOOLS / "study.py"),
        "response",
        f"--data={folder}",
        "--seeds=1",
        "--jobs=1",
    ]
    command += ["--splits", "norman_both", f"--out={tmp_path / 'rows.csv'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["conditions"] == 4
    assert sorted(said["wins"] + said["ties"] + said["losses"]) == sorted(
        ["norman_both", metric] for metric in response.JUDGED
    )
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert (rows["kriging:pearson_delta"] > 0.6).all()
    assert (rows["kriging:l2"] < rows["no_op:l2"]).all()


def test_a_folder_without_the_file_is_an_error(tmp_path):
    command = [sys.executable, str(TOOLS / "study.py"), "response", f"--data={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    assert "is not in" in done.stderr
    assert "Traceback" not in done.stderr
