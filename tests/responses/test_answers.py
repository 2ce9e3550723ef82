"""Questions answered from a whole data set."""

import numpy as np
import pytest

import perturbrl
from perturbrl.data.labels import Label
from perturbrl.data.presets import ColumnOptions
from perturbrl.data.synthetic import TRUE_EFFECTS_VARM, TRUE_LABELS_UNS, simulate_screen
from perturbrl.errors import DataError
from perturbrl.responses.questions import conditions_of, text_of


@pytest.fixture(scope="module")
def screen():
    return simulate_screen(8, 80, 300, 80, n_combinations=4, seed=2)


@pytest.fixture(scope="module")
def answers(screen):
    return perturbrl.respond(screen, ["GENE0000", "GENE0007+GENE0001", "GENE0050"], n_cells=60)


def test_one_row_for_each_query_in_their_order(answers):
    assert list(answers.delta.index) == ["GENE0000", "GENE0001+GENE0007", "GENE0050"]
    assert answers.delta.shape == answers.sd.shape == (3, answers.delta.shape[1])
    assert list(answers.evidence) == ["measured", "combined", "none"]
    assert "nothing is known" in answers.sentences["GENE0050"]
    assert sum(answers.weights.values()) == pytest.approx(1.0)


def test_a_combination_is_near_the_sum_of_its_true_effects(screen, answers):
    effects = dict(zip(screen.uns[TRUE_LABELS_UNS], screen.varm[TRUE_EFFECTS_VARM].T, strict=True))
    kept = [screen.var_names.get_loc(gene) for gene in answers.delta.columns]
    truth = (effects["GENE0001"] + effects["GENE0007"])[kept]
    assert np.corrcoef(answers.delta.loc["GENE0001+GENE0007"], truth)[0, 1] > 0.8


def test_what_nothing_is_known_of_is_uncertain_and_not_silently_nothing(answers):
    unknown, measured = answers.sd.loc["GENE0050"], answers.sd.loc["GENE0000"]
    assert unknown.mean() > 2 * measured.mean()
    assert (answers.sd > 0).all(axis=None)


def test_cells_are_moved_control_cells_with_counts(screen, answers):
    cells = answers.cells
    assert cells.obs["perturbation"].value_counts().to_dict() == {
        "control": 300,
        **dict.fromkeys(answers.delta.index, 60),
    }
    assert (cells.X.data % 1 == 0).all()
    logs = np.log1p(1e4 * cells.X.toarray() / cells.obs["size_factor"].to_numpy()[:, None])
    labels = cells.obs["perturbation"].to_numpy()
    seen = logs[labels == "GENE0000"].mean(0) - logs[labels == "control"].mean(0)
    assert np.corrcoef(seen, answers.delta.loc["GENE0000"])[0, 1] > 0.8


def test_the_same_seed_gives_the_same_cells(screen):
    one, other = (perturbrl.respond(screen, ["GENE0000"], n_cells=5, seed=3).cells for _ in range(2))
    assert (one.X != other.X).nnz == 0


def test_contexts_are_asked_by_name_or_all(screen):
    adata = screen.copy()
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2, "T", "B")
    found = perturbrl.respond(
        adata, ["GENE0000@kind=T", "GENE0002"], columns=ColumnOptions(cell_type_key="kind")
    )
    assert list(found.delta.index) == ["GENE0000@T", "GENE0002@B", "GENE0002@T"]
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


def test_a_query_reads_back_as_its_condition():
    measured = {"A@x": Label.parse("A@x")}
    conditions = conditions_of(["A@x", "B+A@y"], measured, {"y"}, {"A", "B"})
    assert [text_of(condition) for condition in conditions] == ["A@x@y", "A+B@y"]
