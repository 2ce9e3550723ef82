"""Gene sets, networks and tables as similarities, and what is said of files that are none of these."""

import gzip

import numpy as np
import pytest
import torch
from places import DATA
from scipy.sparse import csr_matrix

from perturbrl.data.prior_knowledge import (
    PriorKnowledge,
    ScreenShifts,
    read_aliases,
    read_edges,
    read_features,
    read_gene_sets,
)
from perturbrl.errors import DataError

GMT = "one\tabout\tA\tB\tC\ntwo\tabout\tC\tD\tE\nlonely\tabout\tF\n"


def write(folder, text, name="prior.gmt"):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["prior.gmt", "prior.gmt.gz"])
def test_genes_of_one_set_are_alike(tmp_path, name):
    prior = read_gene_sets(write(tmp_path, GMT, name))
    found = prior.similarity(["A", "C", "F"], ["A", "B", "C", "D"])
    np.testing.assert_allclose(found, [[1, 1, 2**-0.5, 0], [2**-0.5, 2**-0.5, 1, 2**-0.5], [0, 0, 0, 0]])
    assert prior.knows("A")
    assert not prior.knows("F")
    assert not prior.knows("nobody")


def test_small_sets_say_more(tmp_path):
    large = "large\tabout\t" + "\t".join(f"x{i}" for i in range(20)) + "\tA\tB\n"
    prior = read_gene_sets(write(tmp_path, large + "small\tabout\tA\tC\tD\n"))
    to_b, to_c = prior.similarity(["A"], ["B", "C"])[0]
    assert to_c > to_b > 0


def test_similarities_are_those_of_a_covariance(tmp_path):
    edges = "protein1 protein2 combined_score\n" + "\n".join(
        f"n{i} n{(i * 7 + 3) % 40} {100 + i}" for i in range(40)
    )
    for prior in (read_gene_sets(write(tmp_path, GMT)), read_edges(write(tmp_path, edges, "edges.txt"))):
        names = [*prior.names, "unknown"]
        found = prior.similarity(names, names)
        np.testing.assert_allclose(found, found.T, atol=1e-12)
        assert np.linalg.eigvalsh(found).min() > -1e-9


def test_nodes_that_share_neighbours_are_alike(tmp_path):
    ring = [f"hub1,a{i},1\nhub1,b{i},1\nhub2,c{i},1\nhub2,d{i},1" for i in range(6)]
    prior = read_edges(write(tmp_path, "x,y,w\n" + "\n".join(ring), "edges.csv"), dimensions=8)
    same, other = prior.similarity(["a0"], ["b3", "c3"])[0]
    assert same > 0.9 > 0.1 > abs(other)


def test_columns_of_published_networks_are_known(tmp_path):
    table = "tf,confidence,target,mor\nT1,A,g1,1.0\nT1,A,g2,-1.0\nT2,B,g3,1.0\n"
    assert set(read_edges(write(tmp_path, table, "tf.csv")).names) == {"T1", "T2", "g1", "g2", "g3"}


def test_features_are_centred_before_they_are_compared(tmp_path):
    prior = read_features(write(tmp_path, "gene,x,y\nA,10,11\nB,10.1,11\nC,12,9\nD,12,9.1\n", "f.csv"))
    alike, unlike = prior.similarity(["A"], ["B", "C"])[0]
    assert alike > 0.9
    assert unlike < -0.9


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (read_gene_sets, "A,B,C\n", r"no GMT file: line 1 \('A,B,C'\) has 1 tab-separated"),
        (read_gene_sets, "one\tabout\tA\n", r"no gene set of 3 to 500 genes"),
        (read_edges, "a\nb\n", r"has 1 column"),
        (read_edges, "a,b,w\nx,y,strong\n", r"no weight .* is a number \(first: 'strong'\)"),
        (read_edges, "a,b,w\nx,y,1\nx,z,\n", r"1 weights .* are missing"),
        (read_edges, "a,b,w\nx,y,0.5\nx,z,strong\n", r"1 weights .* no numbers \(first: 'strong'\)"),
        (read_edges, "A pp B\nB pp C\n", r"\(first: 'C'\).*call the file \.sif"),
        (read_features, "gene,x\nA,1\nB,\n", r"1 of 2 features .* \(first: of B\)"),
        (read_features, "gene,x\nA,1\nB,inf\n", r"1 of 2 features .* \(first: of B\)"),
        (read_features, "gene,x\nA,nan\nB,2\n", r"1 of 2 features .* \(first: of A\)"),
        (read_features, "A\nB\n", r"0 of 0 features"),
        (read_features, "gene,x\nA,1\nA,2\n", r"features of A twice"),
    ],
)
def test_files_that_are_something_else_are_told_so(tmp_path, read, text, said):
    with pytest.raises(DataError, match=said):
        read(write(tmp_path, text, "prior.csv"))


def test_a_missing_and_a_broken_file_are_told_so(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_gene_sets(tmp_path / "nowhere.gmt")
    (tmp_path / "broken.gmt.gz").write_bytes(gzip.compress(GMT.encode())[:20])
    with pytest.raises(DataError, match="cannot be read"):
        read_gene_sets(tmp_path / "broken.gmt.gz")


@pytest.mark.realdata
def test_reactome_knows_the_interferon_pathway():
    path = DATA / "prior" / "reactome_pathways.gmt"
    if not path.exists():
        pytest.skip("reactome_pathways.gmt is absent; set PERTURBRL_DATA to the folder that holds prior/")
    near, far = read_gene_sets(path).similarity(["STAT1"], ["JAK2", "SMAD4"])[0]
    assert near > 2 * far


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A\tB\nB\tC\n", ("A", "B", "C")),
        ("A B 900\nB C 800\n", ("A", "B", "C")),
        ("tf\ttarget\nA\tB\nB\tC\n", ("A", "B", "C")),
        ("gene,partner,score\nA,B,1\nB,C,2\n", ("A", "B", "C")),
    ],
)
def test_an_edge_list_needs_no_line_of_names(tmp_path, text, names):
    path = tmp_path / "edges.txt"
    path.write_text(text)
    assert read_edges(path).names == names


@pytest.mark.parametrize("header", ["", "name\tx\ty\n"])
def test_a_table_of_features_needs_no_line_of_names(tmp_path, header):
    path = tmp_path / "features.tsv"
    path.write_text(f"{header}A\t1\t-2.5\nB\t2\t1e-3\n")
    assert read_features(path).names == ("A", "B")


def test_an_edge_without_an_end_is_an_error(tmp_path):
    path = tmp_path / "edges.tsv"
    path.write_text("tf\ttarget\nA\tB\nA\t\n")
    with pytest.raises(DataError, match=r"1 lines of 'edges.tsv' lack a name"):
        read_edges(path)


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


def test_aliases_rename_what_a_prior_knows(tmp_path):
    path = tmp_path / "aliases.csv"
    path.write_text("alias,name\nP53,TP53\nOCT4,POU5F1\nold,new\n")
    aliases = read_aliases(path)
    assert aliases == {"P53": "TP53", "OCT4": "POU5F1", "old": "new"}
    values = np.diag([1.0, 2.0, 3.0])
    prior = PriorKnowledge(
        "s", ("OCT4", "P53", "TP53"), csr_matrix(values), ScreenShifts(("x", "y", "z"), values)
    )
    renamed = prior.renamed(aliases)
    assert set(renamed.names) == {"POU5F1", "TP53"}
    # What is there under the name itself is not replaced by what is there under an alias.
    row = renamed.names.index("TP53")
    np.testing.assert_array_equal(renamed.screen.values[row], [0, 0, 3])
    np.testing.assert_array_equal(renamed.features.toarray()[row], [0, 0, 3])
    assert not renamed.knows("P53")
    assert prior.renamed({}).names == prior.names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("P53\tTP53\tx\n", "3 columns"),
        ("P53,TP53\nP53,MYC\n", "gives P53 several names"),
        ("P53,TP53\nTP53,MYC\n", "has TP53 both as a name and as an alias"),
        ("P53,TP53\nMYC,\n", "1 empty fields"),
    ],
)
def test_aliases_that_cannot_be_followed_are_errors(tmp_path, text, said):
    path = tmp_path / "aliases.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_aliases(path)


@pytest.mark.parametrize("text", ["A pp B C\nB pd C\nlonely\n", "A\tpp\tB\nA\tpp\tC\nB\tbinds to\tC\n"])
def test_sif_files_name_interactions_between_the_ends(tmp_path, text):
    prior = read_edges(write(tmp_path, text, "network.sif"))
    assert prior.names == ("A", "B", "C")
    np.testing.assert_allclose(prior.similarity(["A"], ["B"]), read_triangle(tmp_path))


def read_triangle(folder):
    return read_edges(write(folder, "A,B\nA,C\nB,C\n", "edges.csv")).similarity(["A"], ["B"])


@pytest.mark.parametrize("text", ["A\nB\n", "A B\nB C\n"])
def test_a_sif_file_without_targets_is_told_so(tmp_path, text):
    with pytest.raises(DataError, match=r"is no SIF file \('A"):
        read_edges(write(tmp_path, text, "network.sif"))


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
