"""Colours and marks of predicted responses: what rises has one colour in every figure, and white is nothing."""

import numpy as np
import pandas as pd
import pytest
from figure_tables import hits
from matplotlib.colors import Normalize, to_rgb

from perturbrl.pl.doses import plot_dose_schedule, plot_hits
from perturbrl.pl.responses import plot_panel, plot_response_genes
from perturbrl.pl.style import DIVERGING, DOWN, UP


@pytest.fixture(scope="module")
def shifts():
    rng = np.random.default_rng(0)
    index = pd.Index([f"Q{i}" for i in range(12)], name="query")
    delta = pd.DataFrame(0.1 * rng.normal(size=(12, 30)), index, [f"G{i}" for i in range(30)])
    delta.iloc[0, 0], delta.iloc[1, 1] = 9.0, -9.0
    return delta


def panel(delta, sure):
    evidence = pd.Series("prior", delta.index)
    return plot_panel(delta, sure, evidence)


def test_the_map_goes_from_the_one_direction_over_white_to_the_other():
    ends = [DIVERGING(0.0)[:3], DIVERGING(1.0)[:3]]
    np.testing.assert_allclose(ends, [to_rgb(DOWN), to_rgb(UP)], atol=1e-6)
    assert min(DIVERGING(0.5)[:3]) > 0.99


def test_the_panel_is_linear_symmetric_and_says_where_it_is_clipped(shifts):
    plot = panel(shifts, shifts.abs() > 0.1)
    image = plot.figure.axes[1].images[0]
    assert type(image.norm) is Normalize
    assert image.norm.vmin == -image.norm.vmax
    assert image.norm.vmax < 1.0  # not that of the two extreme genes
    assert image.get_alpha() is None
    assert f"1 % of shifts beyond ±{image.norm.vmax:.2g}" in plot.caption


def test_claimed_genes_have_a_dot_each(shifts):
    sure = shifts.abs() > 0.15
    plot = panel(shifts, sure)
    (dots,) = plot.figure.axes[1].collections
    assert len(dots.get_offsets()) == int(sure.to_numpy().sum())
    column, row = map(int, dots.get_offsets()[0])
    assert abs(plot.figure.axes[1].images[0].get_array()[row, column]) > 0.15
    table = plot.data.set_index(["query", "gene"])["sure"]
    assert table.sum() == sure.to_numpy().sum()
    assert table["Q0", "G0"]
    many = pd.concat([shifts.rename(index=lambda name, i=i: f"{name}_{i}") for i in range(5)])
    assert not panel(many, many.abs() > 0.15).figure.axes[1].collections


def test_what_rises_has_one_colour_in_every_figure(shifts):
    genes = plot_response_genes(shifts.iloc[:2], 0.01 + 0 * shifts.iloc[:2])
    for axes, up in zip(genes.figure.axes, (True, False), strict=False):
        colours = [to_rgb(tuple(colour)) for colour in axes.collections[-1].get_facecolors()]
        np.testing.assert_allclose(colours[0], to_rgb(UP if up else DOWN), atol=1e-6)
    doses = hits(3, 3)
    bars = plot_hits(doses).figure.axes[0].patches
    for bar in bars:
        np.testing.assert_allclose(
            bar.get_facecolor()[:3], to_rgb(UP if bar.get_width() > 0 else DOWN), atol=1e-6
        )
    one_way = plot_dose_schedule(["A", "B"], np.array([[0.0, 1.0], [0.5, 1.0]])).figure.axes[0].images[0]
    np.testing.assert_allclose(one_way.cmap(1.0)[:3], to_rgb(UP), atol=1e-6)
