"""What the part of the design study on simulated screens measures, and what it says of its rows."""

from math import isnan
from pathlib import Path

import pandas as pd
import pytest
import torch
from linear_twin import linear_twin
from studies import design_screens
from studies.design_screens import SCHEDULES, left_of, rows, summary

from perturbrl.envs.tasks import ReachCellState
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.planning.planners import BoundedLeastSquares, NoOpDesign, RandomActions


def test_nothing_leaves_the_whole_way_and_what_cannot_plan_is_no_number() -> None:
    twin, task = linear_twin(torch.eye(3)), ReachCellState()
    goal = twin.start_cells + torch.tensor([1.0, 0.0, 0.0])
    task.aim(twin.start_cells, goal)
    problem = DesignProblem(twin, task, twin.perturbations, 1, goal)
    assert left_of(problem, NoOpDesign()) == pytest.approx(1.0)
    assert left_of(problem, BoundedLeastSquares()) == pytest.approx(0.0, abs=1e-5)
    assert isnan(left_of(problem, RandomActions()))  # of discrete actions only


def row(seed: int, looks: str, held_out: float) -> dict[str, object]:
    own = {"size": 20, "effect": "weak", "cells": 20, "seed": seed, "best_known": 0.2}
    for schedule in SCHEDULES:
        own |= {f"{schedule}:looks": looks, f"{schedule}:frames": 3000, f"{schedule}:seconds_trained": 6.0}
        own |= {f"{schedule}:seconds": 9.0, f"{schedule}:gap": 0.01, f"{schedule}:held_out": held_out}
    for name in ("no_op", "nearest_perturbation"):
        own |= {f"{name}:gap": 0.8, f"{name}:held_out": 1.0}
    return own


def test_frames_and_seconds_are_those_after_which_the_policy_stays_near_the_best_known() -> None:
    table = pd.DataFrame(
        [
            row(0, "0.5 0.24 0.3 0.22", 0.4),  # stays from the third iteration on
            row(1, "0.5 0.24 0.23 0.22", 0.5),
            row(2, "0.2 0.2 0.2 0.2", 0.6),
        ]
    )
    said = summary(table)
    assert said["frames_to_90"] == {20: dict.fromkeys(SCHEDULES, 1000.0)}
    assert said["seconds"] == {20: 2.0}
    assert said["gap"][20]["alternate"] == 0.01
    assert said["held_out"]["20 weak 20"]["alternate"] == 0.5
    ahead, low, high = said["alternate_less"][20]["no_op"]
    assert ahead == 0.5
    assert low < ahead < high


def test_a_policy_that_never_stays_near_has_no_time() -> None:
    said = summary(pd.DataFrame([row(seed, "0.5 0.2 0.2 0.3", 0.4) for seed in range(3)]))
    assert said["frames_to_90"] == {20: dict.fromkeys(SCHEDULES)}
    assert said["seconds"] == {20: None}


def test_screens_of_more_cells_than_a_laptop_holds_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(design_screens, "run_all", lambda work, runs, out, jobs: asked.extend(runs))
    rows(1, 1, Path("rows.csv"), (20, 10_000))
    assert {(run["size"], run["cells"]) for run in asked} == {(20, 20), (20, 200), (10_000, 20)}
