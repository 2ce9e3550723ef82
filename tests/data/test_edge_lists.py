"""Networks as similarities, and what is said of files that are none."""

import numpy as np
import pytest
from prior_texts import write

from perturbrl.data.edge_lists import read_edges
from perturbrl.errors import DataError


def test_nodes_that_share_neighbours_are_alike(tmp_path):
    ring = [f"hub1,a{i},1\nhub1,b{i},1\nhub2,c{i},1\nhub2,d{i},1" for i in range(6)]
    prior = read_edges(write(tmp_path, "x,y,w\n" + "\n".join(ring), "edges.csv"), dimensions=8)
    same, other = prior.similarity(["a0"], ["b3", "c3"])[0]
    assert same > 0.9 > 0.1 > abs(other)


def test_columns_of_published_networks_are_known(tmp_path):
    table = "tf,confidence,target,mor\nT1,A,g1,1.0\nT1,A,g2,-1.0\nT2,B,g3,1.0\n"
    assert set(read_edges(write(tmp_path, table, "tf.csv")).names) == {"T1", "T2", "g1", "g2", "g3"}


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


def test_an_edge_without_an_end_is_an_error(tmp_path):
    path = tmp_path / "edges.tsv"
    path.write_text("tf\ttarget\nA\tB\nA\t\n")
    with pytest.raises(DataError, match=r"1 lines of 'edges.tsv' lack a name"):
        read_edges(path)


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


@pytest.mark.parametrize("ends", [("tf", "target"), ("regulator", "gene")])
def test_row_names_of_r_are_no_ends(tmp_path, ends):
    head = " ".join(f'"{one}"' for one in (*ends, "w"))
    rows = ['"1" "A" "B" 2', '"2" "B" "C" 3']
    assert read_edges(write(tmp_path, "\n".join((head, *rows)), "edges.txt")).names == ("A", "B", "C")
    named = [row.replace('"1"', '"e1"').replace('"2"', '"e2"') for row in rows]
    assert read_edges(write(tmp_path, "\n".join((head, *named)), "edges.txt")).names == ("A", "B", "C")
