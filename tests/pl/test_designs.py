import numpy as np
import pytest
from figure_tables import designs, hits, names, schedule

from perturbrl.pl.designs import plot_designs
from perturbrl.pl.doses import MAX_BARS, plot_dose_schedule, plot_hits


def labels_of(plot):
    return [label.get_text() for label in plot.figure.axes[0].get_yticklabels()]


def test_the_nearest_design_is_on_top_and_called_by_words():
    assert labels_of(plot_designs(designs(), "latent units")) == [
        "doing nothing",
        "trained policy",
        "closed-form optimum",
    ]


def test_the_optimum_is_explained_only_where_there_is_one():
    assert "optimum" in plot_designs(designs(), "latent units").caption
    assert "optimum" not in plot_designs(designs().head(2), "latent units").caption


def test_only_what_is_dosed_is_drawn():
    plot = plot_hits(hits(500, 4))
    assert len(labels_of(plot)) == 4
    assert "4 of 500" in plot.caption
    assert len(plot.data) == 500
    assert len(labels_of(plot_hits(hits(500, 60)))) == MAX_BARS


def test_the_schedule_shows_the_most_dosed_on_top_and_keeps_all_numbers():
    doses = schedule(4, 500, 60)
    plot = plot_dose_schedule(names(500), doses)
    order = np.argsort(-doses.sum(0), kind="stable")[:MAX_BARS]
    assert labels_of(plot) == [names(500)[i] for i in order]
    np.testing.assert_allclose(plot.figure.axes[0].images[0].get_array(), doses[:, order].T)
    assert len(plot.data) == 4 * 500
    wide = plot.data.pivot(index="step", columns="perturbation", values="mean_dose")
    np.testing.assert_allclose(wide[names(500)].to_numpy(), doses)
    assert list(wide.index) == [1, 2, 3, 4]


@pytest.mark.parametrize(("lowest", "limits"), [(0.0, (0.0, 0.75)), (-1.0, (-0.75, 0.75))])
def test_colours_are_centred_on_no_dose_where_doses_go_both_ways(lowest, limits):
    image = plot_dose_schedule(["A"], np.array([[0.75], [lowest / 2]])).figure.axes[0].images[0]
    assert image.get_clim() == limits
