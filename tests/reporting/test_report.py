"""The report as it is written; ``test_report_browser`` opens it."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from judged_designs import NOTHING, PAIR, Fixed, evaluate
from report_page import good_design, report_on

from perturbrl.data.labels import Label
from perturbrl.errors import ConfigurationError
from perturbrl.pl.names import plain_name


@pytest.fixture(scope="module")
def good():
    return good_design()


def test_everything_is_written(good, tmp_path):
    path = report_on(good).write(tmp_path / "report")
    written = {file.name for file in path.parent.iterdir()}
    assert written >= {
        "report.html",
        "metrics.json",
        "per_perturbation.csv",
        "hits.csv",
        "guides.csv",
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
            self.open, self.sources, self.anchors = [], [], set()

        def handle_starttag(self, tag, attributes):
            self.sources += [value for name, value in attributes if name in ("src", "href")]
            self.anchors |= {value for name, value in attributes if name == "id"}
            if tag not in ("meta", "link", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    anchors = {source[1:] for source in parser.sources if source.startswith("#")}
    assert anchors <= parser.anchors
    others = [source for source in parser.sources if not source.startswith("#")]
    assert all(source.startswith(("data:", "https://arxiv.org/")) for source in others)
    assert sum(source.startswith("data:image/png") for source in others) == 2
    assert "&lt;toy&gt;" in html
    assert '<p class="certified">On the digital twin no search found a better design' in html
    assert all(plain_name(row.name) in html for row in good.rows)


def test_a_report_is_never_overwritten(good, tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is there already and is not overwritten"):
        report_on(good).write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["keep.txt"]


def test_what_is_missing_is_said_and_the_response_is_written(good, tmp_path):
    response = pd.DataFrame({"predictor": ["no_op"], "l2": [1.5], "l2_low": [1.0], "l2_high": [2.0]})
    path = report_on(good, response=response, left_out=("Landscape: there is none.",)).write(
        tmp_path / "report"
    )
    html = path.read_text()
    assert "What is not shown, and why" in html
    assert "Landscape: there is none." in html
    assert pd.read_csv(path.parent / "response.csv")["l2"].item() == 1.5
    assert json.loads((path.parent / "metrics.json").read_text())["response"][0]["predictor"] == "no_op"


def test_sections_without_content_are_not_on_the_page(good, tmp_path):
    html = report_on(good).write(tmp_path / "report").read_text()
    assert "How the policy learned" not in html
    assert "Designs compared" in html


def test_results_are_tables(good):
    report = report_on(good)
    assert list(report.to_frame()["perturbation"][:2].sort_values()) == ["G0", "G1"]
    designs = report.to_frame("designs").set_index("name")
    assert designs.loc["no_op", "n_perturbations"] == 0
    assert designs.loc["policy", "distance_low"] <= designs.loc["policy", "distance"]
    assert list(report.to_frame("guides").columns)[:2] == ["rank", "gene"]
    with pytest.raises(
        ConfigurationError, match="no table of 'genes'; choose one of perturbations, guides, designs"
    ):
        report.to_frame("genes")


def test_a_report_without_judged_designs_has_no_table_of_them(good):
    report = replace(report_on(good), evaluation=None)
    assert "designs" not in report.to_uns()
    with pytest.raises(ConfigurationError, match=r"choose one of perturbations, guides$"):
        report.to_frame("designs")


@pytest.mark.parametrize("warnings", [(), ("careful",)])
def test_results_are_written_and_read_with_the_cells(good, tmp_path, warnings):
    report = replace(report_on(good), warnings=warnings, question={"a/b": Label.parse("G0+G1")})
    cells = AnnData(np.ones((2, 2), dtype=np.float32))
    cells.uns["perturbrl"] = report.to_uns()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    found = read_h5ad(tmp_path / "cells.h5ad").uns["perturbrl"]
    assert found["answer"] == report.answer
    assert list(found["warnings"]) == list(warnings)
    assert found["question"] == {"a b": "G0+G1"}
    pd.testing.assert_frame_equal(
        found["perturbations"].reset_index(drop=True),
        report.to_frame(),
        check_dtype=False,
        check_categorical=False,
    )
    assert list(found["designs"]["name"]) == [row.name for row in good.rows]


def test_a_notebook_shows_answer_and_tables_escaped(good):
    html = replace(report_on(good), answer="a < b")._repr_html_()
    assert "<b>a &lt; b</b>" in html
    assert html.count("<table>") == 2
    assert "Ranked perturbations" in html
