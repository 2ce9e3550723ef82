"""A response model judged on what a split holds out: its report, and files for cell-eval."""

import json

import numpy as np
import pandas as pd
import pytest

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import ColumnOptions, detect_fields
from perturbrl.data.splits import HeldOutCellTypes, HeldOutCombinations, HeldOutPerturbations
from perturbrl.data.synthetic import simulate_screen
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.adata_pairs import pair_from_adata
from perturbrl.reporting.held_out_responses import judge_held_out, labelled
from perturbrl.reporting.judged_tables import compared, judged_frame, judged_table
from perturbrl.responses.kriging import Kriging
from perturbrl.schema import SIZE_FACTOR_OBS


def held_out(adata, split, columns=ColumnOptions()):  # noqa: B008  frozen
    dataset = PerturbationDataset.from_adata(adata, detect_fields(adata, columns))
    parts = split.split(dataset)
    return MeasuredCells(dataset, parts, Preprocessor(n_top_genes=40).fit(dataset, parts.train), PCAEncoder())


def judged(cells, **more):
    return judge_held_out(Kriging().fit(labelled(cells, cells.split.train)), cells, **more)


@pytest.fixture(scope="module")
def screen():
    return simulate_screen(8, 60, 240, 60, n_combinations=6, seed=4)


@pytest.fixture(scope="module")
def found(screen):
    return judged(held_out(screen, HeldOutCombinations(seen=2, fraction=0.7)))


@pytest.fixture(scope="module")
def written(found, tmp_path_factory):
    return found.report.write(tmp_path_factory.mktemp("out") / "report").parent


def test_the_page_says_who_is_nearest_and_whether_intervals_hold(found, written):
    page = (written / "report.html").read_text()
    said = found.report.answer
    assert (
        "held-out conditions kriging against the baseline that is best in each: error of mean expression (L2)"
        in said
    )
    assert "90 % intervals hold" in said
    assert said.replace(" %", "\u00a0%") in page
    for row in ("kriging (this model)", "additive effects", "split-half replicate †", "random perturbation"):
        assert row in page
    for figure in ("calibration", "predicted_against_measured", "effects", "panel"):
        assert f'id="figure-{figure}"' in page
    assert "Nothing here is judged" not in page
    assert page.index("How far to believe it</h2>") < page.index("What each perturbation does</h2>")


def test_every_number_lies_beside_the_page(found, written):
    means = pd.read_csv(written / "judged_means.csv", index_col="predictor")
    by_hand = found.report.judged.table.groupby("predictor")["l2"].mean()
    np.testing.assert_allclose(means["l2"], by_hand[means.index])
    numbers = json.loads((written / "metrics.json").read_text())
    assert numbers["calibration"][2]["level"] == 0.9
    assert {row["predictor"] for row in numbers["judged"]} == set(means.index)


def test_a_baseline_that_wins_is_marked_and_said(found):
    report = found.report
    table = report.judged.table.copy()
    table.loc[table["predictor"] == "no_op", "l2"] = 1e-3 * np.arange((table["predictor"] == "no_op").sum())
    object.__setattr__(report.judged, "table", table)
    shown = judged_table(report.judged, "kriging")
    column = shown.columns.index("L2")
    marked = [row.texts()[0].value for row in shown.rows if column in row.best]
    assert marked == ["doing nothing"]
    assert compared(report.judged, "kriging", "l2").endswith("by doing nothing (worse)")


def test_the_replicate_is_no_competitor(found):
    table = found.report.judged.table.copy()
    table.loc[table["predictor"] == "split_half_replicate", "pearson_delta"] = 1.0
    object.__setattr__(found.report.judged, "table", table)
    shown = judged_table(found.report.judged, "kriging")
    column = shown.columns.index("Pearson Δ")
    marked = [row.texts()[0].value for row in shown.rows if column in row.best]
    assert marked
    assert "split-half replicate †" not in marked


def test_files_for_cell_eval_hold_real_controls_and_as_many_cells(found, screen):
    real, predicted = found.real, found.predicted
    pair_from_adata(real, predicted, "counts", size_factor_key=SIZE_FACTOR_OBS)
    counts = [one.obs["perturbation"].value_counts().to_dict() for one in (real, predicted)]
    assert counts[0] == counts[1]
    assert counts[0]["control"] == 48
    controls = [one[one.obs["perturbation"] == "control"].X.toarray() for one in (real, predicted)]
    np.testing.assert_array_equal(*controls)


def test_a_held_out_cell_type_keeps_its_own_controls(screen):
    adata = screen[~screen.obs["perturbation"].str.contains("+", regex=False)].copy()
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2, "T", "B")
    cells = held_out(adata, HeldOutCellTypes(["T"]), ColumnOptions(cell_type_key="kind"))
    found = judged(cells)
    assert {context for _, context in found.report.judged.conditions} == {"T"}
    assert set(found.report.answers.evidence) == {"transferred"}
    assert set(found.real.obs["cell_type"]) == set(found.predicted.obs["cell_type"]) == {"T"}
    assert found.real.obs_names.is_unique
    assert "nearest cell type" in found.report.answer or "cell-type mean" in {
        row.texts()[0].value for row in judged_table(found.report.judged, "kriging").rows
    }


def test_values_that_are_no_counts_are_judged_by_their_means(screen):
    logs = screen.copy()
    counts = screen.X.toarray()
    logs.X = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    cells = held_out(logs, HeldOutPerturbations(perturbations=["GENE0001", "GENE0002"]))
    found = judged(cells, question={"training": "none"}, data={"file": "logs.h5ad"})
    assert found.report.data["file"] == "logs.h5ad"
    assert found.report.question["training"] == "none"
    assert found.real is None
    assert found.predicted is None
    assert "energy_relative" not in found.report.judged.table
    assert "energy distance" not in found.report.answer
    assert len(judged_frame(found.report.judged)) == found.report.judged.table["predictor"].nunique()


@pytest.mark.parametrize("name", ["GENE0003"])
def test_one_held_out_condition_has_no_intervals_over_conditions(screen, name, tmp_path):
    cells = held_out(screen, HeldOutPerturbations(perturbations=[name]))
    found = judged(cells)
    conditions = [str(label) for label, _ in found.report.judged.conditions]
    assert name in conditions
    found.report.write(tmp_path / "report")


def test_a_split_that_holds_no_perturbed_cell_out_is_refused(screen):
    cells = held_out(screen, HeldOutPerturbations(perturbations=["GENE0003"]))
    controls = cells.split.test[[label.is_control for label in cells.dataset.labels[cells.split.test]]]
    object.__setattr__(cells.split, "test", controls)
    with pytest.raises(ConfigurationError, match="holds no perturbed cell out"):
        judged(cells)
