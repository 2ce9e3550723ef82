import gzip
import shutil
from pathlib import Path

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbrl.data.reading import (
    check_cells,
    kind_of_values,
    matrix_of,
    read_cells,
    read_rows,
    row_chunks,
    to_dense,
)
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import DataError


@pytest.fixture
def screen() -> AnnData:
    return simulate_screen(
        n_perturbations=2, n_genes=20, n_control=12, cells_per_perturbation=6, n_combinations=1
    )


@pytest.fixture
def file(screen: AnnData, tmp_path: Path) -> Path:
    screen.write_h5ad(tmp_path / "screen.h5ad")
    return tmp_path / "screen.h5ad"


def assert_same_cells(read: AnnData, written: AnnData) -> None:
    assert list(read.obs_names) == list(written.obs_names)
    assert list(read.var_names) == list(written.var_names)
    np.testing.assert_array_equal(to_dense(read.X[:]), to_dense(written.X))


@pytest.mark.parametrize("backed", [False, True])
def test_h5ad(file: Path, screen: AnnData, backed: bool) -> None:
    read = read_cells(str(file), backed)
    assert_same_cells(read, screen)
    assert read.isbacked == backed


@pytest.mark.parametrize("global_labels", [False, True])
def test_h5mu_gives_the_rna_with_labels_of_either_place(
    screen: AnnData, tmp_path: Path, global_labels: bool
) -> None:
    rna, protein = screen.copy(), screen[:, :3].copy()
    labels = list(screen.obs["perturbation"])
    protein.var_names = ["P1", "P2", "P3"]
    if global_labels:
        del rna.obs["perturbation"]
    del protein.obs["perturbation"]
    multimodal = mudata.MuData({"prot": protein, "rna": rna})
    if global_labels:
        multimodal.obs["perturbation"] = labels
    multimodal.write(tmp_path / "both.h5mu")
    read = read_cells(tmp_path / "both.h5mu")
    assert_same_cells(read, screen)
    assert list(read.obs["perturbation"]) == labels


def test_h5mu_without_rna(screen: AnnData, tmp_path: Path) -> None:
    mudata.MuData({"atac": screen}).write(tmp_path / "atac.h5mu")
    with pytest.raises(DataError, match=r"no RNA modality \('rna' or 'gex'\), only \['atac'\]"):
        read_cells(tmp_path / "atac.h5mu")


def write_10x(path: Path, counts: sp.csr_matrix, symbols: list[str]) -> None:
    columns = counts.T.tocsc()
    with h5py.File(path, "w") as f:
        group = f.create_group("matrix")
        group["barcodes"] = np.array([f"BC{i}-1" for i in range(counts.shape[0])], dtype="S")
        group["data"], group["indices"], group["indptr"] = (
            columns.data.astype("int32"),
            columns.indices,
            columns.indptr,
        )
        group["shape"] = np.array(columns.shape)
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i}" for i in range(len(symbols))], dtype="S")
        features["name"] = np.array(symbols, dtype="S")
        for key, value in (("feature_type", "Gene Expression"), ("genome", "GRCh38")):
            features[key] = np.array([value] * len(symbols), dtype="S")


def test_10x_h5_with_a_symbol_twice(tmp_path: Path) -> None:
    counts = sp.csr_matrix(np.array([[0, 2, 1], [3, 0, 0]]))
    write_10x(tmp_path / "filtered.h5", counts, ["GATA1", "MATR3", "MATR3"])
    read = read_cells(tmp_path / "filtered.h5")
    assert list(read.var_names) == ["GATA1", "MATR3", "MATR3-1"]
    np.testing.assert_array_equal(to_dense(read.X), counts.toarray())
    with pytest.raises(DataError, match=r"is a 10x file and cannot stay on disk"):
        read_cells(tmp_path / "filtered.h5", backed=True)


def write_mtx_folder(folder: Path, counts: np.ndarray) -> None:
    folder.mkdir()
    scipy.io.mmwrite(folder / "m.mtx", sp.coo_matrix(counts.T))
    with (folder / "m.mtx").open("rb") as source, gzip.open(folder / "matrix.mtx.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    (folder / "m.mtx").unlink()
    features = "".join(f"ENSG{i}\tG{i}\tGene Expression\n" for i in range(counts.shape[1]))
    barcodes = "".join(f"BC{i}-1\n" for i in range(counts.shape[0]))
    for name, text in (("features.tsv.gz", features), ("barcodes.tsv.gz", barcodes)):
        with gzip.open(folder / name, "wt") as f:
            f.write(text)


def test_10x_folder(tmp_path: Path) -> None:
    counts = np.array([[0, 2, 1], [3, 0, 0]])
    write_mtx_folder(tmp_path / "matrix", counts)
    read = read_cells(tmp_path / "matrix")
    np.testing.assert_array_equal(to_dense(read.X), counts)
    (tmp_path / "matrix" / "features.tsv.gz").unlink()
    with pytest.raises(DataError, match=r"the 10x folder 'matrix' is damaged"):
        read_cells(tmp_path / "matrix")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no matrix.mtx"):
        read_cells(tmp_path / "empty")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file '.*nowhere.h5ad'; check the path"):
        read_cells(tmp_path / "nowhere.h5ad")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.h5ad").touch()
    with pytest.raises(DataError, match=r"'empty.h5ad' is empty \(0 bytes\)"):
        read_cells(tmp_path / "empty.h5ad")


def test_a_file_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "table.h5ad").write_text("gene,cell\n")
    with pytest.raises(DataError, match=r"'table.h5ad' is not an h5ad file"):
        read_cells(tmp_path / "table.h5ad")
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["weights"] = np.ones(3)
    with pytest.raises(DataError, match=r"without cells \(it has \['weights'\]\)"):
        read_cells(tmp_path / "other.h5")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"truncated or damaged"):
        read_cells(file)


def test_a_file_whose_parts_do_not_fit_together(file: Path) -> None:
    with h5py.File(file, "a") as f:
        del f["X/indptr"]
    with pytest.raises(DataError, match=r"'screen.h5ad' is damaged"):
        read_cells(file)


def spoilt(screen: AnnData, value: float, layer: bool) -> AnnData:
    matrix = screen.X.copy()
    matrix.data[3] = value
    if layer:
        screen.layers["counts"] = matrix
    else:
        screen.X = matrix
    return screen


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "1 values that are NaN"),
        (np.inf, "1 values that are NaN or infinite"),
        (-2, "1 negative.*lowest -2"),
    ],
)
def test_values_no_expression_can_have(
    screen: AnnData, tmp_path: Path, value: float, message: str, layer: bool
) -> None:
    spoilt(screen, value, layer).write_h5ad(tmp_path / "bad.h5ad")
    with pytest.raises(DataError, match=message):
        read_cells(tmp_path / "bad.h5ad")


def test_bad_values_on_disk_are_found_when_their_rows_are_read(tmp_path: Path) -> None:
    n = 400
    values = np.ones((n, 2), dtype=np.float32)
    values[202, 1] = np.nan  # not among the sampled rows
    AnnData(sp.csr_matrix(values)).write_h5ad(tmp_path / "bad.h5ad")
    backed = read_cells(tmp_path / "bad.h5ad", backed=True)
    read_rows(backed.X, np.array([1, 200, 201]))
    with pytest.raises(DataError, match=r"NaN"):
        read_rows(backed.X, np.array([1, 202]))


def test_names_that_occur_twice(screen: AnnData) -> None:
    genes = screen.copy()
    genes.var_names = ["GATA1", "GATA1", *genes.var_names[2:]]
    with pytest.raises(DataError, match=r"1 duplicated gene names \(GATA1\); call var_names_make_unique"):
        check_cells(genes, "file")
    screen.obs_names = ["AAA", "AAA", *screen.obs_names[2:]]
    with pytest.raises(DataError, match=r"1 duplicated cell names \(AAA\)"):
        check_cells(screen, "file")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_cells_or_genes(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"has {shape[0]} cells and {shape[1]} genes"):
        check_cells(AnnData(np.ones(shape)), "file")


def test_no_matrix() -> None:
    with pytest.raises(DataError, match=r"has 2 cells and 1 genes"):
        check_cells(AnnData(obs=pd.DataFrame(index=["a", "b"]), var=pd.DataFrame(index=["g"])), "file")


@pytest.mark.parametrize("dense", [False, True])
def test_rows_come_in_the_order_asked_from_memory_and_disk(
    screen: AnnData, tmp_path: Path, dense: bool
) -> None:
    if dense:
        screen.X = screen.X.toarray()
    screen.write_h5ad(tmp_path / "screen.h5ad")
    index = np.array([7, 2, 2, 19, 0])
    expected = to_dense(screen.X)[index]
    for backed in (False, True):
        matrix = read_cells(tmp_path / "screen.h5ad", backed).X
        np.testing.assert_array_equal(to_dense(read_rows(matrix, index)), expected)


@given(st.integers(0, 30), st.integers(1, 8))
def test_chunks_put_together_are_the_index(n: int, size: int) -> None:
    index = np.arange(n)[::-1].copy()
    result = np.full(n, -1)
    for place, piece in row_chunks(index, size):
        assert len(piece) <= size
        result[place] = piece
    np.testing.assert_array_equal(result, index)


def test_counts_layer_goes_before_x(screen: AnnData) -> None:
    assert matrix_of(screen) is screen.X
    screen.layers["counts"] = screen.X * 2
    assert matrix_of(screen) is screen.layers["counts"]


counts_of_a_few_cells = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).negative_binomial(0.5, 0.1, size=(30, 40)).astype(np.float32)
        + np.eye(30, 40, dtype=np.float32)
    )
)


@settings(deadline=None, max_examples=40)
@given(counts_of_a_few_cells, st.sampled_from([50.0, 1e4, 1e6]), st.booleans())
def test_counts_logarithms_and_normalised_values_are_told_apart(
    counts: np.ndarray, target_sum: float, sparse: bool
) -> None:
    normalised = counts * (target_sum / counts.sum(axis=1, keepdims=True))
    form = sp.csr_matrix if sparse else np.asarray
    assert kind_of_values(form(counts)) == "counts"
    assert kind_of_values(form(normalised)) == "normalised"
    assert kind_of_values(form(np.log1p(normalised))) == "log1p"


def test_values_that_are_no_multiples_are_judged_by_their_size() -> None:
    smooth = np.random.default_rng(0).gamma(2.0, 1.0, size=(20, 30))
    assert kind_of_values(smooth) == "log1p"
    assert kind_of_values(100 * smooth) == "normalised"


def test_no_counts_at_all_are_counts() -> None:
    assert kind_of_values(sp.csr_matrix((5, 4), dtype=np.float32)) == "counts"


def test_anndata_reads_what_we_read(file: Path) -> None:
    assert_same_cells(read_cells(file), anndata.read_h5ad(file))
