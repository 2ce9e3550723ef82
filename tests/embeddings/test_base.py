import pytest
import torch

from perturbrl.embeddings.base import EncodedCells, check_enough
from perturbrl.errors import ConfigurationError, DataError


def cells(labels):
    n = len(labels)
    latent = torch.arange(2.0 * n).view(n, 2)
    return EncodedCells(latent, torch.zeros(n, 3), tuple(labels), ("a", "b", "c"))


def test_rows_and_means_by_label():
    found = cells(["B", "control", "A", "B", "control"])
    assert found.rows_of("B").tolist() == [0, 3]
    assert found.rows_of("control").tolist() == [1, 4]
    assert torch.equal(found.mean_of("B"), found.latent[[0, 3]].mean(0))
    assert found.perturbations == ["A", "B"]
    assert found.rows_of("unknown").tolist() == []


def test_an_unknown_label_is_named_with_the_choices():
    with pytest.raises(DataError, match=r"labelled 'X'; choose one of A and control$"):
        cells(["A", "control"]).mean_of("X")


def test_a_long_list_of_choices_is_cut():
    with pytest.raises(DataError, match=r"L19 and 20 more$"):
        cells([f"L{i}" for i in range(10, 40)] + [f"K{i}" for i in range(2)]).mean_of("X")


def test_many_labels_are_grouped_quickly():
    labels = [f"L{i % 2000}" for i in range(40_000)]
    found = cells(labels)
    assert sum(len(found.rows_of(label)) for label in found.perturbations) == 40_000
    assert found.rows_of("L1999").tolist() == list(range(1999, 40_000, 2000))


def test_enough_cells_and_genes():
    check_enough(torch.zeros(4, 9), 3)
    with pytest.raises(DataError, match=r"3 training cells with 9 genes cannot carry 3 .* to at most 2"):
        check_enough(torch.zeros(3, 9), 3)
    with pytest.raises(DataError, match="give more cells and genes"):
        check_enough(torch.zeros(1, 9), 1)
    with pytest.raises(ConfigurationError, match="latent_dim is 0"):
        check_enough(torch.zeros(3, 9), 0)
