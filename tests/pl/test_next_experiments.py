"""What is drawn of planned experiments is what the tables say."""

import numpy as np
import pandas as pd

from perturbrl.pl.next_experiments import plot_next_experiments, plot_strategies


def test_each_experiment_is_a_point_on_its_interval_the_first_on_top() -> None:
    table = pd.DataFrame(
        {
            "name": ["A+B", "C"],
            "evidence": ["combined", "prior"],
            "expected": [0.5, -0.2],
            "low": [0.1, -0.6],
            "high": [0.9, 0.2],
        }
    )
    plot = plot_next_experiments(table, "size of the shift, with a 90 % interval")
    (axes,) = plot.figure.axes
    assert axes.get_xlabel() == "size of the shift"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["A+B", "C"]
    points = np.concatenate([one.get_offsets() for one in axes.collections if len(one.get_offsets()) == 1])
    assert {(0.5, 1.0), (-0.2, 0.0)} <= {tuple(point) for point in points.tolist()}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["combined", "prior"]
    assert plot.caption.startswith("Size of the shift")


def test_ours_stands_out_and_random_choice_has_its_spread() -> None:
    compared = pd.DataFrame(
        {
            "strategy": ["ours", "greedy", "random"],
            "worth": [3.0, 2.0, 1.0],
            "low": [np.nan, np.nan, 0.5],
            "high": [np.nan, np.nan, 1.5],
        }
    )
    (axes,) = plot_strategies(compared).figure.axes
    assert [bar.get_width() for bar in axes.patches] == [3.0, 2.0, 1.0]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] != colours[1] == colours[2]
    (spread,) = axes.collections
    assert spread.get_segments()[0][:, 0].tolist() == [0.5, 1.5]
