"""Answers shown in a notebook and saved with a report."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest

import perturbrl
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import ConfigurationError
from perturbrl.reporting.response_tables import MOST_ROWS, answer_table


@pytest.fixture(scope="module")
def screen():
    return simulate_screen(8, 60, 200, 60, n_combinations=3, seed=4)


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
    assert "of 4 queries have an effect for sure" in page
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
    assert len(said.splitlines()) < 15
    assert "<td>GENE0000 " in page


def test_a_single_query_has_a_sentence_of_its_own(screen):
    sure = perturbrl.respond(screen, "GENE0000").report.answer
    assert sure.startswith("GENE0000 has an effect for sure (size ")
    unknown = perturbrl.respond(screen, "GENE0055").report.answer
    assert unknown.startswith("GENE0055 may have no effect (size ")
    both = perturbrl.respond(screen, ["GENE0055", "GENE0057"]).report.answer
    assert both.startswith("None of 2 queries has an effect for sure")


def test_of_many_queries_the_page_shows_the_surest(screen, tmp_path):
    singles = sorted(set(screen.obs["perturbation"]) - {"control"})
    queries = [f"{one}+{other}" for one in singles[:8] for other in screen.var_names[20:30]]
    found = perturbrl.respond(screen, queries)
    table = answer_table(found)
    assert len(table.rows) == MOST_ROWS
    assert f"The other {len(queries) - MOST_ROWS} queries are in responses.csv" in table.note
    low = found.effects["low"].to_numpy()
    shown = [row.texts()[0].value for row in table.rows]
    assert found.effects.loc[shown, "low"].min() >= np.sort(low)[-MOST_ROWS]
    page = found.save(tmp_path / "many")
    assert page.stat().st_size < 3_000_000
    assert len(pd.read_csv(page.parent / "responses.csv")) == len(queries)
