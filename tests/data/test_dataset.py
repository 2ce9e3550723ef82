from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from places import measured_file

from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.presets import ColumnOptions, FieldMap
from perturbrl.data.reading import to_dense
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import DataError

GEARS = FieldMap("condition", "ctrl", preset="gears")
LABELS = ["B+A", "ctrl", "A+ctrl", "A+B", "ctrl", "ctrl+C"]


def cells(labels: list[object] | None = None, **columns: list[object]) -> AnnData:
    labels = LABELS if labels is None else labels
    obs = pd.DataFrame({"condition": labels, **columns}, index=[f"c{i}" for i in range(len(labels))])
    counts = np.arange(3 * len(labels)).reshape(-1, 3) + 1
    return AnnData(
        sp.csr_matrix(counts, dtype=np.float32), obs=obs, var=pd.DataFrame(index=["G1", "G2", "G3"])
    )


def test_labels_are_canonical_and_cells_found_by_any_spelling() -> None:
    dataset = PerturbationDataset.from_adata(cells(), GEARS)
    assert dataset.perturbations == ("A", "A+B", "C")
    assert dataset.singles == ("A", "C")
    assert dataset.combinations == ("A+B",)
    assert list(dataset.labels) == ["A+B", "control", "A", "A+B", "control", "C"]
    assert (
        list(dataset.control_cells)
        == [1, 4]
        == list(dataset.population_rows("ctrl"))
        == list(dataset.population_rows("control"))
    )
    assert list(dataset.population_rows("B+A")) == [0, 3]
    assert list(dataset.population_rows("ctrl+A")) == [2]
    assert list(dataset.adata.obs["is_control"]) == [False, True, False, False, True, False]


def test_the_given_cells_are_left_as_they_were() -> None:
    adata = cells(batch=["x"] * 6)
    before = adata.obs.copy()
    dataset = PerturbationDataset.from_adata(adata, FieldMap("condition", "ctrl", batch_key="batch"))
    pd.testing.assert_frame_equal(adata.obs, before)
    assert dataset.adata.obs["batch"].dtype == "category"
    assert dataset.genes == ("G1", "G2", "G3")
    assert dataset.barcodes[:2] == ("c0", "c1")


def test_size_factors_are_the_sum_of_counts_or_the_named_column() -> None:
    adata = cells(total=[10, 20, 30, 40, 50, 60])
    summed = PerturbationDataset.from_adata(adata, GEARS)
    np.testing.assert_array_equal(summed.size_factors, np.asarray(adata.X.sum(axis=1)).ravel())
    named = PerturbationDataset.from_adata(adata, FieldMap("condition", "ctrl", size_factor_key="total"))
    np.testing.assert_array_equal(named.size_factors, [10, 20, 30, 40, 50, 60])


def test_size_factors_of_log_values_are_sums_on_the_linear_scale() -> None:
    adata = cells()
    linear = 1e4 * to_dense(adata.X) / to_dense(adata.X).sum(axis=1, keepdims=True)
    adata.X = sp.csr_matrix(np.log1p(linear))
    dataset = PerturbationDataset.from_adata(adata, GEARS)
    assert dataset.value_kind == "log1p"
    np.testing.assert_allclose(dataset.size_factors, 1e4, rtol=1e-5)


def test_counts_in_a_layer_are_the_values() -> None:
    adata = cells()
    adata.layers["counts"] = sp.csc_matrix(adata.X.toarray() * 2)
    adata.X = np.log1p(adata.X)
    dataset = PerturbationDataset.from_adata(adata, GEARS)
    assert dataset.value_kind == "counts"
    assert sp.isspmatrix_csr(dataset.matrix)
    np.testing.assert_array_equal(to_dense(dataset.matrix), adata.layers["counts"].toarray())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["ctrl", np.nan, "A"], r"1 of 3 cells have no label \(NaN\) in obs\['condition'\]"),
        (["ctrl", 7, "A"], "must be text and 7 are not"),
        (["ctrl", " ", "A"], "must be text and ' ' are not"),
        (["A", "B", "A"], "no control cells: no label of obs\\['condition'\\] is 'ctrl'"),
        (["ctrl", "control", "A"], "has the label 'control' beside the control 'ctrl'"),
    ],
)
def test_labels_that_cannot_be_used(labels: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        PerturbationDataset.from_adata(cells(labels), GEARS)


@pytest.mark.parametrize(("value", "n"), [(0.0, 1), (-3.0, 1), (np.nan, 1), (np.inf, 1)])
def test_size_factors_have_to_be_positive(value: float, n: int) -> None:
    adata = cells(total=[1.0, 2.0, value, 4.0, 5.0, 6.0])
    with pytest.raises(
        DataError, match=rf"{n} of 6 cells have no positive size factor in obs\['total'\] \(first: c2\)"
    ):
        PerturbationDataset.from_adata(adata, FieldMap("condition", "ctrl", size_factor_key="total"))


def test_size_factors_have_to_be_numbers() -> None:
    adata = cells(total=list("abcdef"))
    with pytest.raises(DataError, match="must be numbers"):
        PerturbationDataset.from_adata(adata, FieldMap("condition", "ctrl", size_factor_key="total"))


def test_a_cell_without_counts_is_an_error_unless_its_library_size_is_known() -> None:
    adata = cells(total=[1.0] * 6)
    adata.X = adata.X.toarray() * np.array([1, 1, 1, 0, 1, 1])[:, None]
    with pytest.raises(DataError, match=r"1 of 6 cells have no positive count \(first: c3\); drop them"):
        PerturbationDataset.from_adata(adata, GEARS)
    PerturbationDataset.from_adata(adata, FieldMap("condition", "ctrl", size_factor_key="total"))


def test_an_unknown_target_is_answered_with_the_closest_labels() -> None:
    screen = ["ctrl", "KLF1+ctrl", "MAP2K6+ctrl", "KLF1+MAP2K6", "STAT1+ctrl"]
    dataset = PerturbationDataset.from_adata(cells(screen), GEARS)
    assert dataset.require_label("MAP2K6+KLF1") == "KLF1+MAP2K6"
    with pytest.raises(DataError, match=r"'klf1' \(4 are measured\); did you mean KLF1 or"):
        dataset.require_label("klf1")
    with pytest.raises(DataError, match=r"did you mean.*KLF1\+MAP2K6"):
        dataset.require_label("MAP2K6+SET")
    with pytest.raises(DataError, match="choose one such as KLF1, KLF1\\+MAP2K6, MAP2K6 and STAT1"):
        dataset.population_rows("zzz")
    with pytest.raises(DataError, match="'control' is the control; name a perturbation such as KLF1"):
        dataset.require_label("control")


def test_too_few_perturbations() -> None:
    only_control = PerturbationDataset.from_adata(cells(["ctrl"] * 3), GEARS)
    one = PerturbationDataset.from_adata(cells(["ctrl", "A+ctrl", "A+ctrl"]), GEARS)
    assert only_control.perturbations == ()
    with pytest.raises(DataError, match=r"at least 2 .* obs\['condition'\] has only control cells"):
        only_control.require_perturbations()
    with pytest.raises(DataError, match="has only A;"):
        one.require_perturbations(2)
    one.require_perturbations(1)


def test_cell_types_where_the_file_does_not_say() -> None:
    with pytest.raises(DataError, match=r"give columns.cell_type_key"):
        _ = PerturbationDataset.from_adata(cells(), GEARS).cell_types
    typed = cells(kind=["T", None, "B", "B", "T", "T"])
    dataset = PerturbationDataset.from_adata(typed, FieldMap("condition", "ctrl", cell_type_key="kind"))
    assert list(dataset.cell_types) == ["T", "unknown", "B", "B", "T", "T"]


@pytest.mark.parametrize("dense", [False, True])
def test_a_file_on_disk_gives_what_the_file_in_memory_gives(tmp_path: Path, dense: bool) -> None:
    screen = simulate_screen(
        n_perturbations=3, n_genes=20, n_control=20, cells_per_perturbation=10, n_combinations=2
    )
    if dense:
        screen.X = screen.X.toarray()
    screen.write_h5ad(tmp_path / "screen.h5ad")
    memory, disk = (load_dataset(tmp_path / "screen.h5ad", backed=backed) for backed in (False, True))
    assert (memory.perturbations, memory.fields, memory.value_kind) == (
        disk.perturbations,
        disk.fields,
        "counts",
    )
    np.testing.assert_array_equal(memory.size_factors, disk.size_factors)
    np.testing.assert_array_equal(to_dense(memory.matrix), to_dense(disk.matrix[:]))
    assert not isinstance(disk.matrix, np.ndarray | sp.spmatrix)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "singles", "combinations", "control"),
    [
        ("norman2019_k562_crispra", 17, 11, 100),
        ("papalexi2021_thp1_eccite", 22, 0, 1923),
        ("kang2018_pbmc_ifnb", 1, 0, 936),
        ("cao2018_a549_dex_rna_atac", 1, 0, 583),
        ("paul2015_myeloid_trajectory", 0, 0, 2660),
    ],
)
def test_published_screens(file: str, singles: int, combinations: int, control: int) -> None:
    path = measured_file(f"{file}.h5ad")
    dataset = load_dataset(path)
    assert dataset.fields.preset == "scperturb"
    assert dataset.value_kind == "counts"
    assert (len(dataset.singles), len(dataset.combinations)) == (singles, combinations)
    assert len(dataset.control_cells) == control
    if "n_umis_full" in dataset.adata.obs:
        np.testing.assert_array_equal(dataset.size_factors, dataset.adata.obs["n_umis_full"])
        assert (dataset.size_factors >= np.asarray(dataset.matrix.sum(axis=1)).ravel()).all()


@pytest.mark.realdata
def test_a_published_file_without_labels() -> None:
    path = measured_file("mimitou2019_pbmc_citeseq.h5ad")
    with pytest.raises(DataError, match="no perturbation labels recognised"):
        load_dataset(path)
    dataset = load_dataset(path, ColumnOptions(perturbation_key="condition", control_value="healthy PBMC"))
    assert len(dataset.control_cells) == dataset.n_cells == 500


def test_the_kind_of_values_can_be_said_and_must_fit_them() -> None:
    adata = cells()
    told = [PerturbationDataset.from_adata(adata, GEARS, kind).value_kind for kind in (None, "normalised")]
    assert told == ["counts", "normalised"]
    logs = adata.copy()
    logs.X = np.log1p(logs.X)
    assert PerturbationDataset.from_adata(logs, GEARS, "normalised").value_kind == "normalised"
    with pytest.raises(
        DataError, match=r"value_kind is counts, whose values are whole numbers, .* has \d+\.\d+;"
    ):
        PerturbationDataset.from_adata(logs, GEARS, "counts")
    adata.X = adata.X * 100.0
    with pytest.raises(DataError, match=r"value_kind is log1p, whose values are at most 15, .* has \d+;"):
        PerturbationDataset.from_adata(adata, GEARS, "log1p")
