"""What holds for every figure, from one perturbation to five hundred, looked at as a reader would."""

from itertools import combinations
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figure_tables import (
    cells,
    coverage,
    designs,
    effects,
    hits,
    judged_genes,
    learning,
    names,
    normal,
    paths,
    schedule,
    shifts,
    top_genes,
    warm_start,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from perturbrl.pl.cells import (
    plot_latent_map,
    plot_trajectory_distances,
    trajectory_distances,
)
from perturbrl.pl.designs import plot_designs
from perturbrl.pl.doses import plot_dose_schedule, plot_hits
from perturbrl.pl.genes import plot_delta, plot_top_genes
from perturbrl.pl.judged_responses import plot_calibration, plot_predicted_against_measured
from perturbrl.pl.learning import plot_learning
from perturbrl.pl.responses import plot_effects, plot_panel, plot_response_genes
from perturbrl.pl.style import LONGEST_LABEL, shortened


def latent_map(n, steps):
    start = cells(n)
    way = paths(start, 2.0, steps)
    return plot_latent_map({"start": start, "target": cells(n // 2, 2.0), "dosed": way[:, -1]}, way)


def trajectories(latent):
    start = cells(20, latent=latent)
    simulated = {name: paths(start, far, 3) for name, far in (("policy", 2.0), ("nnls", 1.0), ("no_op", 0.0))}
    table = trajectory_distances(simulated, cells(4, 1.0, latent), cells(30, 2.0, latent), whole_way=False)
    return plot_trajectory_distances(table, "Reference: invented.")


def panel(n, n_genes=200):
    delta, sd = shifts(n, n_genes)
    return plot_panel(delta, delta.abs() > 1.645 * sd, effects(n).set_index("query")["evidence"])


PLOTS = {
    "designs": lambda: plot_designs(designs(), "latent units"),
    "designs, all planners": lambda: plot_designs(
        designs("nnls", "greedy", "random", "nearest_perturbation", "lookahead", "cem", "mpc", "exhaustive"),
        "latent units",
    ),
    "hits, 1": lambda: plot_hits(hits(1, 1)),
    "hits, few": lambda: plot_hits(hits(3, 2)),
    "hits, 500": lambda: plot_hits(hits(500, 60)),
    "hits, none": lambda: plot_hits(hits(5, 0)),
    "schedule, 1": lambda: plot_dose_schedule(names(1), schedule(1, 1, 1)),
    "schedule, none": lambda: plot_dose_schedule(names(5), schedule(3, 5, 0)),
    "schedule, 4 steps": lambda: plot_dose_schedule(names(11), schedule(4, 11, 3, -1.0)),
    "schedule, 500": lambda: plot_dose_schedule(names(500), schedule(10, 500, 60)),
    "schedule, 60 steps": lambda: plot_dose_schedule(names(30), schedule(60, 30, 30, -1.0)),
    "latent map": lambda: latent_map(40, 3),
    "latent map, many": lambda: latent_map(5000, 1),
    "trajectories, 2": lambda: trajectories(2),
    "trajectories, 100": lambda: trajectories(100),
    "delta": lambda: plot_delta([f"G{i}" for i in range(500)], normal(500, seed=1), normal(500, seed=2)),
    "delta of nothing": lambda: plot_delta(["A", "B"], np.zeros(2), np.zeros(2)),
    "delta, one side": lambda: plot_delta(
        names(4), np.array([2.0, 1.4, -0.5, 0.1]), np.array([2.0, 1.5, 0, 0])
    ),
    "top genes": lambda: plot_top_genes(top_genes()),
    "top genes, all sure": lambda: plot_top_genes(top_genes(8, 8)),
    "learning": lambda: plot_learning(learning()),
    "learning, warm start": lambda: plot_learning(warm_start()),
    "learning, 1 iteration": lambda: plot_learning(learning(1)),
    "effects, 1": lambda: plot_effects(effects(1)),
    "effects, 3": lambda: plot_effects(effects(3)),
    "effects, 40": lambda: plot_effects(effects(40)),
    "effects, 500": lambda: plot_effects(effects(500)),
    "panel, 1": lambda: panel(1),
    "panel, 3": lambda: panel(3),
    "panel, 3 and 5 genes": lambda: panel(3, 5),
    "panel, 40": lambda: panel(40),
    "panel, 500": lambda: panel(500),
    "panel, 1200": lambda: panel(1200),
    "response genes, 1": lambda: plot_response_genes(*shifts(1)),
    "response genes, 3": lambda: plot_response_genes(*shifts(3)),
    "response genes, 500": lambda: plot_response_genes(*shifts(500)),
    "predicted against measured, 1": lambda: plot_predicted_against_measured(judged_genes(1)),
    "predicted against measured, 20": lambda: plot_predicted_against_measured(judged_genes(20)),
    "calibration": lambda: plot_calibration(coverage()),
    "calibration, too narrow": lambda: plot_calibration(coverage(0.4)),
    "calibration, 1 condition": lambda: plot_calibration(coverage().assign(low=np.nan, high=np.nan)),
    "learning, one stage": lambda: plot_learning(learning()[["epoch", "return"]]),
}


@pytest.fixture(params=PLOTS, ids=str)
def plot(request):
    return PLOTS[request.param]()


def boxes(plot):
    canvas = FigureCanvasAgg(plot.figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = []
    for axes in plot.figure.axes:
        labels = [
            *axes.get_xticklabels(),
            *axes.get_yticklabels(),
            axes.xaxis.label,
            axes.yaxis.label,
            *axes.texts,
        ]
        if axes.get_legend():
            labels += axes.get_legend().get_texts()
        # Tick labels beyond the limits are not drawn.
        (x0, x1), (y0, y1) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
        for text in labels:
            x, y = text.get_position()
            outside = (text in axes.get_xticklabels() and not x0 <= x <= x1) or (
                text in axes.get_yticklabels() and not y0 <= y <= y1
            )
            if text.get_visible() and text.get_text() and not outside:
                # An annotation's own extent includes its arrow.
                texts.append((text, Text.get_window_extent(text, renderer)))
    return texts


def test_no_text_covers_another_or_is_too_small(plot):
    texts = boxes(plot)
    assert min(text.get_fontsize() for text, _ in texts) >= 9
    for (one, a), (other, b) in combinations(texts, 2):
        shared = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(shared) <= 1, (one.get_text(), other.get_text())


def test_no_legend_lies_on_data(plot):
    FigureCanvasAgg(plot.figure).draw()
    for axes in plot.figure.axes:
        if axes.get_legend():
            assert axes.get_legend().get_window_extent().x0 >= axes.get_window_extent().x1 - 1


def test_everything_is_saved_beside_its_numbers(plot, tmp_path):
    png = plot.save(tmp_path)
    image = plt.imread(png)
    assert image[..., :3].std() > 0.01
    assert (image[[0, -1], :, :3] > 0.99).all()
    assert (tmp_path / f"{plot.name}.svg").stat().st_size > 1000
    assert len(pd.read_csv(tmp_path / f"{plot.name}.csv")) == len(plot.data)
    assert plot.caption.endswith(".")


def test_vector_files_keep_their_text(plot, tmp_path):
    plot.save(tmp_path)
    root = ElementTree.parse(tmp_path / f"{plot.name}.svg").getroot()
    said = "".join(root.itertext())
    assert plot.figure.axes[0].get_xlabel() in said or plot.figure.axes[-1].get_xlabel() in said
    assert (tmp_path / f"{plot.name}.svg").stat().st_size < 500_000


def test_figures_leave_a_notebooks_own_alone(plot):
    assert plt.get_fignums() == []


def test_long_names_are_shortened():
    assert shortened("A" * LONGEST_LABEL) == "A" * LONGEST_LABEL
    assert len(shortened("A" * 80)) == LONGEST_LABEL
