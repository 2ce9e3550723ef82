import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from toy_screen import ToyScreen

from perturbrl.evaluation import metrics
from perturbrl.evaluation.de_metrics import differential_expression, top_genes
from perturbrl.evaluation.distances import energy_distance
from perturbrl.evaluation.pairs import ResponsePair
from perturbrl.evaluation.response_table import response_table

TOY = ToyScreen(n_genes=80, n_perturbations=4)
LABELS = ("control", *TOY.perturbations)


def counts(draw_seed, n_cells=40, labels=LABELS):
    obs = pd.DataFrame({"perturbation": np.repeat(labels, n_cells)}).set_index(
        pd.Index([f"c{i}" for i in range(n_cells * len(labels))])
    )
    x = np.concatenate([TOY.counts(label, n_cells, draw_seed) for label in labels])
    return AnnData(x, obs=obs, var=pd.DataFrame(index=TOY.genes))


@pytest.fixture(scope="module")
def pair():
    return ResponsePair(counts(0), counts(1, n_cells=30), "counts")


@pytest.fixture(scope="module")
def table(pair):
    return response_table(pair, pair.real_means.mean(axis=0), top_k=10)


def test_every_column_is_the_metric_of_its_name(pair, table):
    control = pair.control.mean(axis=0)
    predicted, real = pair.predicted_means, pair.real_means
    expected = {
        "pearson_delta": metrics.pearson_delta(predicted, real, control),
        "pearson_centred": metrics.pearson_centred(predicted, real, real.mean(axis=0)),
        "rmse": metrics.rmse(predicted, real),
        "r2": metrics.r2(predicted, real),
        "r2_delta": metrics.r2(predicted - control, real - control),
        "discrimination": metrics.discrimination_score(
            predicted - control, real - control, pair.perturbations, pair.genes
        ),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values)
    assert table.index.tolist() == list(TOY.perturbations)
    cells = pair.cells("predicted", "G2"), pair.cells("real", "G2")
    assert table.loc["G2", "energy_distance"] == pytest.approx(energy_distance(*cells))
    top = top_genes(differential_expression(cells[1], pair.control), 10)
    assert table.loc["G2", "mse_top"] == pytest.approx(np.square(predicted[2, top] - real[2, top]).mean())


def test_a_replicate_scores_like_one(table):
    assert table["energy_relative"].between(0.7, 1.4).all()
    assert (table["pearson_delta"] > 0.8).all()
    assert (table["discrimination"] == 1.0).all()
    assert (table[["de_recall", "de_auprc", "call_f1"]] > 0.5).all(axis=None)
    assert table.notna().all(axis=None)


def test_a_single_perturbation_cannot_be_discriminated():
    one = ResponsePair(counts(0, labels=LABELS[:2]), counts(1, labels=LABELS[:2]), "counts")
    table = response_table(one, one.real_means.mean(axis=0), top_k=500)
    assert len(table) == 1
    assert np.isnan(table["discrimination"].item())
    assert table["mse_top"].item() == pytest.approx(table["mse"].item())
