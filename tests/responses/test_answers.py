"""Questions answered from a whole data set."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad
from scipy.sparse import csr_matrix

import perturbrl
from perturbrl.data.presets import ColumnOptions
from perturbrl.data.synthetic import TRUE_EFFECTS_VARM, TRUE_LABELS_UNS, simulate_screen
from perturbrl.errors import DataError
from perturbrl.responses.answers import ITSELF


@pytest.fixture(scope="module")
def screen():
    return simulate_screen(8, 80, 300, 80, n_combinations=4, seed=2)


@pytest.fixture(scope="module")
def few():
    """Few cells of few perturbations, where it does not matter what is found."""
    return simulate_screen(3, 40, 60, 20, n_combinations=1, seed=2)


@pytest.fixture(scope="module")
def answers(screen):
    return perturbrl.respond(screen, ["GENE0000", "GENE0007+GENE0001", "GENE0050"], n_cells=60)


def test_one_row_for_each_query_in_their_order(answers):
    assert list(answers.delta.index) == ["GENE0000", "GENE0007+GENE0001", "GENE0050"]
    assert answers.delta.shape == answers.sd.shape == (3, answers.delta.shape[1])
    assert list(answers.evidence) == ["measured", "combined", "prior"]
    assert (
        "prior knowledge says which are like them, though not whether they do the opposite"
        in (answers.sentences["GENE0050"])
    )
    assert sum(answers.weights.values()) == pytest.approx(1.0)


def test_a_combination_is_near_the_sum_of_its_true_effects(screen, answers):
    effects = dict(zip(screen.uns[TRUE_LABELS_UNS], screen.varm[TRUE_EFFECTS_VARM].T, strict=True))
    kept = [screen.var_names.get_loc(gene) for gene in answers.delta.columns]
    truth = (effects["GENE0001"] + effects["GENE0007"])[kept]
    assert np.corrcoef(answers.delta.loc["GENE0007+GENE0001"], truth)[0, 1] > 0.8


def test_what_was_not_measured_is_uncertain_and_not_silently_nothing(answers):
    unknown, measured = answers.sd.loc["GENE0050"], answers.sd.loc["GENE0000"]
    assert unknown.mean() > 2 * measured.mean()
    assert (answers.sd > 0).all(axis=None)


def test_the_size_of_an_effect_and_its_interval(answers):
    effects = answers.effects
    np.testing.assert_allclose(effects["effect"], np.linalg.norm(answers.delta, axis=1))
    assert (effects["low"] < effects["effect"]).all()
    assert effects.loc["GENE0000", "low"] > 0


def test_what_nothing_is_known_of_has_next_to_no_effect_and_a_wide_interval(screen, tmp_path):
    sets = "pathway\tabout\tGENE0000\tGENE0001\tGENE0002\nother\tabout\tELSE1\tELSE2\tELSE3\n"
    (tmp_path / "sets.gmt").write_text(sets)
    found = perturbrl.respond(
        screen, ["GENE0000", "ELSE1", "GENE0000+ELSE1"], gene_sets=tmp_path / "sets.gmt"
    )
    assert list(found.evidence) == ["measured", "none", "none"]
    assert found.unknown == ("ELSE1",)
    known, unknown = found.effects.loc["GENE0000"], found.effects.loc["ELSE1"]
    assert unknown["low"] < 0 < unknown["high"]
    assert unknown["high"] - unknown["low"] > known["high"] - known["low"]
    assert unknown["effect"] < 0.5 * known["effect"]
    assert found.genes("ELSE1", 1) == found.genes("ELSE1", -1) == []
    said = "nothing is known of ELSE1: no more is expected than what all perturbations have in common, with a wide"
    assert said in found.sentences["ELSE1"]
    assert said in found.sentences["GENE0000+ELSE1"]
    assert "it may have no effect at all" in found.sentences["ELSE1"]


def test_what_nothing_is_known_of_is_like_nothing(few):
    """All perturbations shift six genes alike, so each tells a little of what nobody measured."""
    adata = few.copy()
    counts = adata.X.toarray()
    counts[np.ix_(adata.obs["perturbation"] != "control", range(30, 36))] += 8
    adata.X = csr_matrix(counts)
    found = perturbrl.respond(adata, ["GENE0020", "GENE0000+GENE0020"])
    assert list(found.evidence) == ["none", "none"]
    assert found.named("GENE0020")
    assert "it is predicted like" not in found.sentences["GENE0020"]
    assert "it is predicted like GENE0000 ." in found.sentences["GENE0000+GENE0020"]


def test_genes_go_up_and_down_for_sure(answers):
    up, down = answers.genes("GENE0000", 1), answers.genes("GENE0000", -1)
    shift, sd = answers.delta.loc["GENE0000"], answers.sd.loc["GENE0000"]
    assert up
    assert down
    assert (shift[up] > 1.96 * sd[up]).all()
    assert (shift[down] < -1.96 * sd[down]).all()
    assert shift[up].is_monotonic_decreasing
    assert shift[down].is_monotonic_increasing


def test_what_carries_a_prediction_is_named(answers):
    own = answers.similar[answers.similar["query"] == "GENE0000"]
    assert own["measured"].iloc[0] == ITSELF
    assert answers.named("GENE0000").startswith("itself .")
    pair = answers.similar[answers.similar["query"] == "GENE0007+GENE0001"]
    assert any("GENE0001" in name or "GENE0007" in name for name in pair["measured"].head(2))
    assert "it is predicted like" in answers.sentences["GENE0007+GENE0001"]


def test_cells_are_moved_control_cells_with_counts(answers):
    cells = answers.cells
    assert cells.obs["perturbation"].value_counts().to_dict() == {
        "control": 300,
        **dict.fromkeys(("GENE0000", "GENE0001+GENE0007", "GENE0050"), 60),
    }
    asked = cells.obs.groupby("perturbation", observed=True)["query"].unique().explode().to_dict()
    assert asked["GENE0001+GENE0007"] == "GENE0007+GENE0001"
    assert asked["control"] == ""
    assert (cells.X.data % 1 == 0).all()
    logs = np.log1p(1e4 * cells.X.toarray() / cells.obs["size_factor"].to_numpy()[:, None])
    labels = cells.obs["perturbation"].to_numpy()
    seen = logs[labels == "GENE0000"].mean(0) - logs[labels == "control"].mean(0)
    assert np.corrcoef(seen, answers.delta.loc["GENE0000"])[0, 1] > 0.8


def test_controls_are_the_real_ones_of_each_context(few):
    adata = few.copy()
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 3, "T", "B")
    queries = ["GENE0000", "GENE0002+GENE0001@T"]
    cells = perturbrl.respond(adata, queries, cell_type_key="kind", n_cells=7).cells
    controls = adata.obs.loc[adata.obs["perturbation"] == "control", "kind"].value_counts()
    assert cells.obs.groupby(["perturbation", "cell_type"], observed=True).size().to_dict() == {
        ("GENE0000", "B"): 7,
        ("GENE0000", "T"): 7,
        ("GENE0001+GENE0002", "T"): 7,
        ("control", "B"): controls["B"],
        ("control", "T"): controls["T"],
    }
    kept = cells[(cells.obs["perturbation"] == "control") & (cells.obs["cell_type"] == "T")]
    real = adata[(adata.obs["perturbation"] == "control") & (adata.obs["kind"] == "T"), cells.var_names]
    np.testing.assert_array_equal(kept.X.toarray(), real.X.toarray())
    assert cells.obs_names.is_unique


def test_cells_come_with_what_was_found_of_their_spread(answers, tmp_path):
    spread = answers.cells.uns["spread"]
    assert list(spread.index) == list(answers.delta.index)
    assert (spread["escaped_low"] <= spread["escaped"]).all()
    assert (spread["escaped"] <= spread["escaped_high"]).all()
    assert spread["depth"].between(0.8, 1.25).all()
    answers.cells.write_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(read_h5ad(tmp_path / "cells.h5ad").uns["spread"], spread, check_names=False)


def test_two_spellings_of_one_question_get_cells_once(few):
    found = perturbrl.respond(few, ["GENE0002+GENE0001", "GENE0001+GENE0002"], n_cells=4)
    assert list(found.delta.index) == ["GENE0002+GENE0001", "GENE0001+GENE0002"]
    own = found.cells.obs[found.cells.obs["perturbation"] != "control"]
    assert own["query"].tolist() == ["GENE0002+GENE0001"] * 4


def test_perturbed_cells_without_controls_of_their_type_are_said(screen, caplog):
    adata = screen.copy()
    adata.obs["kind"] = "B"
    adata.obs.loc[adata.obs["perturbation"] == "GENE0002", "kind"] = "NK"
    with caplog.at_level("INFO", logger="perturbrl"):
        found = perturbrl.respond(adata, ["GENE0000"], cell_type_key="kind")
    said = "80 perturbed cells of NK are left out: without 'control' cells of the same type"
    assert said in found.notes[0]
    assert said in caplog.text


def test_prior_knowledge_that_the_data_do_not_confirm_is_said_to_be_so(few, answers, tmp_path):
    (tmp_path / "sets.gmt").write_text("pathway\tabout\tGENE0000\tGENE0030\tGENE0031\n")
    found = perturbrl.respond(few, ["GENE0030", "GENE0000"], gene_sets=tmp_path / "sets.gmt")
    assert list(found.evidence) == ["prior", "measured"]
    doubt = "the measured perturbations do not confirm that it helps"
    assert [doubt in sentence for sentence in found.sentences] == [True, False]
    assert doubt not in answers.sentences["GENE0050"]


def test_how_many_names_match_is_said_and_logged(screen, tmp_path, caplog):
    sets = tmp_path / "sets.gmt"
    sets.write_text("pathway\tabout\tGENE0000\tGENE0050\tGENE0051\n")
    with caplog.at_level("INFO", logger="perturbrl"):
        found = perturbrl.respond(screen, ["GENE0050", "GENE0001"], gene_sets=sets)
    said = "sets.gmt knows 1 of the 8 measured perturbations and 1 of the 2 asked for"
    assert found.match_notes == (said,)
    assert said in caplog.text


def test_a_prior_with_other_names_is_an_error(screen, tmp_path):
    sets = tmp_path / "mouse.gmt"
    sets.write_text("pathway\tabout\tGata1\tSpi1\tCebpa\n")
    with pytest.raises(DataError, match=r"'mouse.gmt' knows none of the 8 .* it has Cebpa.*like capitalised"):
        perturbrl.respond(screen, ["GENE0000"], gene_sets=sets)


def test_doses_of_the_file_are_asked_and_said(screen):
    adata = screen[screen.obs["perturbation"].isin(["control", "GENE0000", "GENE0001", "GENE0002"])].copy()
    adata.obs["dose"] = np.where(adata.obs["perturbation"] == "GENE0000", 1.0, 10.0)
    rows = np.flatnonzero((adata.obs["perturbation"] == "GENE0000").to_numpy())
    adata.obs.iloc[rows[:40], adata.obs.columns.get_loc("dose")] = 0.1
    columns = ColumnOptions(dose_key="dose")
    found = perturbrl.respond(adata, ["GENE0000", "GENE0000:5"], columns=columns)
    assert found.evidence.tolist() == ["measured", "combined"]
    assert "GENE0000 without a dose means its largest measured one" in found.sentences["GENE0000"]
    assert "extrapolated: dose 5 of GENE0000" in found.sentences["GENE0000:5"]
    assert found.extrapolated.tolist() == [False, True]


def test_the_same_seed_gives_the_same_cells(few):
    one, other = (perturbrl.respond(few, ["GENE0000"], n_cells=5, seed=3).cells for _ in range(2))
    assert (one.X != other.X).nnz == 0


def test_contexts_are_asked_by_name_or_all(screen):
    adata = screen.copy()
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2, "T", "B")
    found = perturbrl.respond(
        adata, ["GENE0000@kind=T", "GENE0002"], columns=ColumnOptions(cell_type_key="kind")
    )
    assert list(found.delta.index) == ["GENE0000@kind=T", "GENE0002@B", "GENE0002@T"]
    with pytest.raises(DataError, match="'NK' is no context with control cells"):
        perturbrl.respond(adata, ["GENE0000@NK"], columns=ColumnOptions(cell_type_key="kind"))


def test_prior_knowledge_is_read_from_files(screen, tmp_path):
    sets = tmp_path / "sets.gmt"
    sets.write_text("pathway\tabout\tGENE0000\tGENE0050\tGENE0051\n")
    found = perturbrl.respond(screen, ["GENE0050"], gene_sets=sets)
    assert list(found.evidence) == ["prior"]
    assert "sets.gmt" in found.weights


def test_an_unknown_name_is_an_error_with_the_closest(screen):
    with pytest.raises(DataError, match=r"'GENE00O1' .*did you mean GENE000\d"):
        perturbrl.respond(screen, ["GENE00O1"])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("control", "'control' is what shifts are counted from"),
        ("GENE0000:0.5", "do not tell doses of GENE0000 apart; ask for 'GENE0000'"),
        ("GENE0000@T", "no column of contexts was given"),
    ],
)
def test_what_cannot_be_asked_is_an_error(screen, query, said):
    with pytest.raises(DataError, match=said):
        perturbrl.respond(screen, [query])


def test_cells_need_counts(screen):
    logs = screen.copy()
    counts = screen.X.toarray()
    logs.X = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    with pytest.raises(DataError, match="cells are drawn from counts"):
        perturbrl.respond(logs, ["GENE0000"], n_cells=5)


def test_aliases_are_names_in_queries_and_in_prior_knowledge(screen, tmp_path):
    (tmp_path / "aliases.csv").write_text("alias,name\nCD55,GENE0001\nP53,GENE0050\n")
    (tmp_path / "sets.gmt").write_text("pathway\tabout\tGENE0000\tP53\tGENE0051\n")
    queries = ["CD55", "GENE0000+CD55", "P53"]
    files = {"gene_sets": tmp_path / "sets.gmt", "aliases": tmp_path / "aliases.csv"}
    found = perturbrl.respond(screen, queries, **files)
    plain = perturbrl.respond(screen, ["GENE0001", "GENE0000+GENE0001", "GENE0050"], **files)
    assert list(found.delta.index) == queries
    np.testing.assert_array_equal(found.delta, plain.delta)
    assert list(found.evidence) == ["measured", "combined", "prior"]
    assert "CD55 is GENE0001 by the table of aliases" in found.sentences["GENE0000+CD55"]
    with pytest.raises(DataError, match="'CD55' is no perturbation"):
        perturbrl.respond(screen, ["CD55"])


def test_another_screen_is_used_and_what_it_is_worth_is_said(screen, tmp_path):
    names = set(screen.uns[TRUE_LABELS_UNS]) - {"GENE0004"}
    here = screen[screen.obs["perturbation"].isin(["control", *(n for n in names if "GENE0004" not in n)])]
    screen.write_h5ad(tmp_path / "other.h5ad")
    without = perturbrl.respond(here.copy(), ["GENE0004"])
    found = perturbrl.respond(here.copy(), ["GENE0004"], reference=tmp_path / "other.h5ad")
    truth = screen.varm[TRUE_EFFECTS_VARM][:, list(screen.uns[TRUE_LABELS_UNS]).index("GENE0004")]
    kept = [screen.var_names.get_loc(gene) for gene in found.delta.columns]
    near = [np.corrcoef(one.delta.loc["GENE0004"], truth[kept])[0, 1] for one in (without, found)]
    assert near[1] > max(near[0], 0.9)
    said = " ".join(found.worth)
    assert "what a target does in other.h5ad is expected here times" in said
    assert "other.h5ad explains" in said


def test_one_perturbation_in_one_context_is_refused(screen):
    """As ``fit`` refuses it."""
    one = screen[screen.obs["perturbation"].isin(["control", "GENE0001"])].copy()
    with pytest.raises(DataError, match="GENE0001 is all that was measured beside control, in one context"):
        perturbrl.respond(one, ["GENE0001"])


def test_one_perturbation_in_two_contexts_is_answered_and_what_it_cannot_tell_is_said(screen):
    one = screen[screen.obs["perturbation"].isin(["control", "GENE0001"])].copy()
    one.obs["kind"] = np.where(np.arange(one.n_obs) % 2, "T", "B")
    found = perturbrl.respond(one, ["GENE0001@T", "GENE0050@T"], cell_type_key="kind")
    assert found.evidence.tolist() == ["measured", "none"]
    assert found.notes == (
        "only GENE0001 was measured, so what it does of its own cannot be told from what any perturbation does",
    )
    assert not found.claimed["GENE0050@T"]


def test_names_stay_as_they_are_beside_their_weights(answers):
    similar = pd.DataFrame({"query": "A", "measured": ["dose 0.5-0.1", "B"], "weight": [0.52, -0.31]})
    assert replace(answers, similar=similar).named("A") == "dose 0.5-0.1 .52, B −.31"


def test_cells_are_the_same_whatever_else_is_asked(few):
    def cells_of(*queries):
        cells = perturbrl.respond(few, queries, n_cells=20).cells
        return cells[cells.obs["query"] == "GENE0000"].X.toarray()

    alone = cells_of("GENE0000")
    np.testing.assert_array_equal(cells_of("GENE0001", "GENE0000"), alone)
    assert len(alone) == 20
