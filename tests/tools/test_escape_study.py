"""The study's runs, scales and sums: small runs for real, and tables whose answers are known."""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from places import TOOLS
from studies.escape import SUITES, fingerprint, settings
from studies.escape_figures import write_figures
from studies.escape_methods import DEFAULT, FIRST_SEED, METHODS, SWEEPS, VERSIONS
from studies.escape_report import summary, write_summary, write_sweep
from studies.escape_runs import ExactCurve, one_run
from studies.escape_tables import Study, at_equal_time, frames_ratios, geometric_mean, robustness
from studies.escape_tasks import horizon_of, iterations_for, reach, task_start, twin_of
from studies.escape_training import module_of, train

from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.rl.rollouts import draw_action
from perturbrl.twins.task_suite import reprogramming_task

STUDY = TOOLS / "study.py"
FRAMES = 1000


def asked(**changes) -> argparse.Namespace:
    values = {"suite": "deceptive", "seeds": 20, "frames": None, "tasks": None, "methods": None} | changes
    return argparse.Namespace(**values)


def row(task: str, method: str, seed: int, success: float, curve: str = "", step: object = "", seconds=1.0):
    return {
        "version": "boolean",
        "task": task,
        "method": method,
        "step": step,
        "budget": FRAMES,
        "settings": "",
        "seed": seed,
        "success": success,
        "likeliest_success": success,
        "interventions": 3.0,
        "frames": FRAMES if curve else 0,
        "seconds": seconds,
        "curve": curve,
    }


@pytest.fixture
def table() -> pd.DataFrame:
    rows = []
    for task in ("D10", "L4"):
        rows += [row(task, "random", FIRST_SEED, 0.2), row(task, "optimum", FIRST_SEED, 0.7)]
        for seed in range(4):
            # Normalised 0, 0.8, 0.9, 1: reaches 0.9 after three quarters of the frames.
            rows.append(row(task, DEFAULT, seed, 0.7, "0.2 0.6 0.65 0.7", seconds=2.0))
            rows.append(row(task, "ppo_only", seed, 0.2, "0.2 0.2 0.2 0.2"))
            rows.append(row(task, "ppo_only_helped", seed, 0.7, "0.2 0.2 0.2 0.7"))
    for step, success in ((0.01, 0.7), (0.1, 0.64)):
        rows += [row("D10", DEFAULT, seed, success, "0.2", step) for seed in range(3)]
    return pd.DataFrame(rows)


def test_success_lies_between_random_and_the_optimum(table: pd.DataFrame) -> None:
    study = Study(table)
    entry = study.entry(DEFAULT, "D10")
    assert entry is not None
    assert entry.success.estimate == pytest.approx(1.0)
    assert (entry.frames_to_90, entry.reached, entry.n_seeds) == (750.0, True, 4)
    assert entry.seconds_to_90 == pytest.approx(0.75 * 2)
    never = study.entry("ppo_only", "D10")
    assert never is not None
    assert (never.success.estimate, never.frames_to_90, never.reached) == (pytest.approx(0.0), FRAMES, False)
    assert study.entry("sb3_ppo", "D10") is None


def test_the_json_line_holds_what_the_rows_say(table: pd.DataFrame) -> None:
    found = summary({"boolean": Study(table)})
    assert found["two_stage_min_normalised_success"] == 1.0
    assert found["frames_to_90_ratio_over_tuned_ppo"] == pytest.approx(FRAMES / 750, abs=1e-3)
    assert found["frames_to_90_ratio_over_helped_ppo"] == pytest.approx(FRAMES / 750, abs=1e-3)
    assert found["probability_of_improvement_over_ppo"] == 1.0
    assert found["probability_of_improvement_over_helped_ppo"] == 0.5
    assert found["robustness"] == {DEFAULT: 0.5}
    json.dumps(found)


def test_on_ladders_the_json_line_says_who_wins(table: pd.DataFrame) -> None:
    high = table[(table.task == "L4") & (table.step == "")].assign(version="scaling", task="L4m4")
    # Runs stop once solved: by how much they passed the mark by then says nothing.
    high.loc[high.method == "ppo_only_helped", "success"] *= 0.95
    lost = high.assign(task="L3m4").replace({"method": {DEFAULT: "ppo_only", "ppo_only": DEFAULT}})
    found = summary({"scaling": Study(pd.concat([high, lost]))})
    assert found["probability_of_improvement_on_ladders_over_ppo"] == [1.0, 1.0, 1.0]
    assert found["probability_of_improvement_on_ladders_over_helped_ppo"][0] == 0.5
    assert found["frames_to_90_by_length"]["ppo_only"]["L4m4"] == f"> {FRAMES}"


def test_equal_time_gives_the_slower_method_less_of_its_run(table: pd.DataFrame) -> None:
    found = at_equal_time(Study(table), "D10", [DEFAULT, "ppo_only_helped"])
    assert found[DEFAULT].estimate == pytest.approx(0.8)
    assert found["ppo_only_helped"].estimate == pytest.approx(1.0)


def test_ratios_are_of_the_fastest_rival_and_their_mean_is_geometric(table: pd.DataFrame) -> None:
    study = Study(table)
    assert frames_ratios(study, ("ppo_only", "ppo_only_helped"), ["D10"]) == {"D10": FRAMES / 750}
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert np.isnan(geometric_mean([]))
    assert robustness(study) == {DEFAULT: 0.5}


def test_a_rival_with_more_patience_counts_with_what_it_needed(table: pd.DataFrame) -> None:
    slow = table[(table.task == "D10") & (table.step == "")].assign(budget=16 * FRAMES, frames=16 * FRAMES)
    patient = Study(slow)
    rows = {"boolean": Study(table), "patient": patient}
    assert frames_ratios(rows["boolean"], ("ppo_only",), ["D10"], patient) == {"D10": 16 * FRAMES / 750}
    assert frames_ratios(rows["boolean"], ("ppo_only",), ["L4"], patient) == {"L4": FRAMES / 750}
    found = summary(rows)
    assert found["frames_to_90_ratio_over_tuned_ppo"] == pytest.approx(FRAMES / 750, abs=1e-3)
    assert found["frames_to_90_ratio_over_patient_ppo"] == pytest.approx(4 * FRAMES / 750, abs=1e-3)


def test_where_no_optimum_is_known_the_best_known_is_one(table: pd.DataFrame) -> None:
    study = Study(table[table.method != "optimum"])
    assert not study.knows_optimum
    entry = study.entry("ppo_only_helped", "D10")
    assert entry is not None
    assert entry.success.estimate == pytest.approx(1.0)


def test_figures_are_drawn(table: pd.DataFrame, tmp_path: Path) -> None:
    ladders = table[table.task == "L4"].assign(version="scaling", task="L4m4")
    write_figures({"boolean": Study(table), "scaling": Study(ladders)}, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"escape.png", "escape_steps.png", "escape_scaling.png"}


def test_no_run_of_the_tables_has_a_seed_that_chose_its_step_size() -> None:
    runs = list(settings(asked()))
    assert len({tuple(run.values()) for run in runs}) == len(runs)
    swept = {run["seed"] for run in runs if run["step"] != ""}
    assert swept
    assert max(swept) < FIRST_SEED <= min(run["seed"] for run in runs if run["step"] == "")


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_every_suite_names_what_there_is(suite: str) -> None:
    for part in SUITES[suite]:
        assert part.version in VERSIONS
        assert set(part.methods) <= set(METHODS)
        assert all(reprogramming_task(task) for task in part.tasks)
    runs = list(settings(asked(suite=suite, seeds=1)))
    assert {"random", "no_op"} <= {run["method"] for run in runs}


def test_a_choice_of_tasks_and_methods_keeps_the_references() -> None:
    runs = list(settings(asked(seeds=2, tasks=["D1"], methods=[DEFAULT])))
    assert {run["task"] for run in runs} == {"D1"}
    assert {m for m in {run["method"] for run in runs} if METHODS[m].kind == "trained"} == {DEFAULT}
    assert {"optimum", "random"} <= {run["method"] for run in runs}


def run_of(method: str, budget: int = FRAMES, **changes) -> dict:
    base = {"version": "boolean", "task": "L2", "method": method, "step": "", "settings": "", "seed": 0}
    return base | {"budget": budget} | changes


def test_exact_references_are_the_published_ones() -> None:
    task = reprogramming_task("D1")
    found = {m: one_run(run_of(m, task="D1")) for m in ("no_op", "greedy", "lookahead_3", "optimum")}
    best = task.mdp.optimal_values(task.target, horizon_of(task))[-1, task.mdp.node(task.source)]
    assert found["optimum"]["success"] == pytest.approx(best, abs=1e-5)
    assert found["lookahead_3"]["success"] > 0.999
    assert found["greedy"]["success"] == found["no_op"]["success"] == 0.0
    assert found["optimum"]["interventions"] == pytest.approx(3.43, abs=0.02)


def test_a_policy_is_judged_on_what_it_was_trained_to_see() -> None:
    task, method, version = reprogramming_task("D8"), METHODS[DEFAULT], VERSIONS["boolean"]
    twin, n, horizon = twin_of(task), 20_000, horizon_of(task)
    twin.start_from(task_start(twin, task))
    aimed = reach(task, twin, version, method)
    module = module_of(method, twin, aimed, horizon, version.exploring_frames, None, 3)
    watch = ExactCurve()
    train(module, task, 5, watch)
    env = CellStateEnv(twin, module.task, horizon=horizon, n_cells=n)
    env.set_seed(0)
    generator = torch.Generator().manual_seed(1)

    def explore(tensordict):
        return tensordict.set("action", draw_action(module.actor.get_dist(tensordict), generator, 0, n))

    with torch.no_grad():
        end = env.rollout(horizon, explore)["next", "cell_state"][:, -1]
    share = float(module.task.is_success(end, module.goal_cells[:1].expand_as(end)).float().mean())
    exact = watch.results[-1].success
    assert 0.1 < exact < 0.95
    assert share == pytest.approx(exact, abs=4 * (exact * (1 - exact) / n) ** 0.5)


def test_rows_of_other_settings_are_not_taken_for_a_methods_own() -> None:
    version = VERSIONS["boolean"]
    mine = fingerprint(METHODS[DEFAULT], version)
    assert mine == fingerprint(METHODS[DEFAULT], version)
    assert mine != fingerprint(replace(METHODS[DEFAULT], options={}), version)
    assert mine != fingerprint(METHODS[DEFAULT], replace(version, exploring_frames=1))


@pytest.mark.parametrize("method", ["alternate", "ppo_only_clipped", "warm_start_1"])
def test_a_trained_run_uses_its_budget_and_repeats_itself(method: str) -> None:
    frames = 3 * 4096
    first, again = (one_run(run_of(method, frames)) for _ in range(2))
    assert first["frames"] == frames
    assert len(str(first["curve"]).split()) == iterations_for(frames, reprogramming_task("L2")) == 3
    assert first["curve"] == again["curve"]
    other = one_run(run_of(method, frames, step=SWEEPS.get(method, (0.3,))[-1]))
    assert other["curve"] != first["curve"]


def test_a_scaling_run_ends_when_the_task_is_solved() -> None:
    done = one_run(run_of("alternate", 40 * 4096, version="scaling", task="L2m4"))
    curve = [float(value) for value in str(done["curve"]).split()]
    random = one_run(run_of("random"))["success"]
    scaled = [(value - random) / (1 - random) for value in curve]
    assert scaled[-1] >= 0.9 > max(scaled[:-1], default=0.0)
    assert done["frames"] == len(curve) * 4096


@pytest.mark.slow
def test_the_differential_equations_are_solved_by_replaying_the_optimum() -> None:
    found = {m: one_run(run_of(m, version="ode", task="L4t")) for m in ("no_op", "replay")}
    assert found["no_op"]["success"] == 0.0
    assert found["replay"]["success"] > 0.95
    trained = one_run(run_of("alternate", 4 * 4096, version="ode", task="L4t"))
    assert trained["frames"] == 4 * 4096
    assert len(str(trained["curve"]).split()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sb3_ppo", "sb3_trpo_then_ppo"])
def test_outside_implementations_train_on_the_same_task(method: str) -> None:
    pytest.importorskip("sb3_contrib", reason="the extra 'bench' is not installed")
    done = one_run(run_of(method, 8 * 4096, task="S4"))
    curve = [float(value) for value in str(done["curve"]).split()]
    assert len(curve) == 8
    assert curve[-1] > curve[0]


@pytest.mark.slow
def test_the_command_ends_with_its_json_line(tmp_path: Path) -> None:
    command = [sys.executable, str(STUDY), "escape", "--suite", "core", "--tasks", "L2", "--seeds", "2"]
    command += ["--frames", "8192", "--out", str(tmp_path / "rows.csv")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["normalised_success"]["L2"]["optimum"][0] == 1.0
    assert (tmp_path / "escape.png").is_file()
    assert len(pd.read_csv(tmp_path / "rows_boolean.csv")) == len(SUITES["core"][0].methods)


def test_what_is_kept_of_the_rows_is_small(table: pd.DataFrame, tmp_path: Path) -> None:
    write_summary(Study(table), tmp_path / "kept.csv")
    kept = pd.read_csv(tmp_path / "kept.csv").set_index(["task", "method"])
    assert kept.loc[("D10", DEFAULT), "frames_to_90"] == 750
    assert kept.loc[("D10", DEFAULT), "seconds_to_90"] == pytest.approx(1.5)
    write_sweep(Study(table), tmp_path / "steps.csv")
    steps = pd.read_csv(tmp_path / "steps.csv").set_index(["method", "step"]).normalised_success_iqm
    assert steps.to_dict() == {(DEFAULT, 0.01): 1.0, (DEFAULT, 0.1): pytest.approx(0.88)}
