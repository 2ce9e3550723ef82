"""Features of perturbations as similarities."""

import numpy as np
import torch
from prior_texts import GMT, write
from scipy.sparse import csr_matrix

from perturbrl.data.edge_lists import read_edges
from perturbrl.data.gene_sets import read_gene_sets
from perturbrl.data.prior_knowledge import PriorKnowledge, ScreenShifts


def test_similarities_are_those_of_a_covariance(tmp_path):
    edges = "protein1 protein2 combined_score\n" + "\n".join(
        f"n{i} n{(i * 7 + 3) % 40} {100 + i}" for i in range(40)
    )
    for prior in (read_gene_sets(write(tmp_path, GMT)), read_edges(write(tmp_path, edges, "edges.txt"))):
        names = [*prior.names, "unknown"]
        found = prior.similarity(names, names)
        np.testing.assert_allclose(found, found.T, atol=1e-12)
        assert np.linalg.eigvalsh(found).min() > -1e-9


def test_prior_knowledge_goes_through_a_checkpoint(tmp_path):
    prior = read_gene_sets(write(tmp_path, GMT))
    torch.save(prior.to_dict(), tmp_path / "saved.pt")
    restored = PriorKnowledge.from_dict(torch.load(tmp_path / "saved.pt", weights_only=True))
    assert (restored.source, restored.names) == (prior.source, prior.names)
    assert (restored.features != prior.features).nnz == 0
    assert restored.features.shape == prior.features.shape


def test_a_screen_goes_through_a_checkpoint():
    values = np.arange(6.0).reshape(2, 3)
    prior = PriorKnowledge("s", ("A", "B"), csr_matrix(values), ScreenShifts(("x", "y", "z"), values))
    restored = PriorKnowledge.from_dict(prior.to_dict())
    assert restored.screen.genes == ("x", "y", "z")
    np.testing.assert_array_equal(restored.screen.values, values)
    np.testing.assert_array_equal(
        restored.screen.of_genes(["z", "new", "x"]), values[:, [2, 0, 0]] * [1, 0, 1]
    )


def test_a_name_is_likened_to_those_with_which_it_shares_a_feature(tmp_path):
    prior = read_gene_sets(write(tmp_path, GMT))
    to_a, to_c, to_nobody = (prior.likens(names) for names in (["A", "F"], ["C", "nobody"], ["nobody"]))
    assert [name for name in "ABCDEF" if to_a(name)] == ["A", "B", "C"]
    assert [name for name in "ABCDEF" if to_c(name)] == ["A", "B", "C", "D", "E"]
    assert not any(map(to_nobody, [*"ABCDEF", "nobody"]))


def test_prominence_is_how_much_is_said_in_units_of_the_mean():
    prior = PriorKnowledge("told", ("A", "B", "F"), csr_matrix([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(prior.prominence(["A", "B", "F", "Q"]), [5 / 3, 1 / 3, 1.0, 1.0])
    nothing = PriorKnowledge("nothing", ("A",), csr_matrix((1, 2)))
    np.testing.assert_array_equal(nothing.prominence(["A"]), [1.0])
