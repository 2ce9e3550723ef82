"""Tables of numbers as similarities, and what is said of files that are none."""

import numpy as np
import pytest
from prior_texts import write

from perturbrl.data.feature_tables import read_features
from perturbrl.errors import DataError


def test_features_are_centred_before_they_are_compared(tmp_path):
    prior = read_features(write(tmp_path, "gene,x,y\nA,10,11\nB,10.1,11\nC,12,9\nD,12,9.1\n", "f.csv"))
    alike, unlike = prior.similarity(["A"], ["B", "C"])[0]
    assert alike > 0.9
    assert unlike < -0.9


@pytest.mark.parametrize("header", ["", "name\tx\ty\n"])
def test_a_table_of_features_needs_no_line_of_names(tmp_path, header):
    path = tmp_path / "features.tsv"
    path.write_text(f"{header}A\t1\t-2.5\nB\t2\t1e-3\n")
    assert read_features(path).names == ("A", "B")


@pytest.mark.parametrize(
    "text",
    [
        # write.table(x) of a matrix with row names, and of a data frame whose rows are numbered
        '"x" "y"\n"A" 1 -2.5\n"B" 2 0.001\n"C" 0 1\n',
        '"gene" "x" "y"\n"1" "A" 1 -2.5\n"2" "B" 2 0.001\n"3" "C" 0 1\n',
        "x\ty\nA\t1\t-2.5\nB\t2\t0.001\nC\t0\t1\n",
        '"","x","y"\n"A",1,-2.5\n"B",2,0.001\n"C",0,1\n',
    ],
)
def test_tables_written_by_r_are_read_as_they_are_meant(tmp_path, text):
    prior = read_features(write(tmp_path, text, "features.txt"))
    assert prior.names == ("A", "B", "C")
    plain = read_features(write(tmp_path, "A\t1\t-2.5\nB\t2\t0.001\nC\t0\t1\n", "plain.tsv"))
    np.testing.assert_allclose(prior.features.toarray(), plain.features.toarray())


def test_a_first_line_that_names_too_few_columns_is_told_so(tmp_path):
    with pytest.raises(DataError, match="names 2 columns, and other lines have 4; name every column"):
        read_features(write(tmp_path, "x y\nA 1 2 3\nB 2 1 3\n", "f.txt"))
