from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from perturbrl.evaluation.plots import (
    MAX_BARS,
    plot_delta,
    plot_designs,
    plot_hits,
    plot_latent_map,
    plot_learning,
)


def normal(*shape, seed=0):
    """The same numbers in whatever order the tests run."""
    return np.random.default_rng(seed).normal(size=shape)


def hits(n, n_used):
    dose = np.r_[np.linspace(1, 0.1, n_used) * np.where(np.arange(n_used) % 3, 1, -1), np.zeros(n - n_used)]
    names = [f"LONGGENE{i}-AS1" if i % 5 == 0 else f"G{i}" for i in range(n)]
    return pd.DataFrame(
        {
            "perturbation": names,
            "dose": dose,
            "low": dose - 0.05,
            "high": dose + 0.05,
            "share_of_cells": (dose != 0) * 1.0,
        }
    )


def designs():
    return pd.DataFrame(
        {
            "name": ["policy", "no_op", "optimum"],
            "distance": [0.5, 3.0, 0.4],
            "low": [0.2, 2.5, 0.0],
            "high": [0.9, 3.4, 0.8],
        }
    )


def cells(n=40, shift=0.0):
    return normal(n, 6, seed=n) + shift


def learning(n=30):
    return pd.DataFrame(
        {
            "epoch": np.arange(n),
            "return": normal(n, seed=1),
            "trust_region/kl": np.abs(normal(n, seed=2)),
            "ppo/kl": np.abs(normal(n, seed=3)),
            "trust_region/outcome": np.arange(n) % 7,
        }
    )


PLOTS = {
    "designs": lambda: plot_designs(designs(), "latent units"),
    "hits few": lambda: plot_hits(hits(3, 2)),
    "hits many": lambda: plot_hits(hits(500, 60)),
    "hits none": lambda: plot_hits(hits(5, 0)),
    "latent map": lambda: plot_latent_map(
        {"start": cells(), "target": cells(20, 2.0), "dosed": cells(40, 1.9)}, normal(3, 6)
    ),
    "delta": lambda: plot_delta([f"G{i}" for i in range(500)], normal(500, seed=1), normal(500, seed=2)),
    "delta of nothing": lambda: plot_delta(["A", "B"], np.zeros(2), np.zeros(2)),
    "learning": lambda: plot_learning(learning()),
    "learning, one stage": lambda: plot_learning(learning()[["epoch", "return"]]),
}


@pytest.fixture(params=PLOTS, ids=str)
def plot(request):
    yield PLOTS[request.param]()
    plt.close("all")


def boxes(plot):
    plot.figure.canvas.draw()
    renderer = plot.figure.canvas.get_renderer()
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
    plot.figure.canvas.draw()
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


def test_the_nearest_design_is_on_top():
    plot = plot_designs(designs(), "latent units")
    labels = [label.get_text() for label in plot.figure.axes[0].get_yticklabels()]
    assert labels[-1] == "optimum"
    plt.close("all")


def test_only_what_is_dosed_is_drawn():
    plot = plot_hits(hits(500, 4))
    assert len(plot.figure.axes[0].get_yticklabels()) == 4
    assert "4 of 500" in plot.caption
    assert len(plot.data) == 500
    assert len(plot_hits(hits(500, 60)).figure.axes[0].get_yticklabels()) == MAX_BARS
    plt.close("all")


def test_genes_that_hardly_change_are_not_named():
    real = np.array([2.0, -1.0, 0.39, 0.01, 0.0])
    plot = plot_delta(["A", "B", "C", "D", "E"], real, 0.9 * real)
    assert [text.get_text() for text in plot.figure.axes[0].texts] == ["A", "B"]
    plt.close("all")


def test_rejected_steps_are_in_the_legend_only_where_there_are_some():
    def entries(outcome):
        plot = plot_learning(learning().assign(**{"trust_region/outcome": outcome}))
        return [text.get_text() for text in plot.figure.axes[1].get_legend().get_texts()]

    assert "step rejected" in entries(1)
    assert "step rejected" not in entries(0)
    plt.close("all")


def test_the_map_runs_along_the_way():
    start, target = cells(), cells(20, 3.0)
    plot = plot_latent_map({"start": start, "target": target, "dosed": start}, start[:2])
    data = plot.data
    way = np.linalg.norm(target.mean(0) - start.mean(0))
    means = data.groupby("group")[["along", "across"]].mean()
    assert means.loc["target", "along"] == pytest.approx(way)
    assert means.loc["start"].abs().max() < 1e-6
    plt.close("all")
