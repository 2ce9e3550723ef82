"""A landscape learned from cells is drawn with its basins, the way over it, and what cells do when left alone."""

from functools import cache

import pytest
from judged_run import trained
from landscape_run import SOURCE, trained_on_landscape

from perturbrl.evaluation.simulation import simulate
from perturbrl.planning.planners import NoOpDesign
from perturbrl.reporting.callback import judged_of, unseen_cells
from perturbrl.reporting.landscape_figures import landscape_figures


@cache
def drawn(*, held_out: bool = True):
    module = trained_on_landscape()
    judged = judged_of(module)
    start = unseen_cells(module).start
    simulations = {"policy": simulate(judged.problem, judged.policy, start)}
    plots, left_out = landscape_figures(judged, simulations, held_out=held_out)
    return {plot.name: plot for plot in plots}, left_out, simulations["policy"]


def test_everything_is_drawn_that_measured_cells_allow():
    plots, left_out, _ = drawn()
    assert list(plots) == ["landscape", "fates", "undosed_order", "undosed_components"]
    assert left_out == ()


def test_basins_bear_the_names_of_cell_types_and_the_way_ends_where_cells_settled():
    plots, _, policy = drawn()
    table = plots["landscape"].data
    basins = set(table[table["kind"] == "attractor"]["name"])
    assert basins == set(trained_on_landscape().twin.attractors())
    assert basins <= {"stem", "red", "white"}
    walked = table[table["kind"] == "path"]
    assert walked["step"].max() == policy.path.shape[1]  # the start, every dose, and rest
    texts = {text.get_text() for text in plots["landscape"].figure.axes[0].texts}
    assert "red (target)" in texts


def test_fates_stand_beside_those_of_cells_that_were_left_alone():
    plots, _, policy = drawn()
    table = plots["fates"].data.pivot(index="cell_type", columns="design", values="share")
    assert list(table.columns) == [NoOpDesign.name, "policy"]
    assert table.sum().tolist() == pytest.approx([1, 1])
    assert table.loc["white", "no_op"] > 0.8  # where they started
    assert f"{len(policy.start)} cells of {SOURCE}." in plots["fates"].caption


def test_cells_that_are_new_to_the_twin_judge_nothing():
    plots, left_out, _ = drawn(held_out=False)
    assert list(plots) == ["landscape", "fates"]
    assert left_out == ()


def test_a_twin_without_attractors_says_that_it_has_none():
    judged = judged_of(trained().model)
    plots, left_out = landscape_figures(judged, {}, held_out=True)
    assert plots == []
    assert left_out == ("Quasi-potential landscape: the twin was learned from cells and has no attractors.",)
