import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from counted_screen import counted
from scipy.sparse import csr_array, issparse
from sklearn.metrics import average_precision_score
from toy_screen import ToyScreen

from perturbrl.errors import DataError
from perturbrl.evaluation.adata_pairs import pair_from_adata
from perturbrl.evaluation.predicted_response import response_table
from perturbrl.responses.counted_cells import CountedCells
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.predicted_cells import labelled_cells, predicted_cells

PANEL = ToyScreen(n_genes=80, n_perturbations=12)


def panel(draw_seed, n_cells=40):
    return {label: counted(PANEL, label, n_cells, draw_seed) for label in ("control", *PANEL.perturbations)}


@pytest.fixture(scope="module")
def real_and_predicted():
    """Measured cells, and the cells that a replicate's means predict."""
    real, replicate = panel(0), panel(1)
    measured = labelled_cells(real, PANEL.genes)
    means = {label: replicate[label].log_expression.mean(axis=0) for label in PANEL.perturbations}
    return measured, predicted_cells(means, measured, CellEmitter(real["control"]))


def test_predicted_cells_mirror_the_measured_ones(real_and_predicted):
    real, predicted = real_and_predicted
    assert list(predicted.var_names) == list(real.var_names)
    pd.testing.assert_series_equal(
        predicted.obs["perturbation"].astype(str).value_counts().sort_index(),
        real.obs["perturbation"].astype(str).value_counts().sort_index(),
    )
    control = (real.obs["perturbation"] == "control").to_numpy()
    np.testing.assert_array_equal(predicted.X[control].toarray(), real.X[control].toarray())
    np.testing.assert_array_equal(predicted.obs["size_factor"][control], real.obs["size_factor"][control])
    values = predicted.X.toarray()
    np.testing.assert_array_equal(values, values.round())
    for p in PANEL.perturbations:
        cells = values[(predicted.obs["perturbation"] == p).to_numpy()]
        assert len(np.unique(cells, axis=0)) > 0.9 * len(cells)
    pair_from_adata(real, predicted, "counts", size_factor_key="size_factor")


def test_every_measured_perturbation_must_be_predicted(real_and_predicted):
    real, _ = real_and_predicted
    emitter = CellEmitter(counted(PANEL, "control", 3, 0))
    with pytest.raises(DataError, match=r"no prediction for \['G1', 'G10', 'G11', 'G2', 'G3'\]"):
        predicted_cells({"G0": np.zeros(80)}, real, emitter)


def test_a_perturbation_has_the_same_cells_whatever_was_measured_beside_it(real_and_predicted):
    real, _ = real_and_predicted
    means = {label: np.full(80, 1.0) for label in PANEL.perturbations}
    emitter = CellEmitter(counted(PANEL, "control", 20, 0))
    fewer = real[real.obs["perturbation"].isin(["control", "G2"])]
    some, every = (predicted_cells(means, measured, emitter) for measured in (fewer, real))
    of_g2 = every.obs["perturbation"] == "G2"
    np.testing.assert_array_equal(some.X[40:].toarray(), every.X[of_g2.to_numpy()].toarray())


def test_cells_depend_neither_on_the_order_of_means_nor_on_others_and_contexts_share_no_noise(
    real_and_predicted,
):
    real, _ = real_and_predicted
    control = counted(PANEL, "control", 20, 0)
    fewer = real[real.obs["perturbation"].isin(["control", "G2"])]
    means = {label: np.full(80, 1.0) for label in reversed(PANEL.perturbations)}

    def of_g2(given, emitter):
        return predicted_cells(given, fewer, emitter).X[40:].toarray()

    here = CellEmitter(control, context="NK")
    own = of_g2(means, here)
    np.testing.assert_array_equal(of_g2(dict(sorted(means.items())), here), own)
    np.testing.assert_array_equal(of_g2({"G2": means["G2"]}, here), own)
    assert (of_g2(means, CellEmitter(control, context="T")) != own).any()


def log_normalised(adata):
    x = adata.X.toarray() if issparse(adata.X) else adata.X
    logs = CountedCells(csr_array(x), x.sum(axis=1, dtype=np.float64)).log_expression
    return AnnData(logs.astype(np.float32), obs=adata.obs[["perturbation"]], var=adata.var)


def average_precision_by_fdr(pair, perturbation):
    """`de_auprc` with the ranking of cell-eval: by FDR, which ties neighbours, where ours goes by |z|."""
    cells = pair.cells(perturbation)
    return average_precision_score(cells.real_test.significant(), -cells.predicted_test.fdr)


def run_side_by_side(folder, commands):
    running = []
    for name, command in commands.items():
        program = Path(sys.executable).parent / command[0]
        if not program.exists():
            pytest.skip(f"{command[0]} is not installed; it comes with the extra 'eval'")
        line = [str(program), *command[1:], "-o", name, "--pert-col", "perturbation"]
        out = (folder / f"{name}.log").open("w")
        running.append((name, subprocess.Popen(line, cwd=folder, stdout=out, stderr=subprocess.STDOUT)))
    for name, process in running:
        assert process.wait(timeout=400) == 0, (folder / f"{name}.log").read_text()[-2000:]


@pytest.mark.slow
def test_the_command_lines_of_cell_eval_and_cell_eval2_accept_predictions_and_agree(
    tmp_path, real_and_predicted
):
    """Counts are accepted as they are written; on equally normalised cells the numbers are ours to 1e-6.

    On counts both programs normalise by rules of their own (median depth; pooled bulk), so only acceptance is
    claimed there.
    """
    for name, adata in zip(("real", "predicted"), real_and_predicted, strict=True):
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
        log_normalised(adata).write_h5ad(tmp_path / f"{name}_log.h5ad")
    counts = ["run", "-ap", "predicted.h5ad", "-ar", "real.h5ad"]
    logs = ["run", "-ap", "predicted_log.h5ad", "-ar", "real_log.h5ad"]
    # Fold changes of mean log expression, as in cell-eval; cell-eval2's own default averages before the log.
    geometric = ["--set", "de.mean_calc=geometric"]
    run_side_by_side(
        tmp_path,
        {
            "one": ["cell-eval", *counts, "--control-pert", "control"],
            "two": ["cell-eval2", *counts, "--control", "control", "--input-type", "counts"],
            "two_log": ["cell-eval2", *logs, "--control", "control", "--input-type", "lognorm", *geometric],
        },
    )
    assert set(pd.read_csv(tmp_path / "one" / "results.csv")["perturbation"]) == set(PANEL.perturbations)
    assert set(pd.read_csv(tmp_path / "two" / "results.csv")["perturbation"]) >= set(PANEL.perturbations)

    logs_on_disk = [read_h5ad(tmp_path / f"{side}_log.h5ad") for side in ("real", "predicted")]
    pair = pair_from_adata(*logs_on_disk, "log1p")
    ours = response_table(pair)
    ours["auprc_by_fdr"] = [average_precision_by_fdr(pair, p) for p in pair.measured.perturbations]
    theirs = pd.read_csv(tmp_path / "two_log" / "results.csv").pivot(
        index="perturbation", columns="metric", values="value"
    )
    for our_name, their_name in {
        "pearson_delta": "delta_pearson",
        "mse": "expr_mse",
        "mae": "expr_mae",
        "discrimination": "pds_cosine",
        "de_overlap": "de_wilcoxon_overlap",
        "de_precision": "de_wilcoxon_precision",
        "de_recall": "de_wilcoxon_sig_recall",
        "auprc_by_fdr": "de_wilcoxon_pr_auc",
    }.items():
        expected = theirs[their_name].dropna()
        assert len(expected) >= 10, their_name
        np.testing.assert_allclose(ours.loc[expected.index, our_name], expected, atol=1e-6, err_msg=our_name)
