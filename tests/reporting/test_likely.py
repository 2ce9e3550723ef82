"""What most probably made the target's cells, in a report."""

from dataclasses import replace

import pandas as pd
import pytest
from judged_run import PAIR, trained
from report_page import good_design, report_on

from perturbrl.evaluation.design import evaluate_designs
from perturbrl.planning.most_likely import MostLikelyDesign
from perturbrl.planning.planners import NoOpDesign
from perturbrl.reporting.callback import judged_of, unseen_cells
from perturbrl.reporting.likely import likely_frame, likely_table
from perturbrl.reporting.likely_run import likely_sets


@pytest.fixture(scope="module")
def frame():
    module = trained().model
    return likely_frame(likely_sets(module), judged_of(module).problem)


def test_the_pair_that_was_done_is_the_most_probable(frame):
    assert frame["perturbations"][0] == PAIR.replace("+", " + ")
    assert "nothing" in set(frame["perturbations"])
    assert list(frame["rank"]) == list(range(1, len(frame) + 1))
    assert frame["probability"].sum() == pytest.approx(1.0)


def test_as_a_design_it_is_judged_beside_the_others():
    module = trained().model
    planners = (MostLikelyDesign(likely_sets(module)), NoOpDesign())
    found = evaluate_designs(judged_of(module).problem, planners, unseen_cells(module), PAIR)
    assert found.row("most_likely").recall == 1.0
    assert found.row("most_likely").observed_distance < found.row("no_op").observed_distance


def test_a_table_shows_the_first_ten(frame):
    table = likely_table(frame)
    assert len(table.rows) == 10
    assert table.rows[0].cells[1] == PAIR.replace("+", " + ")
    assert table.rows[0].cells[2].endswith("%")


@pytest.mark.parametrize("change", [{"source": "GENE0002"}, {"learn_target": True}])
def test_it_is_told_of_control_cells_and_targets_held_out_alone(monkeypatch, change):
    module = trained().model
    for name, value in change.items():
        monkeypatch.setattr(module.data, name, value)
    assert likely_sets(module) is None


def test_where_it_is_not_told_there_is_no_table(tmp_path):
    assert likely_frame(None, judged_of(trained().model).problem) is None
    report = report_on(good_design())
    assert "likely" not in report.to_uns()
    report.write(tmp_path / "report")
    assert not (tmp_path / "report" / "likely.csv").exists()


def test_it_is_in_page_and_files(frame, tmp_path):
    report = replace(report_on(good_design()), likely=frame)
    assert "Most probable perturbations" in report.write(tmp_path / "report").read_text()
    assert "Most probable perturbations" in report._repr_html_()
    written = pd.read_csv(tmp_path / "report" / "likely.csv", keep_default_na=False)
    assert list(written["perturbations"]) == list(report.to_frame("likely")["perturbations"])
