import numpy as np
from figure_tables import top_genes

from perturbrl.pl.genes import plot_delta, plot_top_genes


def test_genes_that_hardly_change_are_not_named():
    real = np.array([2.0, -1.0, 0.39, 0.01, 0.0])
    plot = plot_delta(["A", "B", "C", "D", "E"], real, 0.9 * real)
    assert [text.get_text() for text in plot.figure.axes[0].texts] == ["A", "B"]


def test_names_of_small_changes_stand_outside_the_crowd():
    real = np.array([2.0, -0.5, *np.linspace(-0.1, 0.1, 50)])
    plot = plot_delta([f"G{i}" for i in range(52)], real, real)
    place = {text.get_text(): text.get_position() for text in plot.figure.axes[0].texts}
    assert place["G1"][0] < -0.5
    assert place["G0"][0] < 2.0


def test_the_surest_gene_is_on_top_and_unsure_ones_are_hollow():
    table = top_genes(6, 2)
    axes = plot_top_genes(table).figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(table["gene"])[::-1]
    sure, unsure, predicted = axes.collections[-3:]
    assert (len(sure.get_offsets()), len(unsure.get_offsets())) == (2, 4)
    assert sure.get_facecolor().tolist() != unsure.get_facecolor().tolist()
    np.testing.assert_allclose(predicted.get_offsets()[:, 0], table["predicted"][::-1])
