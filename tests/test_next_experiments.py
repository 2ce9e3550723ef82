"""Next experiments as a call and as a command: what comes out, what is written, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from pair_outcomes import growth, outcomes_of, written
from refused import the_one_sentence

import perturbrl
from perturbrl.cli import run
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import ConfigurationError, PerturbRLError

COLUMNS = ["name", "evidence", "expected", "low", "high", "gain", "needed", "cost", "reason"]


@pytest.fixture(scope="module")
def screen() -> AnnData:
    """Six perturbations and four of their fifteen pairs."""
    return simulate_screen(6, 60, 150, 50, 4, interaction=1.0, seed=3)


@pytest.mark.parametrize("goal", ["responses", "interactions"])
def test_a_batch_is_worth_more_than_a_random_one(screen: AnnData, goal: str) -> None:
    found = perturbrl.next_experiments(screen, 3, goal=goal)
    assert list(found.table.columns) == COLUMNS
    assert len(found.table) == 3
    assert not set(found.table["name"]) & set(screen.obs["perturbation"])
    worth = found.compared.set_index("strategy")["worth"]
    assert worth.iloc[0] >= worth["random"]
    assert worth.iloc[0] == pytest.approx(worth.max(), rel=0.01)
    assert found.candidates["chosen"].sum() == 3
    assert len(found.candidates) == 11
    assert (found.table["high"] >= found.table["low"]).all()
    for text in (repr(found), found._repr_html_()):
        assert all(name in text for name in found.table["name"])
        assert all(strategy in text for strategy in found.compared["strategy"])


def test_the_pair_that_is_the_target_is_among_the_first_and_its_cells_are_not_learned_from(
    screen: AnnData,
) -> None:
    target = next(str(one) for one in sorted(screen.obs["perturbation"].unique()) if "+" in str(one))
    found = perturbrl.next_experiments(screen, 3, goal="target", target=target)
    assert target in set(found.table["name"])
    mixed = screen.copy()
    rows = (mixed.obs["perturbation"] == target).to_numpy()
    mixed.obs["perturbation"] = mixed.obs["perturbation"].astype(str)
    others = mixed[~rows].copy()
    assert target not in set(others.obs["perturbation"])
    assert found.table["expected"].between(0.0, 1.5).all()


def test_cells_are_dealt_with_alike_in_whatever_order(screen: AnnData) -> None:
    turned = screen[np.random.default_rng(0).permutation(screen.n_obs)].copy()
    one, other = (perturbrl.next_experiments(cells, 3, goal="responses") for cells in (screen, turned))
    assert list(one.table["name"]) == list(other.table["name"])
    assert one.table["expected"].to_numpy() == pytest.approx(other.table["expected"].to_numpy(), rel=1e-4)


def test_screens_without_interactions_claim_none() -> None:
    null = simulate_screen(6, 60, 300, 100, 6, interaction=0.0, seed=1)
    found = perturbrl.next_experiments(null, 3, goal="interactions")
    assert found.answer.startswith("No interaction of 9 candidates is expected with any certainty")


def test_prior_knowledge_lets_unmeasured_perturbations_be_chosen(screen: AnnData, tmp_path: Path) -> None:
    sets = tmp_path / "sets.gmt"
    sets.write_text("one\t\tGENE0000\tGENE0001\tNEW1\ntwo\t\tGENE0002\tGENE0003\tNEW2\n")
    found = perturbrl.next_experiments(screen, 2, gene_sets=sets, candidates=["NEW1", "NEW2"])
    assert set(found.table["name"]) == {"NEW1", "NEW2"}
    told = set(found.table["evidence"]) == {"prior"}
    warned = any("explains next to nothing" in note for note in found.notes)
    assert told != warned


def test_what_cannot_be_is_one_sentence(screen: AnnData, tmp_path: Path) -> None:
    costs = tmp_path / "costs.csv"
    costs.write_text("name,cost\n" + "".join(f"GENE000{i},{-1 if i == 2 else 1}\n" for i in range(6)))
    measured = str(next(one for one in screen.obs["perturbation"].unique() if "+" in str(one)))
    for options, said in (
        ({"n": 50}, "n is 50 and there are only 11 candidates; ask for at most 11"),
        ({"n": 0}, "n is 0, and a batch has at least one experiment"),
        ({"costs": costs}, r"1 of 6 costs of 'costs.csv' are missing or not above 0 \(GENE0002 -1\)"),
        ({"candidates": [measured]}, "is measured already, and measuring it again would be a replicate"),
        ({"candidates": []}, r"candidates are \[\], and an empty name is none"),
        ({"candidates": ["GENE0050", "GENE0051"]}, "nothing is known of any of the 2 candidates"),
        ({"goal": "interactions", "candidates": ["GENE0050"]}, "is no combination"),
        ({"goal": "target"}, "goal is 'target' and target is None"),
        ({"target": measured}, "give goal 'target' and the population to reach"),
        ({"goal": "learn"}, "goal is 'learn'; give responses, target or interactions"),
        ({"expected": "spline"}, "expected is 'spline'; give line or parabola"),
    ):
        with pytest.raises(PerturbRLError, match=said):
            perturbrl.next_experiments(screen, **options)
    with pytest.raises(ConfigurationError, match="neither cells nor an outcome"):
        perturbrl.next_experiments(None)


def test_outcomes_need_no_cells_and_cells_are_prior_knowledge(tmp_path: Path) -> None:
    panel, values = growth(12)
    paths = written(tmp_path, outcomes_of(panel, values, 40))
    found = perturbrl.next_experiments(None, 3, outcome=paths)
    assert len(found.table) == 3
    assert set(found.table["evidence"]) == {"combined"}
    cells = simulate_screen(5, 40, 60, 30, 0, seed=0)
    cells.obs["perturbation"] = [
        one if one == "control" else f"G{one[-2:]}" for one in cells.obs["perturbation"].astype(str)
    ]
    both = perturbrl.next_experiments(cells, 3, outcome=paths)
    assert not np.array_equal(both.candidates["expected"], found.candidates["expected"])


def test_the_command_writes_tables_and_a_page(
    screen: AnnData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.write_h5ad(tmp_path / "screen.h5ad")
    folder = tmp_path / "plan"
    run(["plan", str(tmp_path / "screen.h5ad"), "--n", "2", "--goal", "interactions", "--out", str(folder)])
    said = capsys.readouterr().out
    table = pd.read_csv(folder / "next_experiments.csv")
    assert list(table.columns) == COLUMNS
    assert all(name in said for name in table["name"])
    page = (folder / "report.html").read_text()
    assert "Beside other ways to choose" in page
    names = {path.name for path in folder.iterdir()}
    assert {"compared.csv", "candidates.csv", "next_experiments.png", "strategies.png"} <= names
    said = json.loads((folder / "metrics.json").read_text())
    assert [row["name"] for row in said["experiments"]] == table["name"].tolist()


def test_the_command_takes_outcomes_alone_and_refuses_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    panel, values = growth(12)
    singles, pairs = written(tmp_path, outcomes_of(panel, values, 40))
    listed, folder = f"[{singles}, {pairs}]", tmp_path / "plan"
    run(["plan", "--outcome", listed, "--n", "2", "--out", str(folder)])
    assert len(pd.read_csv(folder / "next_experiments.csv")) == 2
    capsys.readouterr()
    again = the_one_sentence(monkeypatch, capsys, "plan", "--outcome", listed, "--out", str(folder))
    assert "is there already and is not overwritten" in again
    none = the_one_sentence(monkeypatch, capsys, "plan", "--out", str(tmp_path / "other"))
    assert "neither cells nor an outcome" in none
    wrong = the_one_sentence(monkeypatch, capsys, "plan", "--goals", "target")
    assert "there is no option --goals; did you mean --goal?" in wrong
