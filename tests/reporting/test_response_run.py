"""What a run says of what it was not asked, or could not do."""

from dataclasses import replace

import numpy as np
import pytest

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import detect_fields
from perturbrl.data.synthetic import simulate_screen
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.reporting import response_run
from perturbrl.reporting.response_run import RespondingRun, asked_run
from perturbrl.responses.answers import fit_kriging


def run_on(adata, n_cells):
    dataset = PerturbationDataset.from_adata(adata, detect_fields(adata))
    kriging, _ = fit_kriging(dataset)
    preprocessor = Preprocessor(n_top_genes=None).fit(dataset, np.arange(dataset.n_cells))
    cells = MeasuredCells(dataset, None, preprocessor, PCAEncoder())
    return RespondingRun(cells, kriging, kriging, "", "", "in memory", {}, n_cells, 0)


@pytest.fixture(scope="module")
def screen():
    return simulate_screen(4, 30, 60, 20, n_combinations=0, seed=1)


def left_out(run):
    report = asked_run(run, ["GENE0000", "GENE0001", "GENE0002"], (), "")
    return report.left_out, report.answers.cells


def test_cells_of_too_many_queries_are_missed_only_where_they_were_asked_for(screen, monkeypatch):
    monkeypatch.setattr(response_run, "MOST_WITH_CELLS", 2)
    asked = run_on(screen, 5)
    said = "Predicted cells: 3 queries are more than 2; name those of interest with --data.queries."
    assert left_out(asked) == ((said,), None)
    assert left_out(replace(asked, n_cells=0)) == ((), None)
    monkeypatch.setattr(response_run, "MOST_WITH_CELLS", 3)
    said, cells = left_out(asked)
    assert said == ()
    assert (cells.obs["perturbation"] == "GENE0001").sum() == 5


def test_without_counts_there_are_no_cells_and_it_is_said(screen):
    logs = screen.copy()
    counts = logs.X.toarray()
    logs.X = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    logs.layers.clear()
    said = "Predicted cells: they are drawn from counts, and the file holds log1p values."
    assert left_out(run_on(logs, 5)) == ((said,), None)
    assert left_out(run_on(logs, 0)) == ((), None)
