import numpy as np
import pytest
from figure_tables import cells, paths

from perturbrl.evaluation.trajectories import dtw_distance
from perturbrl.pl.cells import (
    MAX_DIMENSIONS,
    plot_latent_map,
    plot_trajectory_distances,
    trajectory_distances,
)


def test_the_map_runs_along_the_way():
    start, target = cells(), cells(20, 3.0)
    way = paths(start, 3.0, 2)
    data = plot_latent_map({"start": start, "target": target, "dosed": way[:, -1]}, way).data
    means = data.groupby("group")[["along", "across"]].mean()
    assert means.loc["target", "along"] == pytest.approx(np.linalg.norm(target.mean(0) - start.mean(0)))
    assert means.loc["start"].abs().max() < 1e-6
    walked = data[data["group"] == "trajectory"]
    assert len(walked) == 40 * 3
    ends = walked[walked["step"] == 2][["along", "across"]].to_numpy()
    np.testing.assert_allclose(ends, data[data["group"] == "dosed"][["along", "across"]].to_numpy())


def test_a_detour_is_seen_and_noise_is_not_blown_up():
    """Cells rest in two tight spots; the way between them leaves the line."""
    start = 0.01 * cells(30)
    way = paths(start, np.r_[3.0, np.zeros(5)], 2)
    straight = plot_latent_map({"start": start, "target": start + way[0, -1], "dosed": way[:, -1]}, way)
    (low, high), (left, right) = (getattr(straight.figure.axes[0], f"get_{a}lim")() for a in "yx")
    assert high - low >= 0.4 * (right - left) - 1e-9
    way[:, 1, 4] += 2.0
    bent = plot_latent_map({"start": start, "target": start + way[0, -1], "dosed": way[:, -1]}, way).data
    middle = bent[(bent["group"] == "trajectory") & (bent["step"] == 1)]
    assert middle["across"].abs().mean() == pytest.approx(2.0, abs=0.05)


def test_distances_are_those_of_the_mean_path_and_of_the_ends():
    start, reference = cells(10), cells(4, 1.0)
    simulated = {"policy": paths(start, 1.0, 3), "no_op": paths(start, 0.0, 3)}
    real = start + 1.0
    table = trajectory_distances(simulated, reference, real, whole_way=False)
    wide = table.pivot(index="design", columns="dimension", values="dtw")
    np.testing.assert_allclose(wide.loc["policy"], dtw_distance(simulated["policy"].mean(0), reference))
    ends = table.groupby("design")["wasserstein"].mean()
    assert ends["policy"] == pytest.approx(0.0, abs=1e-9)
    assert ends["no_op"] == pytest.approx(1.0)
    pooled = trajectory_distances(simulated, reference, real, whole_way=True)
    assert pooled[pooled["design"] == "policy"]["wasserstein"].mean() > 0.2


def test_the_nearest_design_is_on_top_and_dimensions_are_cut():
    start = cells(10, latent=100)
    simulated = {"no_op": paths(start, 0.0, 2), "policy": paths(start, 1.0, 2)}
    reference = np.stack([start.mean(0), start.mean(0) + 1.0])
    table = trajectory_distances(simulated, reference, start + 1.0, whole_way=False)
    plot = plot_trajectory_distances(table, "Reference: two means.")
    axes = plot.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["trained policy", "doing nothing"]
    assert axes.images[0].get_array().shape == (2, MAX_DIMENSIONS)
    assert f"first {MAX_DIMENSIONS} of 100" in plot.caption
    assert "two means." in plot.caption
    assert len(plot.data) == 200
