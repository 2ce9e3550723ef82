import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.data.labels import Part, label_in_file
from perturbrl.data.presets import ColumnOptions, detect_fields
from perturbrl.errors import ConfigurationError, DataError


def cells(**columns: list[object]) -> AnnData:
    n = len(next(iter(columns.values()))) if columns else 3
    obs = pd.DataFrame(columns, index=[f"c{i}" for i in range(n)])
    return AnnData(obs=obs, var=pd.DataFrame(index=["G1"]))


GEARS = ["ctrl", "A+ctrl", "ctrl+B", "A+B"]


@pytest.mark.parametrize(
    ("adata", "preset", "key", "control"),
    [
        (cells(perturbation=["control", "A", "A+B"]), "scperturb", "perturbation", "control"),
        (cells(condition=GEARS), "gears", "condition", "ctrl"),
        (cells(target_gene=["non-targeting", "A", "B"]), "arc", "target_gene", "non-targeting"),
        (
            cells(condition=["control", "A", "A+B"], dose_val=["1.0", "0.5", "1.0+0.1"]),
            "cpa",
            "condition",
            "control",
        ),
        (cells(condition=["DMSO", "A", "B"], dose=[0.0, 1.0, 10.0]), "cpa", "condition", "DMSO"),
    ],
)
def test_each_convention_is_recognised_by_its_control_label(
    adata: AnnData, preset: str, key: str, control: str
) -> None:
    for asked in (None, preset):
        fields = detect_fields(adata, ColumnOptions(asked))
        assert (fields.preset, fields.perturbation_key, fields.control_value) == (preset, key, control)


def test_a_column_name_without_the_control_label_is_not_enough() -> None:
    with pytest.raises(
        DataError, match=r"no perturbation labels recognised.*obs\['condition'\] \(healthy PBMC\)"
    ):
        detect_fields(cells(condition=["healthy PBMC"] * 3))
    with pytest.raises(DataError, match="no obs column with labels"):
        detect_fields(cells())


def test_two_conventions_that_disagree_are_an_error_naming_both() -> None:
    adata = cells(
        perturbation=["control", "control", "A", "B"], condition=["ctrl", "A+ctrl", "A+ctrl", "B+ctrl"]
    )
    with pytest.raises(DataError, match=r"'scperturb'.*'gears'.*disagree"):
        detect_fields(adata)
    assert detect_fields(adata, ColumnOptions("gears")).perturbation_key == "condition"


def test_two_conventions_with_one_labelling_are_not_ambiguous() -> None:
    adata = cells(perturbation=["control", "A", "B", "A+B"], condition=GEARS)
    assert detect_fields(adata).preset == "scperturb"
    renamed = cells(
        perturbation=["control", "drug", "control"], condition=["ctrl", "stimulated+ctrl", "ctrl"]
    )
    assert detect_fields(renamed).perturbation_key == "perturbation"


def test_same_groups_with_another_control_disagree() -> None:
    adata = cells(perturbation=["control", "A", "A"], condition=["stimulated+ctrl", "ctrl", "ctrl"])
    with pytest.raises(DataError, match="disagree"):
        detect_fields(adata)


def test_a_preset_that_does_not_fit_says_what_was_expected_and_seen() -> None:
    with pytest.raises(
        DataError, match=r"expected gears \('ctrl' in obs\['condition'\]\), saw obs\['perturbation'\]"
    ):
        detect_fields(cells(perturbation=["control", "A"]), ColumnOptions("gears"))
    with pytest.raises(
        ConfigurationError, match="no preset 'gear'; choose one of scperturb, gears, arc, cpa"
    ):
        detect_fields(cells(perturbation=["control", "A"]), ColumnOptions("gear"))


def test_explicit_keys_go_before_presets() -> None:
    adata = cells(perturbation=["control", "A", "B"], treatment=["mock", "mock", "drug"])
    fields = detect_fields(adata, ColumnOptions(perturbation_key="treatment", control_value="mock"))
    assert (fields.preset, fields.perturbation_key, fields.control_value) == ("explicit", "treatment", "mock")
    assert detect_fields(adata, ColumnOptions(control_value="mock")).perturbation_key == "treatment"
    assert detect_fields(adata, ColumnOptions(perturbation_key="perturbation")).control_value == "control"
    with pytest.raises(ConfigurationError, match=r"columns.preset 'arc' is given beside"):
        detect_fields(adata, ColumnOptions("arc", perturbation_key="treatment"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"perturbation_key": "treatmnt"}, "no obs column 'treatmnt'; did you mean 'treatment'"),
        ({"cell_type_key": "zzz"}, r"no obs column 'zzz'; choose one of obs\['perturbation'\]"),
        ({"perturbation_key": "treatment"}, r"no control cells: any of control.*mock and drug"),
        ({"control_value": "zzz"}, "no control cells: the label 'zzz' is not in any obs column"),
        (
            {"perturbation_key": "hours", "control_value": "0"},
            r"labels in obs\['hours'\] must be text and 0, 1 and 3",
        ),
    ],
)
def test_explicit_keys_that_are_not_there(keys: dict[str, str], message: str) -> None:
    adata = cells(perturbation=["control", "A", "B"], treatment=["mock", "mock", "drug"], hours=[0, 1, 3])
    with pytest.raises(DataError, match=message):
        detect_fields(adata, ColumnOptions(**keys))


def test_a_control_label_in_two_columns_that_disagree() -> None:
    adata = cells(first=["mock", "A", "B"], second=["A", "mock", "B"])
    with pytest.raises(DataError, match="'mock' of obs\\['first'\\] or 'mock' of obs\\['second'\\]"):
        detect_fields(adata, ColumnOptions(control_value="mock"))


def test_the_other_fields_are_found_or_taken_as_given() -> None:
    adata = cells(
        perturbation=["control", "A", "B"],
        celltype=["T", "T", "B"],
        gem_group=[1, 2, 2],
        n_umis_full=[10, 20, 30],
        cell_line=["x", "x", "x"],
        depth=[1.0, 2.0, 3.0],
    )
    found = detect_fields(adata)
    assert (found.cell_type_key, found.batch_key, found.size_factor_key) == (
        "celltype",
        "gem_group",
        "n_umis_full",
    )
    assert found.covariate_keys == ("celltype", "gem_group")
    assert detect_fields(adata, ColumnOptions(size_factor_key="depth")).size_factor_key == "depth"


def test_a_dose_column_counts_only_with_dosages_in_it() -> None:
    assert detect_fields(cells(perturbation=["control", "A"], dosage=["1", "0.5+1e-3"])).dose_key == "dosage"
    assert detect_fields(cells(perturbation=["control", "A"], dose=["low", "high"])).dose_key is None


@pytest.mark.parametrize(
    ("label", "canonical"),
    [
        ("ctrl", "control"),
        ("control", "control"),
        ("ctrl+ctrl", "control"),
        ("A+ctrl", "A"),
        ("ctrl+A", "A"),
        ("B+A", "A+B"),
        (" B + A ", "A+B"),
        ("A+A", "A"),
        ("C+A+B", "A+B+C"),
        ("(+)-JQ1", "(+)-JQ1"),
        ("(+)-JQ1+A", "(+)-JQ1+A"),
        ("Ca2+", "Ca2+"),
    ],
)
def test_canonical_labels(label: str, canonical: str) -> None:
    assert label_in_file(label, "ctrl") == canonical


def test_a_colon_in_a_label_of_the_file_is_part_of_the_name() -> None:
    label = label_in_file("C18:1+ctrl", "ctrl")
    assert label.parts == (Part("C18:1"),)


NAMES = st.text("ABCxyz0-", min_size=1, max_size=4)


@given(st.lists(NAMES, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_a_combination_does_not_matter_and_spelling_it_twice_changes_nothing(
    names, random
) -> None:
    shuffled = random.sample(names, len(names))
    label = label_in_file("+".join(names), "ctrl")
    assert label == label_in_file("+".join([*shuffled, "ctrl"]), "ctrl")
    assert label == label_in_file(str(label), "ctrl")
    assert set(label.names) == set(names)


def test_a_dose_column_of_any_name_can_be_given_and_must_hold_doses() -> None:
    adata = cells(perturbation=["control", "A"], conc=["0", "0.5"], level=["low", "high"])
    assert detect_fields(adata).dose_key is None
    assert detect_fields(adata, ColumnOptions(dose_key="conc")).dose_key == "conc"
    with pytest.raises(DataError, match=r"obs\['level'\] holds low and high, which are no doses"):
        detect_fields(adata, ColumnOptions(dose_key="level"))


def test_a_file_that_tells_of_no_perturbation_is_an_atlas_where_none_is_needed() -> None:
    for adata in (cells(cell_type=["a", "b", "b"]), cells(condition=["healthy PBMC"] * 3), cells()):
        fields = detect_fields(adata, labels_needed=False)
        assert (fields.preset, fields.perturbation_key) == ("unperturbed", None)
    labelled = cells(perturbation=["control", "A", "B"])
    assert detect_fields(labelled, labels_needed=False).perturbation_key == "perturbation"


@pytest.mark.parametrize("columns", [{"perturbation": ["A", "A", "A"]}, {"condition": ["A+x", "B+x", "A+x"]}])
def test_a_screen_without_control_is_no_atlas(columns: dict[str, list[str]]) -> None:
    with pytest.raises(DataError, match="no perturbation labels recognised"):
        detect_fields(cells(**columns), labels_needed=False)
