"""The study of pairs: what it counts, from pairs measured up to then alone, and its one JSON line."""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pair_outcomes import growth, outcomes_of, written
from studies import next_experiments
from studies.next_experiments import one_search, strongest, summary

from perturbrl.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty genes, of whose 190 pairs 20 are sought."""
    panel, values = growth(20, 0.1)
    singles, pairs = written(tmp_path, outcomes_of(panel, values, len(values)))
    (tmp_path / "prior").mkdir()
    (tmp_path / "sets.gmt").write_text("one\t\tG00\tG01\tG02\n")
    for name, value in (
        ("SINGLES", singles.name),
        ("PAIRS", pairs.name),
        ("GENE_SETS", ("sets.gmt",)),
        ("N_STRONGEST", 20),
        ("N_FIRST", 20),
        ("BATCH", 10),
        ("FOUND", (10, 15)),
        ("_AIMS", ("10", "15", "fit")),
    ):
        monkeypatch.setattr(next_experiments, name, value)
    next_experiments._panel.cache_clear()
    return tmp_path


def test_our_search_needs_fewer_pairs_than_random_choice(folder: Path) -> None:
    rows = {
        name: one_search(folder, {"expected": "parabola", "strategy": name, "seed": 0})
        for name in ("strong interactions", "random")
    }
    ours, random = rows["strong interactions"], rows["random"]
    assert ours["pairs"] == random["pairs"] == 190
    assert 20 <= ours["pairs_10"] <= ours["pairs_15"] <= random["pairs_15"]
    assert ours["pairs_10"] < random["pairs_10"]


def test_what_is_sought_are_the_largest_in_either_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_experiments, "N_STRONGEST", 2)
    assert strongest(np.array([0.1, -3.0, 2.0, -0.5])).tolist() == [False, True, True, False]


def test_the_summary_compares_means_over_seeds() -> None:
    table = pd.DataFrame(
        [
            (curve, strategy, seed, ours, 2 * ours, 3 * ours)
            for curve in ("parabola", "line")
            for strategy, ours in (("strong interactions", 100), ("learn", 50), ("random", 300))
            for seed in range(2)
        ],
        columns=["expected", "strategy", "seed", "pairs_50", "pairs_90", "pairs_fit"],
    )
    found = summary(table)
    assert (found["ratio_to_random_50"], found["ratio_to_random_90"]) == (3.0, 3.0)
    assert found["ratio_to_random_fit"] == 6.0
    assert found["seeds"] == 2
    assert found["line"]["ratio_to_random_90"] == 3.0


def test_absent_files_are_named_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no norman2019_gi_single_fitness.csv and no norman2019_gi_pair_fitness"
    ):
        one_search(tmp_path, {"expected": "line", "strategy": "random", "seed": 0})


def test_the_study_ends_with_one_json_object(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = argparse.ArgumentParser()
    next_experiments.add_arguments(parser)
    given = parser.parse_args(["--data", str(folder), "--seeds", "1", "--out", str(tmp_path / "rows.csv")])
    rows = pd.DataFrame(
        [("parabola", name, 0, 10, 20, 30) for name in given.strategies],
        columns=["expected", "strategy", "seed", "pairs_50", "pairs_90", "pairs_fit"],
    ).set_axis(["expected", "strategy", "seed", "pairs_10", "pairs_15", "pairs_fit"], axis=1)
    asked: list[object] = []
    monkeypatch.setattr(next_experiments, "run_all", lambda work, runs, out, jobs: asked.extend(runs) or rows)
    monkeypatch.setattr(next_experiments, "summary", lambda table: {"ratio_to_random_50": 1.0})
    next_experiments.run(given)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found) == {"ratio_to_random_50", "seconds"}
    assert len(asked) == 5
