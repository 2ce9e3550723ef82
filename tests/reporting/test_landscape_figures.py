"""A landscape learned from cells is drawn with its basins, the way over it, and what cells do when left alone."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from judged_run import trained
from landscape_run import SOURCE, trained_on_landscape

from perturbrl.evaluation.simulation import simulate
from perturbrl.planning.planners import NoOpDesign
from perturbrl.reporting.callback import judged_of, unseen_cells
from perturbrl.reporting.judging_twins import judging_problems
from perturbrl.reporting.landscape_figures import landscape_view
from perturbrl.reporting.report_tables import OTHER_HALF
from perturbrl.reporting.report_text import number, percent


@cache
def drawn(*, held_out: bool = True):
    module = trained_on_landscape()
    judged = judged_of(module)
    start = unseen_cells(module).start
    simulations = {"policy": simulate(judged.problem, judged.policy, start)}
    view = landscape_view(judged, simulations, held_out=held_out)
    return {plot.name: plot for plot in view.plots}, view, simulations["policy"]


def test_everything_is_drawn_that_measured_cells_allow():
    plots, view, _ = drawn()
    assert list(plots) == ["landscape", "fates", "undosed_order", "undosed_dtw", "undosed_wasserstein"]
    assert [table.key for table in view.tables] == ["fates", "undosed_order", "undosed_components"]
    assert view.left_out == ()


def test_tables_say_what_figures_show():
    plots, view, _ = drawn()
    by_key = {table.key: table for table in view.tables}
    shares = plots["fates"].data.pivot(index="cell_type", columns="design", values="share")
    assert by_key["fates"].columns == ("cell type", "trained policy", "doing nothing")
    for row in by_key["fates"].rows:
        name, policy, nothing = row.texts()
        assert policy.value == percent(shares.loc[name.value, "policy"])
        assert nothing.value == percent(shares.loc[name.value, "no_op"])
        assert nothing.interval.startswith("[")
    order = plots["undosed_order"].data
    assert [row.texts()[2].value for row in by_key["undosed_order"].rows] == list(
        map(number, order["landscape"])
    )
    table = plots["undosed_dtw"].data
    _, *components = by_key["undosed_components"].rows
    assert len(components) == 4
    assert by_key["undosed_components"].columns[1] == "DTW: moved by the landscape"
    assert by_key["undosed_components"].columns[4] == "Wasserstein: moved by the landscape"
    own = table[(table["way"] == "landscape") & (table["component"] == 2)]
    assert components[1].texts()[1].value == number(np.average(own["dtw"], weights=own["cells"]))
    assert components[1].texts()[4].value == number(np.average(own["wasserstein"], weights=own["cells"]))
    assert set(view.numbers) == {"fates", "undosed"}
    assert len(view.numbers["undosed"]["by_component"]) == len(table)


def test_the_landscape_drawn_is_the_one_that_the_way_was_simulated_on():
    module = trained_on_landscape()
    judged = judged_of(module)
    judged = replace(judged, judges=judging_problems(judged.problem, module.data))
    judge = judged.judges[OTHER_HALF]
    simulations = {"policy": simulate(judge, judged.policy, unseen_cells(module).start)}
    plot = landscape_view(judged, simulations, held_out=False).plots[0]
    assert "learned from the half of the cells that judges" in plot.caption
    basins = plot.data[plot.data["kind"] == "attractor"]
    assert set(basins["name"]) == set(judge.twin.attractors())
    other = drawn()[0]["landscape"].data
    assert not np.allclose(basins[["x", "y"]].mean(), other[other["kind"] == "attractor"][["x", "y"]].mean())


def test_cells_of_another_file_are_drawn_on_what_the_checkpoint_keeps():
    module = trained_on_landscape()
    judged = judged_of(module)
    judged = replace(judged, measured=replace(judged.measured, split=None))
    simulations = {"policy": simulate(judged.problem, judged.policy, unseen_cells(module).start)}
    view = landscape_view(judged, simulations, held_out=False)
    assert [plot.name for plot in view.plots] == ["landscape", "fates"]
    assert view.left_out == ()
    assert set(view.plots[1].data["cell_type"]) == {"stem", "red", "white"}


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
    plots, view, _ = drawn(held_out=False)
    assert list(plots) == ["landscape", "fates"]
    assert view.left_out == ()


def test_a_twin_without_attractors_says_that_it_has_none():
    judged = judged_of(trained().model)
    view = landscape_view(judged, {}, held_out=True)
    assert view.plots == ()
    assert view.left_out == (
        "Quasi-potential landscape: the twin was learned from cells and has no attractors.",
    )
