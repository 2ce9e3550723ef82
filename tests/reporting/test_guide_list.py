"""What a laboratory would order for a design."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from judged_run import trained

from perturbrl.evaluation.hits import rank_hits
from perturbrl.evaluation.simulation import simulate
from perturbrl.planning.design_problem import OpenLoop
from perturbrl.reporting.callback import judged_of
from perturbrl.reporting.directions import in_words
from perturbrl.reporting.guide_list import GUIDE_COLUMNS, guide_list
from perturbrl.schema import GUIDE_OBS, PERTURBATION_OBS, PERTURBATION_TYPE_OBS


class Given(OpenLoop):
    name = "policy"

    def __init__(self, **doses):
        self.doses = doses

    def schedule_for(self, problem):
        schedule = problem.no_dose()
        for name, dose in self.doses.items():
            schedule[0, problem.space.names.index(name)] = dose
        return schedule


def listed(kind=None, guides=False, **doses):
    judged = judged_of(trained().model)
    dataset = judged.measured.dataset
    obs = dataset.adata.obs.copy()
    if kind is not None:
        obs[PERTURBATION_TYPE_OBS] = np.where(obs[PERTURBATION_OBS] == "control", "control", kind)
    if guides:
        obs[GUIDE_OBS] = [f"{label}g{i % 2}" for i, label in enumerate(obs[PERTURBATION_OBS])]
    adata = dataset.adata.copy()
    adata.obs = obs
    judged = replace(judged, measured=replace(judged.measured, dataset=replace(dataset, adata=adata)))
    planner = Given(**doses)
    planner.plan(judged.problem)
    simulation = simulate(judged.problem, planner, judged.problem.twin.start_cells[:20])
    hits = in_words(judged.measured, judged.problem.twin, rank_hits(judged.problem, simulation))
    return guide_list(judged, hits, simulation)


def test_only_what_is_dosed_is_listed_strongest_first():
    found = listed(GENE0001=0.5, GENE0000=1.0)
    assert list(found.columns) == list(GUIDE_COLUMNS)
    assert list(found["gene"]) == ["GENE0000", "GENE0001"]
    assert list(found["rank"]) == [1, 2]
    np.testing.assert_allclose(found["dose"], [1.0, 0.5], rtol=1e-6)
    assert list(found["share_of_cells"]) == [1.0, 1.0]


def test_a_design_that_does_nothing_orders_nothing():
    assert listed().empty
    assert list(listed().columns) == list(GUIDE_COLUMNS)


def test_the_dose_is_that_of_the_cells_that_receive_it():
    judged = judged_of(trained().model)

    class Half(Given):
        def action(self, observed, step):
            dosed = torch.arange(observed.batch_size[0])[:, None] % 2
            return super().action(observed, step) * dosed

    planner = Half(GENE0000=0.8)
    planner.plan(judged.problem)
    simulation = simulate(judged.problem, planner, judged.problem.twin.start_cells[:20])
    found = guide_list(judged, rank_hits(judged.problem, simulation), simulation)
    assert found["dose"][0] == pytest.approx(0.8)
    assert found["share_of_cells"][0] == 0.5


def test_the_expected_effect_is_the_share_of_the_way_that_it_covers_alone():
    problem = judged_of(trained().model).problem
    found = listed(GENE0000=1.0, GENE0005=1.0).set_index("gene")["expected_effect"]
    effects = problem.linear_effects
    for name, share in found.items():
        left = (problem.shift - effects[problem.space.names.index(name)]).norm()
        assert share == pytest.approx(1 - float(left / problem.shift.norm()), abs=1e-4)
    assert found["GENE0000"] > found["GENE0005"]


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("CRISPRa", "activation"),
        ("CRISPRi", "knock-down"),
        ("CRISPRko", "knock-out"),
        ("ORF", "over-expression"),
        ("shRNA", "knock-down"),
        ("cytokine", ""),
        (None, ""),
    ],
)
def test_the_intervention_is_what_the_file_says(kind, word):
    assert list(listed(kind=kind, GENE0000=1.0)["intervention"]) == [word]


def test_the_files_own_guides_are_named():
    assert list(listed(guides=True, GENE0000=1.0)["guides"]) == ["GENE0000g0 GENE0000g1"]
    assert list(listed(GENE0000=1.0)["guides"]) == [""]


def test_it_is_a_table_of_one_row_for_each_order(tmp_path):
    found = listed(kind="CRISPRko", GENE0000=1.0)
    found.to_csv(tmp_path / "guides.csv", index=False)
    assert pd.read_csv(tmp_path / "guides.csv").loc[0, "direction"] == "down"
