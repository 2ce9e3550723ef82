from pathlib import Path

import numpy as np
import pytest
import scanpy
import scipy.sparse as sp
import torch
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from places import measured_file
from scipy.stats import ttest_ind

from perturbrl.data import preprocessing
from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import ColumnOptions, FieldMap, detect_fields
from perturbrl.data.reading import row_chunks, to_dense
from perturbrl.data.splits import HeldOutCells
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import ConfigurationError, DataError


def screen(n_genes: int = 60, seed: int = 0) -> AnnData:
    return simulate_screen(4, n_genes, 60, 20, 2, seed=seed)


def dataset_of(adata: AnnData, **keys: str) -> PerturbationDataset:
    return PerturbationDataset.from_adata(adata, detect_fields(adata, ColumnOptions(**keys)))


DATASET = dataset_of(screen())
TRAIN = HeldOutCells(0.3).split(DATASET).train
EVERY = np.arange(DATASET.n_cells)


def test_the_formula() -> None:
    counts = np.array([[1.0, 0.0, 3.0], [0.0, 2.0, 7.0]])
    adata = AnnData(sp.csr_matrix(counts), obs={"perturbation": ["control", "A"], "total": [40.0, 80.0]})
    dataset = PerturbationDataset.from_adata(
        adata, FieldMap("perturbation", "control", size_factor_key="total")
    )
    values = (
        Preprocessor(None, target_sum=10).fit(dataset, np.array([0, 1])).transform(dataset, np.array([1, 0]))
    )
    expected = np.log1p(counts[[1, 0]] * np.array([[10 / 80], [10 / 40]]))
    torch.testing.assert_close(values, torch.from_numpy(expected.astype(np.float32)))
    assert values.dtype == torch.float32


def test_scanpy_normalises_alike() -> None:
    ours = Preprocessor(None).fit(DATASET, EVERY)
    theirs = DATASET.adata.copy()
    scanpy.pp.normalize_total(theirs, target_sum=1e4)
    scanpy.pp.log1p(theirs)
    expected = torch.from_numpy(to_dense(theirs[:, list(ours.genes)].X))
    torch.testing.assert_close(ours.transform(DATASET, EVERY), expected, rtol=1e-5, atol=1e-5)


def test_the_genes_that_vary_most_among_the_training_cells_are_kept() -> None:
    ours = Preprocessor(20).fit(DATASET, TRAIN)
    variance = Preprocessor(None).fit(DATASET, TRAIN).transform(DATASET, TRAIN).double().var(dim=0)
    expected = sorted(variance.topk(20).indices.tolist())
    assert ours.genes == tuple(DATASET.genes[column] for column in expected)


def test_a_constant_gene_is_dropped() -> None:
    adata = screen()
    logged = np.log1p(adata.X.toarray() / 7.3)
    logged[:, 5] = 0.3
    adata.X = logged
    dataset = dataset_of(adata)
    assert dataset.value_kind == "log1p"
    assert set(dataset.genes) - set(Preprocessor(None).fit(dataset, TRAIN).genes) == {"GENE0005"}


def test_held_out_cells_change_nothing_that_is_learned() -> None:
    spoilt = screen()
    held_out = np.setdiff1d(EVERY, TRAIN)
    counts = spoilt.X.toarray()
    counts[held_out] = np.random.default_rng(0).poisson(50, size=counts[held_out].shape)
    spoilt.X = sp.csr_matrix(counts)
    clean, other = Preprocessor(15).fit(DATASET, TRAIN), Preprocessor(15).fit(dataset_of(spoilt), TRAIN)
    assert clean.state_dict() == other.state_dict()
    assert Preprocessor(15).fit(DATASET, held_out).genes != clean.genes


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 70), st.integers(0, 3))
def test_as_many_genes_as_asked_and_all_of_them_vary(n: int, seed: int) -> None:
    adata = screen(seed=seed)
    counts = adata.X.tolil()
    counts[:, :10] = 0
    adata.X = counts.tocsr()
    dataset = dataset_of(adata)
    fitted = Preprocessor(n).fit(dataset, TRAIN)
    assert len(fitted.genes) == min(n, 50)
    assert bool((fitted.transform(dataset, TRAIN).std(dim=0) > 0).all())


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("backed", [False, True])
def test_pieces_from_memory_or_disk_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dense: bool, backed: bool
) -> None:
    adata = screen()
    if dense:
        adata.X = adata.X.toarray()
    adata.write_h5ad(tmp_path / "screen.h5ad")
    dataset = load_dataset(tmp_path / "screen.h5ad", backed=backed)
    fitted = Preprocessor(25).fit(dataset, TRAIN)
    index = np.random.default_rng(0).permutation(EVERY)
    whole = fitted.transform(dataset, index)
    monkeypatch.setattr(preprocessing.row_chunks, "__defaults__", (7,))
    torch.testing.assert_close(fitted.transform(dataset, index), whole, rtol=0, atol=0)
    reference = Preprocessor(25).fit(DATASET, TRAIN)
    torch.testing.assert_close(whole, reference.transform(DATASET, index), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows_at_a_time", [7, 4096])
def test_compressed_rows_hold_the_same_values(rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing, "row_chunks", lambda index: row_chunks(index, rows_at_a_time))
    fitted = Preprocessor(n_top_genes=None).fit(DATASET, EVERY)
    found = fitted.transform_sparse(DATASET, EVERY[::2])
    np.testing.assert_array_equal(found.toarray(), fitted.transform(DATASET, EVERY[::2]).numpy())
    assert found.dtype == np.float32
    assert found.nnz < found.shape[0] * found.shape[1]


def test_genes_are_found_by_name() -> None:
    fitted = Preprocessor(25).fit(DATASET, TRAIN)
    backwards = screen()[:, ::-1].copy()
    backwards.var_names = backwards.var_names.astype(str)
    torch.testing.assert_close(
        fitted.transform(dataset_of(backwards), EVERY), fitted.transform(DATASET, EVERY)
    )


def test_a_missing_gene_is_named_and_never_zero() -> None:
    fitted = Preprocessor(None).fit(DATASET, TRAIN)
    with pytest.raises(DataError, match=r"lack 2 of the 60 genes .*\(GENE0000 and GENE0001\)"):
        fitted.transform(dataset_of(screen()[:, 2:].copy()), EVERY)


def test_log_values_are_taken_as_they_are_and_normalised_ones_get_log1p() -> None:
    logged, linear = screen(), screen()
    scanpy.pp.normalize_total(linear, target_sum=1e4)
    logged.X = np.log1p(linear.X)
    for adata, expected in ((logged, logged.X), (linear, logged.X)):
        dataset = dataset_of(adata)
        values = Preprocessor(None).fit(dataset, EVERY).transform(dataset, EVERY)
        torch.testing.assert_close(values, torch.from_numpy(expected.toarray()))
    with pytest.raises(DataError, match=r"the data are log1p, .* counts; give the same kind"):
        Preprocessor(None).fit(DATASET, EVERY).transform(dataset_of(logged), EVERY)


def test_a_checkpoint_holds_all_of_it(tmp_path: Path) -> None:
    for n_top_genes in (None, 12):
        fitted = Preprocessor(n_top_genes, target_sum=500.0).fit(DATASET, TRAIN)
        torch.save(fitted.state_dict(), tmp_path / "state.pt")
        restored = Preprocessor.from_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert restored.state_dict() == fitted.state_dict()
        torch.testing.assert_close(restored.transform(DATASET, EVERY), fitted.transform(DATASET, EVERY))


def test_options_and_uses_that_cannot_work() -> None:
    for options in ({"n_top_genes": 0}, {"target_sum": 0.0}):
        with pytest.raises(ConfigurationError, match="both have to be positive"):
            Preprocessor(**options)
    with pytest.raises(ConfigurationError, match="fit it or restore it first"):
        Preprocessor().transform(DATASET, EVERY)
    with pytest.raises(DataError, match="no training cell"):
        Preprocessor().fit(DATASET, EVERY[:0])
    with pytest.raises(DataError, match="no gene varies among 1 training cells"):
        Preprocessor().fit(DATASET, EVERY[:1])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "label", "n_top_genes", "at_least"),
    [("kang2018_pbmc_ifnb", "IFNB", 2000, 48), ("cao2018_a549_dex_rna_atac", "dexamethasone", 500, 43)],
)
def test_genes_that_respond_are_kept(file: str, label: str, n_top_genes: int, at_least: int) -> None:
    path = measured_file(f"{file}.h5ad")
    dataset = load_dataset(path)
    every = Preprocessor(None).fit(dataset, np.arange(dataset.n_cells))
    perturbed, control = (
        every.transform(dataset, dataset.population_rows(which)).numpy() for which in (label, "control")
    )
    t = np.abs(np.nan_to_num(ttest_ind(perturbed, control, equal_var=False).statistic))
    responding = {every.genes[column] for column in np.argsort(-t)[:50]}
    kept = set(Preprocessor(n_top_genes).fit(dataset, HeldOutCells().split(dataset).train).genes)
    assert len(kept) == n_top_genes
    assert len(responding & kept) >= at_least


@pytest.mark.realdata
def test_interferon_genes_come_out_of_stimulated_blood() -> None:
    path = measured_file("kang2018_pbmc_ifnb.h5ad")
    dataset = load_dataset(path)
    fitted = Preprocessor(500).fit(dataset, HeldOutCells().split(dataset).train)
    means = [
        fitted.transform(dataset, dataset.population_rows(label)).mean(dim=0) for label in ("IFNB", "control")
    ]
    strongest = [fitted.genes[i] for i in (means[0] - means[1]).topk(8).indices]
    assert {"ISG15", "IFI6", "IFIT1", "IFIT3"} <= set(strongest)
