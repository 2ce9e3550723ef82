"""Gene sets as similarities, and what is said of files that are none."""

import gzip

import pytest
from numpy.testing import assert_allclose
from places import measured_file
from prior_texts import GMT, write

from perturbrl.data.gene_sets import read_gene_sets
from perturbrl.errors import DataError


@pytest.mark.parametrize("name", ["prior.gmt", "prior.gmt.gz"])
def test_genes_of_one_set_are_alike(tmp_path, name):
    prior = read_gene_sets(write(tmp_path, GMT, name))
    found = prior.similarity(["A", "C", "F"], ["A", "B", "C", "D"])
    assert_allclose(found, [[1, 1, 2**-0.5, 0], [2**-0.5, 2**-0.5, 1, 2**-0.5], [0, 0, 0, 0]])
    assert prior.knows("A")
    assert not prior.knows("F")
    assert not prior.knows("nobody")


def test_small_sets_say_more(tmp_path):
    large = "large\tabout\t" + "\t".join(f"x{i}" for i in range(20)) + "\tA\tB\n"
    prior = read_gene_sets(write(tmp_path, large + "small\tabout\tA\tC\tD\n"))
    to_b, to_c = prior.similarity(["A"], ["B", "C"])[0]
    assert to_c > to_b > 0


def test_sets_of_one_name_are_sets_of_their_own_and_a_line_that_comes_twice_counts_once(tmp_path):
    prior = read_gene_sets(write(tmp_path, "one\tx\tA\tB\tC\n" + GMT.replace("two", "one")))
    assert prior.names == ("A", "B", "C", "D", "E")
    assert prior.features.shape == (5, 2)


def test_a_missing_and_a_broken_file_are_told_so(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_gene_sets(tmp_path / "nowhere.gmt")
    (tmp_path / "broken.gmt.gz").write_bytes(gzip.compress(GMT.encode())[:20])
    with pytest.raises(DataError, match="cannot be read"):
        read_gene_sets(tmp_path / "broken.gmt.gz")


@pytest.mark.realdata
def test_reactome_knows_the_interferon_pathway():
    path = measured_file("prior/reactome_pathways.gmt")
    near, far = read_gene_sets(path).similarity(["STAT1"], ["JAK2", "SMAD4"])[0]
    assert near > 2 * far
