"""The study of designs on a small simulated folder, whose truth is known."""

import json
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from places import TOOLS
from studies import design_targets, design_verdicts
from studies.design_rankings import by_doses, of_names
from studies.design_targets import PART, TARGET, proposable, targets_of, write_anonymous

from perturbrl.data.labels import Label
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import DataError
from perturbrl.planning.likely_sets import sets_up_to

NAMES = [f"GENE{i:04d}" for i in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    cells = simulate_screen(6, 60, 120, 60, n_combinations=4, seed=1)
    cells[cells.obs["perturbation"] != "GENE0005"].write_h5ad(path / design_targets.NORMAN)
    (path / "prior").mkdir()
    sets = [[*NAMES[:3], "OTHER"], NAMES[1:], ["X1", "X2", "X3"]]
    lines = [f"set{i}\tsimulated\t" + "\t".join(members) for i, members in enumerate(sets)]
    (path / "prior" / "reactome_pathways.gmt").write_text("\n".join(lines) + "\n")
    return path


def labels(folder):
    return {str(label) for label in design_targets.dataset_of(folder / design_targets.NORMAN).perturbations}


def test_every_kind_of_target_is_told_by_what_stays(folder):
    doubles = {label for label in labels(folder) if "+" in label}
    both, inferred = (set(targets_of(folder, PART[name])) for name in ("norman_both", "norman_inferred"))
    assert both == {label for label in doubles if "GENE0005" not in label}
    assert both.isdisjoint(inferred)
    assert inferred <= doubles
    held = set(targets_of(folder, PART["norman_in_combinations"]))
    assert held == {name for label in doubles for name in label.split("+")} - {"GENE0005"}
    assert set(targets_of(folder, PART["norman_singles"])) == set(NAMES[:5])


def test_a_target_known_by_prior_knowledge_is_one_of_several_that_nobody_measured(folder):
    names = proposable(folder, PART["norman_singles"], Label.parse("GENE0001"))
    assert {"GENE0001", "OTHER"} <= set(names)
    assert "X1" not in names


@pytest.mark.parametrize(("part", "stay"), [("norman_in_combinations", True), ("norman_singles", False)])
def test_the_file_has_no_name_for_the_target_and_nothing_that_tells_of_it(folder, tmp_path, part, stay):
    target = next(iter(targets_of(folder, PART["norman_in_combinations"])))
    write_anonymous(folder, PART[part], target, tmp_path / "cells.h5ad")
    found = anndata.read_h5ad(tmp_path / "cells.h5ad").obs["perturbation"].astype(str)
    assert (found == TARGET).sum() == 60
    assert target not in set(found)
    assert any(target in label.split("+") for label in set(found)) is stay
    assert {"control"} | {label for label in labels(folder) if target not in label.split("+")} <= set(found)


def test_a_design_ranks_its_own_set_first_and_idle_additions_lower():
    sets = sets_up_to(4, 2)
    order = [sets[i] for i in np.argsort(-by_doses(np.array([1.0, 0.0, 0.6, 0.0]), sets), kind="stable")]
    assert order[:2] == [(0, 2), (0,)]
    assert order.index((2,)) < order.index((1, 3))
    nothing = by_doses(np.zeros(4), sets)
    assert len(set(nothing[:4])) == 1
    assert nothing[0] > nothing[-1]


def test_a_perturbation_is_as_good_as_the_best_set_it_is_in():
    sets = sets_up_to(3, 2)
    found = of_names(np.array([1.0, 5.0, -np.inf, 2.0, 3.0, 4.0]), sets, 3)
    assert found.tolist() == [3.0, 5.0, 4.0]


def test_a_folder_without_the_file_is_said(tmp_path):
    with pytest.raises(DataError, match="is not in"):
        targets_of(tmp_path, PART["papalexi"])


def table(**ranks):
    row = {
        f"{method}:{metric}": 0.5 for method in design_verdicts.METHODS for metric in design_verdicts.METRICS
    }
    rows = [
        row | {"part": "p", "target": target, "seed": seed, "p_value": p, "n_sets": 9, "n_names": 3}
        for target, p in (("A", 0.01), ("B", 0.01), ("C", 0.02), ("D", 0.9))
        for seed in range(2)
    ]
    found = pd.DataFrame(rows)
    for column, values in ranks.items():
        found[column.replace("__", ":")] = np.repeat(values, 2)
    return found


def test_targets_that_cannot_be_told_from_control_are_counted_and_not_judged():
    said = design_verdicts.summary(table(likely__ndcg=[1.0, 1.0, 1.0, 0.0]))
    part = said["parts"]["p"]
    assert (part["targets"], part["not_detectable"]) == (3, ["D"])
    assert part["methods"]["likely"]["ndcg"] == [1.0, 1.0, 1.0]
    against = part["methods"]["greedy"]["against"]["likely"]
    assert (against["wins"], against["ties"], against["losses"]) == (3, 0, 0)
    assert against["ndcg_difference"][0] == 0.5
    assert said["clearly_worse_than_a_baseline"] == {"p": []}


def test_a_baseline_that_is_clearly_better_is_named():
    said = design_verdicts.summary(
        table(nearest__ndcg=[0.8, 0.9, 0.85, 0.0], greedy__ndcg=[0.9, 0.1, 0.5, 0.0])
    )
    worse = said["clearly_worse_than_a_baseline"]["p"]
    assert ["likely", "nearest", "ndcg"] in worse
    assert not any("greedy" in one for one in worse)


def test_additive_pairs_are_found_and_said(folder, tmp_path):
    target = targets_of(folder, PART["norman_both"])[0]
    command = [sys.executable, str(TOOLS / "study.py"), "design", f"--data={folder}", "--parts=norman"]
    command += ["--seeds=1", "--jobs=1", f"--targets={target}", f"--out={tmp_path / 'rows.csv'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    said = json.loads(done.stdout.splitlines()[-1])["norman"]["parts"]["norman_both"]
    assert said["targets"] == 1
    for method in ("likely", "exhaustive_kriged"):
        assert said["methods"][method]["recall_5"][0] == 1.0
        assert said["methods"][method]["closure"][0] > 0.9
    assert said["methods"]["no_op"]["closure"][0] < 0.5
    assert said["methods"]["random"]["against"]["likely"]["wins"] == 1


def test_an_unknown_part_is_one_sentence():
    command = [sys.executable, str(TOOLS / "study.py"), "design", "--parts=nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "--parts is 'nowhere'; give some of" in done.stderr
