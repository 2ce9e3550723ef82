import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
import torch
from test_design import NOTHING, PAIR, Fixed, evaluate, problem_of

from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.design import Hit
from perturbrl.evaluation.planners import default_planners
from perturbrl.evaluation.plots import plot_designs, plot_hits
from perturbrl.evaluation.report import (
    Report,
    answer_sentence,
    caution,
    design_table,
    designs_frame,
    hit_table,
    hits_frame,
    number,
    percent,
)
from perturbrl.evaluation.statistics import Interval


def report_on(evaluation, title="Design: control to G0+G1"):
    return Report(
        title=title,
        answer=answer_sentence(evaluation, evaluation.hits),
        warnings=caution(evaluation),
        question={"cells": "<toy>", "seed": "0"},
        evaluation=evaluation,
        hits=evaluation.hits,
        per_perturbation=pd.DataFrame({"perturbation": ["G0"]}),
        plots=[
            plot_designs(designs_frame(evaluation), "latent units"),
            plot_hits(hits_frame(evaluation.hits)),
        ],
    )


@pytest.fixture(scope="module")
def good():
    return evaluate([Fixed("policy", PAIR), *default_planners()])


def test_everything_is_written(good, tmp_path):
    path = report_on(good).write(tmp_path / "report")
    written = {file.name for file in path.parent.iterdir()}
    assert written >= {
        "report.html",
        "metrics.json",
        "per_perturbation.csv",
        "hits.csv",
        "designs.png",
        "hits.svg",
    }
    metrics = json.loads((path.parent / "metrics.json").read_text())
    assert metrics["designs"]["no_op"]["displacement_from_start"] == 1.0
    assert metrics["answer"] == report_on(good).answer
    hits = pd.read_csv(path.parent / "hits.csv")
    assert list(hits["rank"]) == [1, 2, 3, 4, 5]
    assert set(hits["perturbation"][:2]) == {"G0", "G1"}


def test_numbers_that_are_not_finite_are_null(tmp_path):
    evaluation = evaluate([Fixed("policy", PAIR), Fixed("no_op", NOTHING)], label="somewhere else")
    path = report_on(evaluation).write(tmp_path / "report")
    text = (path.parent / "metrics.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["designs"]["policy"]["recall"] is None


def test_the_page_is_whole_offline_and_escaped(good, tmp_path):
    html = report_on(good).write(tmp_path / "report").read_text()

    class Balanced(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.sources = [], []

        def handle_starttag(self, tag, attributes):
            self.sources += [value for name, value in attributes if name in ("src", "href")]
            if tag not in ("meta", "link", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert parser.sources
    assert all(source.startswith("data:") for source in parser.sources)
    assert "&lt;toy&gt;" in html
    assert all(row.name in html for row in good.rows)


def test_a_report_is_never_overwritten(good, tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is there already and is not overwritten"):
        report_on(good).write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["keep.txt"]


def test_a_good_policy_and_its_equals_are_named_together(good):
    answer = answer_sentence(good, good.hits)
    assert re.match(
        r"G[01] up and G[01] up bring \d+ % of cells into G0\+G1 \(doing nothing: \d+ %\); ", answer
    )
    assert re.search(r"nnls.* cannot be told apart from it", answer)
    assert caution(good) == ()


def test_a_policy_that_wins_alone():
    evaluation = evaluate([Fixed("policy", PAIR), Fixed("no_op", NOTHING)])
    assert answer_sentence(evaluation, evaluation.hits).endswith(
        "; no other design ends as near to the target."
    )


def test_a_baseline_that_wins_is_named_with_its_distance():
    evaluation = evaluate(
        [Fixed("policy", [0.5, 0.5, 0, 0, 0]), Fixed("nnls", PAIR), Fixed("no_op", NOTHING)]
    )
    answer = answer_sentence(evaluation, evaluation.hits)
    assert re.search(r"; nnls ends nearer to the target \([\d.]+ against [\d.]+\)\.$", answer)
    marked = [row.cells[0] for row in design_table(evaluation).rows if row.marked]
    assert marked == ["nnls"]


def test_a_policy_no_better_than_nothing_is_told_so():
    evaluation = evaluate([Fixed("policy", [0, 0, 0.06, 0, 0]), Fixed("no_op", NOTHING)])
    nearest = replace(
        evaluation, simulations=dict.fromkeys(("policy", "no_op"), evaluation.simulations["no_op"])
    )
    assert "no design ends nearer to the target than doing nothing" in answer_sentence(nearest, nearest.hits)


def test_a_policy_that_does_nothing_is_not_praised():
    evaluation = evaluate([Fixed("policy", NOTHING), Fixed("nnls", PAIR), Fixed("no_op", NOTHING)])
    answer = answer_sentence(evaluation, evaluation.hits)
    assert answer.startswith("The policy doses nothing in most cells and brings ")
    assert "nnls ends nearer" in answer


def test_where_nothing_is_detectable_doing_nothing_is_recommended():
    nowhere = torch.full((4,), 1e-3)
    evaluation = evaluate([Fixed("policy", PAIR), *default_planners()], shift=nowhere)
    answer = answer_sentence(evaluation, evaluation.hits)
    assert answer.startswith("No effect is detectable, so doing nothing is the right design")
    assert "G0 up" not in answer


def test_more_than_three_hits_are_counted():
    evaluation = evaluate([Fixed("policy", [1.0, 0.9, 0.8, 0.7, 0.6]), *default_planners()])
    assert "G0 up, G1 up, G2 up and 2 more bring" in answer_sentence(evaluation, evaluation.hits)


def test_a_target_out_of_reach_is_a_warning():
    problem = problem_of(shift=torch.full((4,), 40.0))
    evaluation = evaluate([Fixed("policy", PAIR), *default_planners()], problem, torch.full((4,), 40.0))
    assert "leaves" in caution(evaluation)[0]


def test_too_few_cells_to_test_are_a_warning(good):
    assert "Fewer than 4 cells" in caution(replace(good, detectability=None))[0]


def test_tables_are_sorted_and_mark_what_cannot_be_told_apart(good):
    table = design_table(good)
    assert {len(row.cells) for row in table.rows} == {len(table.columns)}
    names = [row.cells[0] for row in table.rows]
    distances = [good.row(name).observed_distance for name in names]
    assert distances == sorted(distances)
    assert {row.cells[0] for row in table.rows if row.marked} == {good.winner.name, *good.ties}


def test_the_table_of_hits_shows_what_is_dosed():
    hits = [Hit(f"G{i}", Interval(1.0, 0.9, 1.1), "up", 1.0) for i in range(30)]
    hits += [Hit(f"N{i}", Interval(0.0, 0.0, 0.0), "none", 0.0) for i in range(10)]
    table = hit_table(hits)
    assert len(table.rows) == 25
    assert "other 15" in table.note
    assert len(hit_table(hits[28:]).rows) == 2


def test_numbers_as_a_person_reads_them():
    assert [number(v) for v in (0.0, 1e-9, -1e-9, 0.12345, float("nan"))] == ["0", "≈ 0", "≈ 0", "0.123", "–"]
    assert [percent(v) for v in (0.123, float("nan"))] == ["12 %", "–"]
