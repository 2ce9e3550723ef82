import numpy as np
import pytest
import torch
from judged_run import PAIR, fitted, judged, trained
from places import CONFIGS

from perturbrl.cli import parse_config
from perturbrl.planning.exhaustive import ExhaustiveSearch
from perturbrl.reporting import judge as judging
from perturbrl.reporting.judge import judge, predict


def test_the_report_says_what_was_asked_and_with_which_cells():
    report = judged().report
    assert report.question["to"] == PAIR
    assert "6 perturbations" in report.question["may be dosed"]
    assert "none of GENE0000+GENE0001" in report.data["learned from"]
    assert report.data["judged by"].startswith("12 of control, 20 of GENE0000+GENE0001")
    assert report.data["measured"] == "60 control cells, 6 single perturbations, 15 combinations"
    assert {hit.direction for hit in report.hits} <= {"as measured", "none"}


def test_what_is_not_shown_has_a_reason():
    reasons = " ".join(judge(trained().model, None, search=False).report.left_out)
    for missing in ("--report.search true", "no attractors", "no metrics.csv"):
        assert missing in reasons


def test_search_planners_are_judged_where_asked_for(monkeypatch):
    monkeypatch.setattr(judging, "search_planners", lambda: (ExhaustiveSearch(max_size=1),))
    report = judge(trained().model, None).report  # a linear twin
    assert "exhaustive" in {row.name for row in report.evaluation.rows}
    assert not any("report.search" in reason for reason in report.left_out)


def test_predictions_are_start_and_dosed_cells_side_by_side():
    finished = judged()
    simulation = finished.report.evaluation.simulations["policy"]
    adata, n = finished.predictions, len(simulation.start)
    assert list(adata.obs["perturbation"][[0, n]]) == ["control", PAIR]
    np.testing.assert_allclose(adata.obsm["X_latent"][n:], simulation.final.numpy())
    np.testing.assert_allclose(adata.obsm["dose"].to_numpy()[n:], simulation.doses.sum(1).numpy())
    assert not adata.obsm["dose"].to_numpy()[:n].any()


def test_a_prediction_judges_nothing():
    report = predict(trained().model, None).report
    assert report.evaluation is None
    assert "not held out" in report.warnings[0]
    assert {plot.name for plot in report.plots} == {"hits", "schedule", "latent_map"}
    assert "define the goal" in report.plots[2].caption


@pytest.fixture(scope="module")
def network():
    built = parse_config(
        [
            f"--config={CONFIGS / 'hematopoiesis.yaml'}",
            "--model.rollout.n_cells=32",
            "--model.rollout.horizon=2",
        ]
    )
    with torch.random.fork_rng():
        return judge(fitted(built, 1).model, None).report


def test_a_network_shows_its_landscape_and_no_response(network):
    names = {plot.name for plot in network.plots}
    assert "landscape" in names
    assert not names & {"delta", "top_genes", "trajectories"}
    assert network.response is None
    assert any("network brings no measured cells" in reason for reason in network.left_out)
    assert "attractors" in network.data["judged by"]
