from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from judged_designs import NOTHING, PAIR, Fixed, evaluate
from report_page import good_design

from perturbrl.evaluation.hits import Hit
from perturbrl.evaluation.registry import METRICS
from perturbrl.evaluation.statistics import Interval
from perturbrl.pl.names import plain_name
from perturbrl.reporting.report_tables import (
    DESIGN_COLUMNS,
    RESPONSE_COLUMNS,
    CellText,
    TableRow,
    design_table,
    hit_table,
    interval_cell,
    response_text_table,
)


@pytest.fixture(scope="module")
def good():
    return good_design()


def test_tables_are_sorted_and_mark_what_cannot_be_told_apart(good):
    table = design_table(good)
    assert {len(row.cells) for row in table.rows} == {len(table.columns)}
    by_words = {plain_name(row.name): row for row in good.rows}
    distances = [by_words[row.cells[0]].observed_distance for row in table.rows]
    assert distances == sorted(distances)
    marked = {by_words[row.cells[0]].name for row in table.rows if row.marked}
    assert marked == {good.winner.name, *good.ties}


def test_the_table_of_hits_shows_what_is_dosed():
    hits = [Hit(f"G{i}", Interval(1.0, 0.9, 1.1), "up", 1.0) for i in range(30)]
    hits += [Hit(f"N{i}", Interval(0.0, 0.0, 0.0), "none", 0.0) for i in range(10)]
    table = hit_table(hits)
    assert len(table.rows) == 25
    assert "other 15" in table.note
    assert len(hit_table(hits[28:]).rows) == 2
    assert "evidence" not in table.columns
    told = hit_table([replace(hits[0], evidence="prior")])
    assert (told.columns[-1], told.rows[0].cells[-1]) == ("evidence", "prior")


def test_a_baseline_that_wins_is_marked_and_named():
    evaluation = evaluate(
        [Fixed("policy", [0.5, 0.5, 0, 0, 0]), Fixed("nnls", PAIR), Fixed("no_op", NOTHING)]
    )
    table = design_table(evaluation)
    assert [row.cells[0] for row in table.rows if row.marked] == ["non-negative least squares"]
    assert "Nearest: non-negative least squares." in table.note


def test_every_column_of_the_designs_is_explained_and_stillness_has_its_name(good):
    table = design_table(good)
    assert tuple(table.meaning) == table.columns[1:]
    column = table.columns.index("displacement from start")
    still = next(row for row in table.rows if row.cells[0] == "doing nothing")
    assert still.cells[column] == "1"
    assert "START" in table.meaning["displacement from start"]


def response():
    predictors = ["policy", "twin", "no_op", "additive", "split_half_replicate"]
    frame = pd.DataFrame({"predictor": predictors, "pearson_delta": [0.99, 0.8, 0.0, 0.9, 0.95]})
    frame["pearson_delta_low"], frame["pearson_delta_high"] = (
        frame["pearson_delta"] - 0.1,
        frame["pearson_delta"] + 0.05,
    )
    return frame.assign(
        l2=[0.1, 0.5, 2.0, 0.7, 0.2],
        l2_low=0.0,
        l2_high=3.0,
        discrimination=np.nan,
        de_recall=[1, 0.5, 0, 0.5, 1.0],
    )


def test_the_best_of_each_column_is_marked_among_those_that_never_saw_the_target():
    table = response_text_table(response(), "A+B", ("policy", "split_half_replicate"))
    assert table.columns == ("predictor", "Pearson Δ", "L2", "DE recall")
    best = {row.cells[0]: row.best for row in table.rows}
    assert best == {
        "cells dosed by the policy †": frozenset(),
        "twin, target as named": {2, 3},
        "doing nothing": frozenset(),
        "additive effects": {1, 3},
        "split-half replicate †": frozenset(),
    }
    assert tuple(table.meaning) == table.columns[1:]
    assert table.rows[1].cells[1] == CellText("0.8", "[0.7, 0.85]")


def test_a_column_in_which_all_are_equal_has_no_best():
    table = response_text_table(response().assign(de_recall=0.0), "A+B", ("policy",))
    assert not any(3 in row.best for row in table.rows)


def test_every_metric_is_explained():
    for columns in (RESPONSE_COLUMNS, DESIGN_COLUMNS):
        assert all(METRICS[name].meaning.endswith(".") for name in columns)


def test_cells_of_a_row_have_one_form():
    row = TableRow(("a", interval_cell(Interval(1.0, 0.5, 2.0))))
    assert row.texts() == (CellText("a"), CellText("1", "[0.5, 2]"))
