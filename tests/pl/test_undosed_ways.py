"""What is drawn of undosed cells is what the tables say."""

import numpy as np
import pandas as pd

from perturbrl.evaluation.undosed_ways import UndosedWays
from perturbrl.pl.undosed_ways import (
    MOST_FATES,
    plot_fates,
    plot_undosed_components,
    plot_undosed_order,
)


def ways() -> UndosedWays:
    order = pd.DataFrame(
        {
            "from": [1.0, 2.0, 3.0],
            "until": [2.0, 3.0, 4.0],
            "cells": [20, 20, 20],
            "landscape": [0.2, 0.3, 0.4],
            "no_op": [1.0, 2.0, 3.0],
            "interpolated": [0.5, 0.5, np.nan],
            "replicate": [0.01, -0.02, 0.0],
        }
    )
    components = pd.DataFrame(
        {
            "fate": np.repeat(["red", "white"], 6),
            "way": np.tile(np.repeat(["replicate", "landscape", "no_op"], 2), 2),
            "component": np.tile([1, 2], 6),
            "dtw": np.arange(12.0),
            "wasserstein": 100 + np.arange(12.0),
            "cells": 50,
        }
    )
    return UndosedWays(components, order, "Twelve cells.")


def test_every_way_is_a_line_over_the_parts_of_the_order() -> None:
    plot = plot_undosed_order(ways())
    (axes,) = plot.figure.axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert lines["moved by the landscape"] == [0.2, 0.3, 0.4]
    assert len(lines) == 4
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1 to\n2", "2 to\n3", "3 to\n4"]
    assert axes.get_ylim()[0] <= -0.02
    assert "Twelve cells." in plot.caption


def test_rows_of_the_heat_map_are_fates_and_ways_in_one_order() -> None:
    plot = plot_undosed_components(ways())
    axes = plot.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "red: moved by the landscape",
        "red: staying where they start",
        "red: other real cells",
        "white: moved by the landscape",
        "white: staying where they start",
        "white: other real cells",
    ]
    assert axes.images[0].get_array().tolist()[:3] == [[2.0, 3.0], [4.0, 5.0], [0.0, 1.0]]


def test_either_distance_has_a_figure_of_its_own() -> None:
    dtw, wasserstein = (plot_undosed_components(ways(), metric) for metric in ("dtw", "wasserstein"))
    assert (dtw.name, wasserstein.name) == ("undosed_dtw", "undosed_wasserstein")
    assert wasserstein.figure.axes[0].images[0].get_array().tolist()[0] == [102.0, 103.0]
    assert "mean path" in dtw.caption
    assert "all states" in wasserstein.caption


def test_fates_are_bars_of_both_designs_and_rare_types_are_said_to_be_left_out() -> None:
    types = [f"type {i}" for i in range(MOST_FATES + 2)]
    share = np.linspace(0.3, 0.0, len(types))
    table = pd.concat(
        [
            pd.DataFrame({"design": design, "cell_type": types, "share": share})
            for design in ("policy", "no_op")
        ]
    )
    plot = plot_fates(table, "Nine cells of white.")
    (axes,) = plot.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == types[:MOST_FATES]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["trained policy", "doing nothing"]
    assert [bar.get_width() for bar in axes.patches] == [*share[:MOST_FATES], *share[:MOST_FATES]]
    assert f"Nine cells of white. Of {len(types)} types the {MOST_FATES} with most cells." in plot.caption
