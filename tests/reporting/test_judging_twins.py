"""A design on a landscape is judged on members kept back, and on a landscape of the other half of the cells."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from judged_run import trained
from landscape_run import TARGET, landscape_data, landscape_module, ordered_atlas, trained_on_landscape
from smoke_run import quiet_trainer

from perturbrl.errors import ConfigurationError, DataError
from perturbrl.reporting.callback import ReportCallback, judged_of, unseen_cells
from perturbrl.reporting.judge import judge
from perturbrl.reporting.judging_twins import judging_problems
from perturbrl.twins.landscape import LandscapeTwin


def test_episodes_and_judges_live_in_different_members():
    twin = trained_on_landscape().twin
    lived_in = set(twin.draw_members(50).tolist())
    assert lived_in == {0, 1}
    assert set(twin.in_judging_members().draw_members(50).tolist()) == {2}
    assert set(twin.draw_members(50).tolist()) == lived_in
    with pytest.raises(ConfigurationError, match="keeps no member to judge by"):
        trained().model.twin.in_judging_members()
    with pytest.raises(ConfigurationError, match="judging_members is 3; give fewer"):
        LandscapeTwin(n_members=3, judging_members=3)


def test_the_other_half_has_a_landscape_of_its_own():
    module = trained_on_landscape()
    problem = judged_of(module).problem
    before = {name: value.clone() for name, value in module.twin.state_dict().items()}
    kept_back, other = judging_problems(problem, module.data).values()
    assert kept_back.twin.drift is problem.twin.drift
    assert other.space.names == problem.space.names
    assert not torch.equal(other.twin.pushes, problem.twin.pushes)
    for name, value in module.twin.state_dict().items():
        assert torch.equal(value, before[name]), name
    data = module.data
    learned, judging = set(data.split.train), set(data.split.test)
    assert not learned & judging
    assert len(data.judging_cells().latent) == len(judging)


def test_a_screen_is_judged_on_its_own_twin():
    module = trained().model
    assert judging_problems(judged_of(module).problem, module.data) == {}


def test_the_report_says_what_arrives_where():
    module = trained_on_landscape()
    judged = judged_of(module)
    judged = replace(judged, judges=judging_problems(judged.problem, module.data))
    report = judge(judged, unseen_cells(module)).report
    designs = {row.name for row in report.evaluation.rows}
    assert {"policy", "no_op", "random", "greedy", "pairs", "cem", "differential_expression"} <= designs
    table = next(table for table in report.tables() if table.key == "arrived")
    assert table.columns == ("design", "made on", "members kept back", "learned from the other half")
    assert len(table.rows) == len(designs)
    row = report.evaluation.row("policy")
    assert report.evaluation.arrived["policy"]["learned from the other half"] == row.success
    assert f"cells of {TARGET}, which define the goal" in report.data["learned from"]
    assert "a twin learned from their half" in report.data["judged by"]
    assert np.isfinite(row.observed_distance)
    real, undosed = (int(share) for share in re.findall(r"(\d+) %", report.data["arrived"]))
    assert real > 80 > 20 > undosed


def test_what_the_other_half_cannot_learn_is_said_before_training():
    adata = ordered_atlas()
    data = landscape_data(root="cell_type=stem", pseudotime_key=None)
    data.adata = adata
    module, trainer = landscape_module(), quiet_trainer(1)
    data.setup("fit")
    only = data.split.train[data.dataset.cell_types[data.split.train] == "stem"][0]
    kinds = adata.obs["cell_type"].to_numpy(dtype=object)
    kinds[(kinds == "stem") & (np.arange(len(kinds)) != only)] = "early"
    adata.obs["cell_type"] = kinds
    data = landscape_data(root="cell_type=stem", pseudotime_key=None)
    data.adata = adata
    trainer.callbacks.append(ReportCallback())
    with pytest.raises(
        DataError, match=r"no twin to judge by can be learned .* no training cell is of the root"
    ):
        trainer.fit(module, data)
    assert trainer.global_step == 0


def test_a_gene_that_is_silent_in_the_other_half_does_nothing_there_and_that_is_said():
    adata, quiet = ordered_atlas(), "Gene19"
    data = landscape_data()
    data.adata = adata
    data.setup("fit")
    adata.X[data.split.test, adata.var_names.get_loc(quiet)] = 0.0
    data = landscape_data(allowed_perturbations=["Gene0", quiet])
    data.adata = adata
    module = landscape_module()
    quiet_trainer(1).fit(module, data)
    assert module.twin.evidence == ("association", "association")
    judged = judged_of(module)
    judges = judging_problems(judged.problem, data)
    assert judges["learned from the other half"].twin.evidence == ("association", "none")
    report = judge(replace(judged, judges=judges), unseen_cells(module)).report
    assert report.data["without effect"].startswith("Gene19: their genes do not vary")


def test_a_policy_chooses_among_a_few_and_the_checkpoint_knows_which(tmp_path):
    module = landscape_module()
    module.n_candidates = 3
    trainer = quiet_trainer(1)
    trainer.fit(module, landscape_data())
    assert module.space.n_perturbations == 3
    path = tmp_path / "few.ckpt"
    trainer.save_checkpoint(path)
    again = landscape_module()
    quiet_trainer(1).test(again, landscape_data(), ckpt_path=path, verbose=False)
    assert again.space.names == module.space.names
    assert judging_problems(judged_of(again).problem, again.data)[
        "learned from the other half"
    ].space.names == (module.space.names)
