"""The response study on a small simulated folder, whose truth is known."""

import argparse
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from places import TOOLS
from scipy.sparse import csr_matrix
from studies import (
    response,
    response_cells,
    response_scaled,
    response_simulated,
    response_splits,
    response_verdicts,
)

from perturbrl.data.module_screen import ModuleScreenOptions
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import DataError
from perturbrl.responses.spread import ResponseSpread


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    simulate_screen(6, 60, 120, 60, n_combinations=4, seed=1).write_h5ad(path / response_splits.NORMAN)
    return path


def test_doubles_are_held_out_by_what_is_known_of_their_parts(folder):
    both = response_splits.held_out_conditions(folder, response_splits.SPLITS["norman_both"])
    assert len(both) == 4
    assert all("+" in label for label in both)
    assert response_splits.held_out_conditions(folder, response_splits.SPLITS["norman_none"]) == []
    singles = response_splits.held_out_conditions(folder, response_splits.SPLITS["norman_singles"])
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
    command += ["--splits", "norman_both", "--policy_seeds=0", f"--out={tmp_path / 'rows.csv'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["conditions"] == 4
    undecided = [one[:2] for one in said["undecided"]]
    assert sorted(said["wins"] + undecided + said["losses"]) == sorted(
        ["norman_both", metric] for metric in response_verdicts.JUDGED
    )
    assert said["ties"] == said["not_compared"] == []
    assert said["shifted_copy"]["norman_both"] in ("wins", "undecided")
    assert 0.8 < said["coverage_90"] == said["coverage_90_by_split"]["norman_both"] <= 1.0
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert (rows["kriging:pearson_delta"] > 0.6).all()
    assert (rows["kriging:l2"] < rows["no_op:l2"]).all()
    energy = {name: rows[f"{name}:energy_distance"] for name in ("kriging", "no_op", "shifted_copy")}
    assert (energy["kriging"] < energy["no_op"]).all()
    assert energy["kriging"].mean() < energy["shifted_copy"].mean()
    assert rows["shifted_copy:l2"].isna().all()
    assert (rows["kriging:energy_distance_as_many"] > rows["kriging:energy_distance"]).all()
    assert (rows["kriging:energy_distance"] > rows["kriging:energy_distance_unbiased"]).all()


def test_a_folder_without_the_file_is_an_error(tmp_path):
    command = [sys.executable, str(TOOLS / "study.py"), "response", f"--data={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    assert "is not in" in done.stderr
    assert "Traceback" not in done.stderr


def rows_of(gains):
    """A table in which kriging beats no change by the given gains, and everybody else predicts no change."""
    table = pd.DataFrame({"split": "made", "held_out": [f"p{i}" for i in range(len(gains))], "seed": 0})
    for name in response_verdicts.PREDICTORS:
        for metric in response_verdicts.JUDGED:
            table[f"{name}:{metric}"] = np.asarray(gains) if name == "kriging" else 0.0
    return table.assign(**{"kriging:coverage_90": 0.9})


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.1, 0.2, 0.15], "wins"),
        ([0.1, -0.2, 0.15, 0.1, -0.1], "ties"),
        ([-0.1, -0.2, -0.15], "losses"),
    ],
)
def test_verdicts_are_clear_of_nothing_by_their_interval(gains, verdict):
    table = rows_of(gains)
    verdicts = pd.DataFrame(list(response_verdicts.verdicts_of(table)))
    said = response_verdicts.summary(table, verdicts)
    assert ["made", "pearson_delta"] in said[verdict]
    better_is_less = {"wins": "losses", "losses": "wins"}.get(verdict, verdict)
    assert ["made", "l2"] in said[better_is_less]


@pytest.mark.parametrize("gains", [[-0.1], [0.05, -0.3], [0.1, -0.2, 0.15, 0.1]])
def test_of_few_conditions_it_is_said_who_leads_and_by_how_much_on_which(gains, capsys):
    table = rows_of(gains)
    verdicts = pd.DataFrame(list(response_verdicts.verdicts_of(table)))
    said = response_verdicts.summary(table, verdicts)
    assert said["wins"] == said["ties"] == said["losses"] == []
    found = {metric: (leads, each) for _, metric, leads, each in said["undecided"]}
    assert set(found) == set(response_verdicts.JUDGED)
    leads, each = found["pearson_delta"]
    assert (leads == "kriging") == (sum(gains) > 0)
    assert each == {f"p{i}": gain for i, gain in enumerate(gains)}
    assert found["l2"][1] == {name: -gain for name, gain in each.items()}
    response_verdicts.print_verdicts(verdicts)
    printed = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    last = [[field.strip() for field in line] for line in printed if "energy_distance" in line[2]][-1]
    assert last[4:6] == [f"p{len(gains) - 1}", f"{-gains[-1]:.3f}"]


def test_what_could_not_be_compared_is_listed():
    table = rows_of([0.1, 0.2, 0.15])
    table["kriging:energy_distance"] = np.nan  # as of a screen that has no cells to emit
    table["knn_prior:l2"] = np.nan  # as of a predictor that is none of this split
    table.loc[1, "additive:l2"] = np.nan
    verdicts = pd.DataFrame(list(response_verdicts.verdicts_of(table)))
    assert "energy_distance" not in set(verdicts["metric"])
    said = response_verdicts.summary(table, verdicts)
    assert said["not_compared"] == [["made", "l2", "additive"], ["made", "energy_distance", "kriging"]]
    assert said["shifted_copy"] == {}


class Emitter:
    """Remembers what it was asked for."""

    class control:
        log_mean = np.zeros(3)

    def __init__(self):
        self.asked = []

    def emit(self, log_mean, n_cells, stream=0, spread=None):
        self.asked.append((tuple(log_mean), n_cells, spread))
        cells = np.random.default_rng(0).normal(log_mean, 1.0, (n_cells, 3))
        return argparse.Namespace(log_expression=cells)


def test_cells_of_all_predictors_are_made_alike_and_a_copy_is_kept_apart():
    """Two predictors with one mean have one energy distance, whoever they are."""
    rng, emitter, spread = np.random.default_rng(1), Emitter(), ResponseSpread.none(3)
    shift = np.ones(3)
    replicate, judging = rng.normal(1.0, 1.0, (2, 60, 3))
    found = response_cells.energy_distances(
        emitter,
        spread,
        {"kriging": shift, "additive": shift, "no_op": 0 * shift},
        "kriging",
        judging,
        replicate,
    )
    assert found["kriging"] == found["additive"]
    assert found["kriging"]["energy_distance"] < found["no_op"]["energy_distance"]
    moved = [(mean, given) for mean, _, given in emitter.asked if given is not None]
    assert moved == [((1.0, 1.0, 1.0), spread), ((0.0, 0.0, 0.0), spread)]
    assert {n for _, n, _ in emitter.asked} == {response_cells.N_CELLS}
    assert set(found) == {"kriging", "additive", "no_op", "shifted_copy", "split_half_replicate"}
    # Without the bias of few cells, a replicate is as near as 1,000 cells of the true mean.
    unbiased = {name: own["energy_distance_unbiased"] for name, own in found.items()}
    assert abs(unbiased["split_half_replicate"] - unbiased["kriging"]) < 0.1


def test_genes_are_chosen_on_what_is_learned_from(tmp_path, monkeypatch):
    """A gene that only held-out cells vary in is none of the study's."""
    adata = simulate_screen(4, 60, 80, 40, n_combinations=2, seed=1)
    counts = adata.X.toarray()
    double = next(one for one in adata.obs["perturbation"].unique() if "+" in one)
    rows = np.flatnonzero(adata.obs["perturbation"] == double)
    counts[rows[::2], 7] += 500
    adata.X = csr_matrix(counts)
    adata.write_h5ad(tmp_path / response_splits.NORMAN)
    monkeypatch.setattr(response_splits, "MOST_GENES", 20)
    split = response_splits.SPLITS["norman_both"]
    one = response_splits.divided(tmp_path, split, double, 0)
    loud = adata.var_names[7]
    everything = np.arange(adata.n_obs)
    assert loud in response_splits.cells_on(tmp_path, split, everything).genes
    assert loud not in response_splits.cells_on(tmp_path, split, one.learned).genes
    asked = []
    monkeypatch.setattr(
        response, "expected_of", lambda folder, split, one, training: asked.append(training.genes) or {}
    )
    with pytest.raises(KeyError):
        response.one_condition(tmp_path, {"split": "norman_both", "held_out": double, "seed": 0})
    assert loud not in asked[0]


def test_the_genes_of_one_pathway_are_told_apart_by_name():
    table = rows_of([0.5, 0.7, 0.1]).assign(split="papalexi_reactome", held_out=["STAT1", "STAT1", "CUL3"])
    table["seed"] = [0, 1, 0]
    said = response_verdicts.summary(table, pd.DataFrame(list(response_verdicts.verdicts_of(table))))
    assert said["pearson_delta_pathway"] == {"STAT1": 0.6}


SMALL = ModuleScreenOptions(
    n_perturbations=60, n_genes=40, n_modules=6, n_control=300, cells_per_population=20, effect_size=0.3
)


def test_a_simulated_screen_is_judged_by_its_exact_shifts():
    held_out = response_simulated.held_out_names(SMALL)
    assert len(held_out) == 15
    scores = response_simulated.scores_of_screen(SMALL)
    assert set(scores) == set(held_out)
    coverage = np.mean([scores[one]["kriging"]["coverage_90"] for one in held_out])
    assert 0.85 < coverage < 0.97
    table = pd.DataFrame(
        [{"predictor": name, **scores[one][name]} for one in held_out for name in scores[one]]
    )
    mean = table.groupby("predictor").mean()
    assert set(mean.index) - {"random"} <= set(response_verdicts.PREDICTORS)
    assert mean.loc["split_half_replicate", "l2"] == mean["l2"].min()
    # Of a module two thirds of whose members are told, prior knowledge says something.
    assert mean.loc["kriging", "l2"] < 0.93 * mean.loc["training_mean", "l2"]
    assert mean.loc["kriging", "pearson_delta"] > 0.4 > mean.loc["no_op", "pearson_delta"] == 0.0


def test_hours_of_a_drug_are_doses(tmp_path):
    split = response_splits.SPLITS["cao_3h"]
    adata = simulate_screen(2, 60, 120, 60, n_combinations=0, seed=2)
    adata.obs["time_h"] = (
        adata.obs["perturbation"].map({"control": 0, "GENE0000": 1, "GENE0001": 3}).astype(int)
    )
    drug = adata.obs["perturbation"].astype(str).where(adata.obs["time_h"] == 0, "dexamethasone")
    adata.obs["perturbation"] = drug.astype("category")
    adata.write_h5ad(tmp_path / split.file)
    assert response_splits.held_out_conditions(tmp_path, split) == ["dexamethasone:3"]
    row = response.one_condition(tmp_path, {"split": "cao_3h", "held_out": "dexamethasone:3", "seed": 0})
    assert row["additive:l2"] == row["training_mean:l2"] != row["no_op:l2"]
    assert row["kriging:l2"] > 0


def test_a_panel_of_predicted_cells_goes_to_cell_eval2(folder, monkeypatch):
    """What the program would get: all held-out perturbations with the same controls, from every predictor."""
    given = {}

    def record(real, predicted, mean_response):
        given.update(real=real, predicted=predicted, zero=mean_response)
        return pd.DataFrame({"avg_score": dict.fromkeys(predicted, 0.0)})

    monkeypatch.setattr(response_scaled, "scaled_scores", record)
    found = response_scaled.scores_of_split(folder, response_splits.SPLITS["norman_both"], 0)
    assert {"kriging", "additive", given["zero"]} <= set(found.index)
    labels = list(given["real"].obs["perturbation"])
    assert len(set(labels)) == 5
    for name, cells in given["predicted"].items():
        assert sorted(cells.obs["perturbation"]) == sorted(labels), name
        controls = [side[side.obs["perturbation"] == "control"].X for side in (given["real"], cells)]
        assert (controls[0] != controls[1]).nnz == 0


def test_a_panel_that_the_program_refuses_is_said_and_the_others_go_on(monkeypatch, capsys, tmp_path):
    def scored(folder, split, seed):
        if split.seen == 0:
            raise DataError("no measurable effect")
        return pd.DataFrame({"avg_score": {"kriging": 0.5, "training_mean": 0.0}})

    monkeypatch.setattr(response_scaled, "scores_of_split", scored)
    arguments = argparse.Namespace(data=tmp_path, splits=["norman_none", "papalexi"], seed=0)
    response_scaled.run(arguments)
    out, err = capsys.readouterr()
    assert "norman_none: no measurable effect" in err
    said = json.loads(out.splitlines()[-1])
    assert said["averages"] == {"papalexi": {"kriging": 0.5, "training_mean": 0.0}}
    assert said["refused"] == {"norman_none": "no measurable effect"}
