"""Answers shown in a notebook and saved with a report."""

import json
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest

import perturbrl
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import ConfigurationError
from perturbrl.reporting.response_tables import (
    MOST_OF_A_KIND,
    answer_tables,
    answers_in_text,
    evidence_table,
    surest_first,
)


@pytest.fixture(scope="module")
def screen():
    """Of a gene that no cell expresses, nothing can be known."""
    adata = simulate_screen(8, 60, 200, 60, n_combinations=3, seed=4)
    for silent in ("GENE0055", "GENE0057"):
        adata[:, silent].X = np.zeros((adata.n_obs, 1), dtype=np.float32)
    return adata


@pytest.fixture(scope="module")
def found(screen, tmp_path_factory):
    sets = tmp_path_factory.mktemp("prior") / "sets.gmt"
    sets.write_text(
        "pathway\tabout\tGENE0000\tGENE0050\tGENE0002\nother\tabout\tGENE0001\tGENE0003\tGENE0004\n"
    )
    queries = ["GENE0000", "GENE0007+GENE0001", "GENE0050", "GENE0055"]
    return perturbrl.respond(screen, queries, gene_sets=sets, n_cells=20)


@pytest.fixture(scope="module")
def saved(found, tmp_path_factory):
    return found.save(tmp_path_factory.mktemp("out") / "answers").parent


def test_everything_is_saved(found, saved):
    table = pd.read_csv(saved / "responses.csv")
    assert table["query"].tolist() == ["GENE0000", "GENE0007+GENE0001", "GENE0050", "GENE0055"]
    assert table["evidence"].tolist() == found.evidence.tolist()
    first = table.iloc[0]
    assert first["genes_up"].split(";")[:3] == found.genes("GENE0000", 1)[:3]
    assert first["n_down"] == len(found.genes("GENE0000", -1))
    assert first["effect_low"] < first["effect"] < first["effect_high"]
    delta = pd.read_csv(saved / "delta.csv", index_col="query")
    pd.testing.assert_frame_equal(delta, found.delta)
    cells = anndata.read_h5ad(saved / "responses.h5ad")
    assert set(cells.obs["perturbation"]) == {
        "control",
        "GENE0000",
        "GENE0001+GENE0007",
        "GENE0050",
        "GENE0055",
    }
    numbers = json.loads((saved / "metrics.json").read_text())
    assert numbers["names_in_common"]["sets.gmt"]["measured"] == 5
    assert sum(numbers["similarities"].values()) == pytest.approx(1)


def test_the_page_says_what_was_found_and_what_is_not_known(found, saved):
    page = (saved / "report.html").read_text()
    assert found.report.answer.replace(" %", "\u00a0%") in page
    assert "of 4 queries have an effect, at a false discovery rate of 5\u00a0% over all of them" in page
    assert "differences from control of the mean log1p(counts per 10,000)" in page
    assert "By evidence</h3>" not in page  # four queries need no summary
    assert "cells under this very perturbation, in this context, were measured" in page
    assert "Nothing is known of GENE0055" in page
    assert "Nothing here is judged" in page
    assert "sets.gmt knows 5 of the 8 measured perturbations and 3 of the 5 asked for" in page
    for figure in ("effects", "response_genes", "panel"):
        assert f'id="figure-{figure}"' in page
        assert (saved / f"{figure}.svg").is_file()


def test_nothing_is_overwritten(found, saved):
    with pytest.raises(ConfigurationError, match="is there already and is not overwritten"):
        found.save(saved)


def test_it_is_read_in_a_terminal_and_in_a_notebook(found):
    said, page = repr(found), found._repr_html_()
    for text in ("GENE0007+GENE0001", "of the variance of effects", "sets.gmt knows 5 of the 8"):
        assert text in said
        assert text in page
    assert "squared expected differences from control of the mean log1p(counts per 10,000)" in said
    assert len(said.splitlines()) < 15
    assert "<td>GENE0000 " in page


def test_a_single_query_has_a_sentence_of_its_own(screen):
    sure = perturbrl.respond(screen, "GENE0000").report.answer
    assert sure.startswith("GENE0000 has an effect (size ")
    unknown = perturbrl.respond(screen, "GENE0055").report.answer
    assert unknown.startswith("GENE0055 may have no effect (size ")
    both = perturbrl.respond(screen, ["GENE0055", "GENE0057"]).report.answer
    assert both.startswith(
        "None of 2 queries has an effect, at a false discovery rate of 5 % over all of them;"
    )


@pytest.fixture(scope="module")
def many(screen):
    """Measured ones, unmeasured singles and unmeasured pairs."""
    singles = sorted(set(screen.obs["perturbation"]) - {"control"})
    plain = [name for name in singles if "+" not in name]
    pairs = [f"{one}+{other}" for one in plain[:4] for other in screen.var_names[20:30]]
    return perturbrl.respond(screen, [*singles, *screen.var_names[10:40], *pairs])


def test_of_many_queries_the_page_shows_the_surest_of_each_kind(many, tmp_path):
    tables = {table.key: table for table in answer_tables(many)}
    assert list(tables) == ["answers_measured", "answers_single", "answers_joined"]
    effects = many.effects
    sureness = effects["effect"] / (effects["high"] - effects["effect"])
    for key, own in (
        ("answers_measured", many.evidence == "measured"),
        ("answers_single", (many.evidence != "measured") & (many.n_perturbations == 1)),
        ("answers_joined", (many.evidence != "measured") & (many.n_perturbations == 2)),
    ):
        shown = [row.texts()[0].value for row in tables[key].rows]
        assert len(shown) == min(MOST_OF_A_KIND, own.sum())
        assert own[shown].all()
        order = list(zip(~many.claimed[shown], -sureness[shown], strict=True))
        assert order == sorted(order)
        left = own & ~own.index.isin(shown) & many.claimed
        assert not left.any() or many.claimed[shown].all()
    assert f"The other {30 - MOST_OF_A_KIND} of 30 are in responses.csv" in tables["answers_single"].note
    page = many.save(tmp_path / "many")
    said = page.read_text()
    assert "Benjamini and Hochberg" in said
    assert said.index("By evidence</h3>") < said.index("Measured</h3>") < said.index("nobody measured</h3>")
    assert page.stat().st_size < 3_000_000
    assert len(pd.read_csv(page.parent / "responses.csv")) == len(many.delta)


def test_effects_are_summed_up_by_evidence(many):
    table = evidence_table(many)
    assert table.columns == (
        "evidence",
        "queries",
        "median size",
        "interval clear of 0",
        "with an effect",
    )
    rows = {row.texts()[0].value: [cell.value for cell in row.texts()] for row in table.rows}
    assert set(rows) == set(many.evidence)
    own = many.evidence == "measured"
    n, size, clear, effect = rows["measured"][1:]
    assert n == str(own.sum())
    assert float(size) == pytest.approx(many.effects["effect"][own].median(), rel=0.01)
    assert clear == f"{100 * (many.effects['low'][own] > 0).mean():.0f} %"
    assert effect.startswith(f"{many.claimed[own].sum()} (")
    assert "over all 81 queries" in table.meaning["with an effect"]


def test_a_terminal_shows_the_kinds_apart(many):
    said = answers_in_text(many, 9, "responses.csv").splitlines()
    assert said[0].split()[:2] == ["evidence", "queries"]
    at = said.index("Single perturbations nobody measured:")
    assert [line.split()[1] for line in said[at + 2 : at + 5]] == ["prior"] * 3
    assert f"... and {len(many.delta) - 9} more in responses.csv" in said


def test_queries_with_an_effect_come_first(many):
    claimed = many.claimed[surest_first(many)].to_numpy()
    assert claimed.any()
    assert not claimed.all()
    assert (np.diff(claimed.astype(int)) <= 0).all()


def test_a_test_of_the_same_model_is_told_in_place_of_the_warning(found):
    report = replace(found.report, tested="On 5 held-out conditions it was near (perturbrl test, report).")
    assert report.answer.endswith("On 5 held-out conditions it was near (perturbrl test, report).")
    assert not any("has not been run" in line for line in report.warnings)
    assert any("perturbrl test has not been run" in line for line in found.report.warnings)
