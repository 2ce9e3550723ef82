from dataclasses import replace

import numpy as np
import pytest
import torch
from judged_run import PAIR, fitted, judge_module, judged, predict_with, trained, trained_on_nothing
from places import CONFIGS

from perturbrl.cli import parse_config
from perturbrl.evaluation.populations import detectability
from perturbrl.planning.exhaustive import ExhaustiveSearch
from perturbrl.reporting import judge as judging
from perturbrl.reporting.callback import unseen_cells


def test_the_report_says_what_was_asked_and_with_which_cells():
    report = judged().report
    assert report.question["to"] == PAIR
    assert "6 perturbations" in report.question["may be dosed"]
    assert "none of GENE0000+GENE0001" in report.data["learned from"]
    assert report.data["judged by"].startswith("12 of control, 20 of GENE0000+GENE0001")
    assert report.data["measured"] == "60 control cells, 6 single perturbations, 15 combinations"
    assert {hit.direction for hit in report.hits} <= {"as measured", "none"}


def test_what_is_not_shown_has_a_reason():
    reasons = " ".join(judge_module(trained().model, search=False).report.left_out)
    for missing in ("--report.search true", "no attractors", "no metrics.csv"):
        assert missing in reasons


def test_search_planners_are_judged_where_asked_for(monkeypatch):
    monkeypatch.setattr(judging, "search_planners", lambda: (ExhaustiveSearch(max_size=1),))
    report = judge_module(trained().model).report  # a linear twin
    assert "exhaustive" in {row.name for row in report.evaluation.rows}
    assert not any("report.search" in reason for reason in report.left_out)


def test_predictions_are_start_and_dosed_cells_side_by_side():
    finished = judged()
    simulation = finished.report.evaluation.simulations["policy"]
    adata, n = finished.predictions, len(simulation.start)
    assert list(adata.obs["perturbation"][[0, n]]) == ["control", PAIR]
    np.testing.assert_allclose(adata.obsm["X_latent"][n:], simulation.final.numpy())
    np.testing.assert_allclose(adata.obsm["dose"].to_numpy()[n:], simulation.given.sum(1).numpy())
    assert not adata.obsm["dose"].to_numpy()[:n].any()


def test_a_prediction_judges_nothing():
    report = predict_with(trained().model).report
    assert report.evaluation is None
    assert "not held out" in report.warnings[0]
    assert {plot.name for plot in report.plots} == {"hits", "schedule", "latent_map"}
    assert "define the goal" in report.plots[2].caption


def test_where_no_effect_is_none_is_found():
    """The training cells, on which the components were fitted, differ from all others here."""
    module = trained_on_nothing().model
    assert detectability(module.twin.start_cells, module.goal_cells).detectable
    finished = judge_module(module)
    report = finished.report
    assert report.answer.startswith("No effect is detectable, so doing nothing is the right design")
    assert report.evaluation.winner.name == report.evaluation.recommended == "no_op"
    assert does_nothing(finished)


def does_nothing(finished):
    """Nothing is listed, ordered or done to cells."""
    report, cells = finished.report, finished.predictions
    assert {hit.share_of_cells for hit in report.hits} == {0.0}
    assert report.guides.empty
    assert not cells.obsm["dose"].to_numpy().any()
    n = len(cells) // 2
    return np.allclose(cells.X[:n], cells.X[n:], atol=1e-5)


def test_nor_where_the_first_file_is_not_at_hand():
    finished = predict_with(trained_on_nothing().model)
    report = finished.report
    assert "nothing is dosed: no effect of GENE0000 is detectable" in report.answer
    assert does_nothing(finished)
    assert report.warnings[0].startswith("No effect of GENE0000 is detectable")


def test_a_networks_own_cells_judge_once(network_model):
    """The goal's cells counted twice would look too equal among themselves, and so unlike all others."""
    cells = unseen_cells(network_model)
    assert cells.reference is None
    assert cells.goal is None
    resting = replace(cells, target=cells.start)
    assert resting.detectability().p_value == 1.0


def network_trained(*options):
    small = ("--model.rollout.n_cells=32", "--model.rollout.horizon=2")
    built = parse_config([f"--config={CONFIGS / 'hematopoiesis.yaml'}", *small, *options])
    with torch.random.fork_rng():
        return fitted(built, 1).model


@pytest.fixture(scope="module")
def network_model():
    return network_trained()


@pytest.fixture(scope="module")
def network(network_model):
    return judge_module(network_model).report


def test_a_network_shows_its_landscape_and_no_response(network):
    names = {plot.name for plot in network.plots}
    assert "landscape" in names
    assert not names & {"delta", "top_genes", "trajectories"}
    assert network.response is None
    assert any("network brings no measured cells" in reason for reason in network.left_out)
    assert "attractors" in network.data["judged by"]


def test_a_network_of_one_gene_has_no_landscape_and_a_reason(tmp_path):
    (tmp_path / "one.bnet").write_text("a, a\n")
    module = network_trained(
        f"--model.twin.init_args.network={tmp_path / 'one.bnet'}",
        "--data.source=state_1",
        "--data.target=state_2",
    )
    for report in (judge_module(module).report, predict_with(module).report):
        assert "landscape" not in {plot.name for plot in report.plots}
        assert any(reason.startswith("Quasi-potential landscape: ") for reason in report.left_out)
