"""Part designs of the landscape study: its keys, and one direction and seed on a small atlas."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from atlas import atlas
from studies import landscape_designs
from studies.landscape_designs import HORIZON, RECIPES, SCHEDULES, TARGET_LEFT_ALONE, keys, one_setting

RENAMED = {"stem": "Multipotent progenitors", "red": "Erythrocyte", "white": "Monocytes"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small file in place of Paul's, whose ``Gene0`` to ``Gene8`` tell types and are factors."""
    when = np.random.default_rng(0).uniform(0, 0.4, 240)
    when[80:] += 0.6
    adata = atlas(80, n_genes=40, pseudotime=when)
    adata.obs["cell_type"] = adata.obs["cell_type"].map(RENAMED)
    adata.write_h5ad(tmp_path / landscape_designs.FILE)
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior" / "mouse_tfs.txt").write_text("\n".join([*(f"Gene{i}" for i in range(6)), "Absent"]))
    return tmp_path


def table(**success: tuple[float, float]) -> pd.DataFrame:
    """Two seeds of some designs at the full horizon."""
    rows = [
        (name, seed, own, 0.9 - 0.1 * place, float("nan") if name in RECIPES else 100.0 + seed)
        for place, (name, shares) in enumerate(success.items())
        for seed, own in enumerate(shares)
    ]
    columns = ["design", "seed", "success", "success_made_on", "frames_to_90"]
    return pd.DataFrame(rows, columns=columns).assign(direction="there", horizon=HORIZON)


def test_keys_are_means_over_seeds() -> None:
    found = keys(table(alternate=(0.4, 0.6), ppo_only=(0.2, 0.2), greedy=(0.3, 0.5)))
    assert found["success"] == {"there": {"alternate": 0.5, "ppo_only": 0.2, "greedy": 0.4}}
    assert found["frames_to_90"]["there"]["alternate"] == {"median": 100, "of": 2, "reached": 2}
    assert found["policy_ahead_of_recipes"] == {"there": {str(HORIZON): 0.1}}


def test_frames_of_runs_that_never_got_there_are_none() -> None:
    own = table(alternate=(0.4, 0.6), greedy=(0.3, 0.5)).assign(frames_to_90=float("nan"))
    assert keys(own)["frames_to_90"]["there"]["alternate"] == {"median": None, "of": 2, "reached": 0}


def test_one_seed_has_every_design_at_every_horizon(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"ITERATIONS": 1, "N_CELLS": 16, "N_CANDIDATES": 3, "SHORTER": (1,)}
    for name, value in small.items():
        monkeypatch.setattr(landscape_designs, name, value)
    found = pd.DataFrame(one_setting(folder, "Monocytes", "Erythrocyte", 0))
    full = set(found[found["horizon"] == HORIZON]["design"])
    assert {*SCHEDULES, *RECIPES, "no_op", "random"} <= full
    assert {"alternate", *RECIPES} <= set(found[found["horizon"] == 1]["design"])
    assert found["success"].between(0, 1).all()
    left_alone = found[found["horizon"] == HORIZON].set_index("design")["success"]
    assert left_alone[TARGET_LEFT_ALONE] > 0.5 > left_alone["no_op"]
    assert set(found["direction"]) == {"Monocytes to Erythrocyte"}
    dosed = {name.lstrip("+-") for own in found["dosed"] for name in own.split()}
    assert dosed <= {f"Gene{i}" for i in range(6)}  # what is no gene of the file is no factor
    assert set(keys(found)) == {"success", "frames_to_90", "policy_ahead_of_recipes"}
