"""A population is a label, or a query of what is known of the cells."""

import numpy as np
import pytest
from atlas import atlas

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import Label
from perturbrl.data.populations import conditions_in
from perturbrl.data.presets import detect_fields
from perturbrl.errors import ConfigurationError, DataError

LABELS = ["control", "A", "A+B", "dose=high", "control", "A"]


def screen() -> PerturbationDataset:
    adata = atlas(cells_per_type=4)
    adata = adata[[0, 1, 2, 4, 5, 6]].copy()
    adata.obs["perturbation"] = LABELS
    adata.obs["note"] = ["x", "y", "x", "a, b", "c=d", "y"]
    adata.obs["batch"] = ["1", "2", "1", "2", "1", "2"]
    return PerturbationDataset.from_adata(adata, detect_fields(adata))


def rows(text: str) -> list[int]:
    return screen().population_rows(text).tolist()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("control", [0, 4]),
        ("B+A", [2]),
        ("cell_type=stem", [0, 1, 2]),
        (" cell_type = stem , perturbation = A ", [1]),
        ("perturbation=B+A,cell_type=stem", [2]),
        ("perturbation=control,cell_type=red", [4]),
        ("day=1", [1, 4]),
        ("day=1.0", [1, 4]),
        ("note=a, b", [3]),
        ("note=c=d", [4]),
        ("batch=2,note=y,day=0", [5]),
        ("red", [3, 4, 5]),  # a cell type, which a landscape's attractor is named by
        ("dose=high", [3]),  # a label, though it looks like a query
    ],
)
def test_rows_of_a_population(text: str, found: list[int]) -> None:
    assert rows(text) == found


def test_one_population_has_one_name() -> None:
    named = screen().populations.named
    assert named("perturbation=B+A") == "A+B"
    assert isinstance(named("perturbation=B+A"), Label)
    assert named(" cell_type=stem, perturbation=B+A") == "cell_type=stem,perturbation=A+B"
    assert named("day=1.0") == "day=1"
    assert named(named("cell_type=stem")) == named("stem") == "cell_type=stem"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("cell_typ=stem", DataError, r"no column 'cell_typ'; did you mean cell_type\?"),
        ("zzz=stem", DataError, r"no column 'zzz'; choose one of cell_type"),
        ("cell_type=Stemm", DataError, r"no cell has cell_type 'Stemm'; did you mean stem\?"),
        ("cell_type=zzz", DataError, "no cell has cell_type 'zzz'; choose one of stem and red"),
        ("cell_type=stem,perturbation=C", DataError, "no cell has the perturbation 'C'"),
        (
            "cell_type=red,perturbation=A+B",
            DataError,
            r"no cell has cell_type=red and perturbation=A\+B at once: there are 3 with .* and 1 with",
        ),
        ("Red", DataError, r"did you mean cell_type=red\?"),
        ("cell_type=", ConfigurationError, "no query of cells; write column=value"),
        ("=red", ConfigurationError, "no query of cells"),
        ("day=1,day=0", ConfigurationError, "gives day twice"),
        ("is_control=True", DataError, "no column 'is_control'"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is_near(text: str, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        rows(text)


def test_in_an_atlas_a_mistyped_cell_type_is_told_the_nearest() -> None:
    adata = atlas(cells_per_type=4)
    dataset = PerturbationDataset.from_adata(adata, detect_fields(adata, labels_needed=False))
    with pytest.raises(DataError, match=r"'Whites' is no cell type.*did you mean cell_type=white\?"):
        dataset.population_rows("Whites")
    with pytest.raises(
        DataError, match=r"choose one such as cell_type=stem, cell_type=red and cell_type=white"
    ):
        dataset.population_rows("zzz")


def test_cells_that_tell_of_a_population_contain_its_label_in_the_same_context() -> None:
    known = screen().populations
    assert known.telling("A").tolist() == [1, 2, 5]
    assert known.telling("cell_type=stem,perturbation=A").tolist() == [1, 2]
    assert known.telling("cell_type=stem").tolist() == [0, 1, 2]
    assert known.label_of("cell_type=stem,perturbation=A") == "A"
    assert known.label_of("cell_type=stem") is None


def test_source_and_target_share_no_cell() -> None:
    known = screen().populations
    known.require_apart("cell_type=red", "cell_type=stem")
    with pytest.raises(ConfigurationError, match=r"'control' has 1 of the 3 cells .* such as cell_type=red"):
        known.require_apart("control", "cell_type=stem")
    with pytest.raises(ConfigurationError, match=r"has all 1 cells of target .* such as cell_type=red"):
        known.require_apart("cell_type=stem", "cell_type=stem,perturbation=A+B")
    with pytest.raises(ConfigurationError, match="source and target are both 'control'"):
        known.require_apart(known.named("control"), known.named("perturbation=control"))


def test_all_controls_are_no_target() -> None:
    with pytest.raises(DataError, match="'control' is the control; name a perturbation such as A"):
        screen().populations.target("control")
    assert screen().populations.target("cell_type=red") == "cell_type=red"


def test_a_text_without_an_equals_sign_is_no_query() -> None:
    assert conditions_in("Gata1") == ()
    assert [tuple(c) for c in conditions_in("Gata1=1,Fli1=0")] == [("Gata1", "1"), ("Fli1", "0")]


def test_an_atlas_is_all_untreated() -> None:
    cells = atlas()
    dataset = PerturbationDataset.from_adata(cells, detect_fields(cells, labels_needed=False))
    assert dataset.measured == ("control",)
    assert len(dataset.control_cells) == cells.n_obs
    np.testing.assert_array_equal(dataset.population_rows("cell_type=red"), np.arange(30, 60))
    with pytest.raises(DataError, match=r"at least 2 .* and the file has only control cells"):
        dataset.require_perturbations()
