import pandas as pd
import pytest
from judged_run import judge_module, judged, trained_on_logs

from perturbrl.reporting.figures import learning_figure


def plots_of(report):
    return {plot.name: plot for plot in report.plots}


def test_measured_cells_give_every_figure_but_the_landscape():
    assert set(plots_of(judged().report)) == {
        *("designs", "hits", "schedule", "latent_map", "trajectories", "delta", "top_genes")
    }


def test_without_pseudotime_the_reference_is_said_to_be_two_means():
    plot = plots_of(judged().report)["trajectories"]
    assert "no pseudotime" in plot.caption
    nearest = plot.data.groupby("design")["dtw"].sum()
    assert nearest["split_half_replicate"] < nearest["no_op"]


def test_pseudotime_orders_the_reference_where_there_is_one():
    plot = plots_of(judge_module(trained_on_logs().model).report)["trajectories"]
    assert "20 held-out target cells in 3 equal bins of their pseudotime" in plot.caption
    assert "split_half_replicate" not in set(plot.data["design"])


@pytest.mark.parametrize("curves", [None, pd.DataFrame({"epoch": [0]})])
def test_no_curves_no_figure(curves):
    assert learning_figure(curves) == []
