"""Tables of numbers as similarities, and what is said of files that are none."""

import pytest
from prior_texts import write

from perturbrl.data.feature_tables import read_features
from perturbrl.errors import DataError


def test_features_are_centred_before_they_are_compared(tmp_path):
    prior = read_features(write(tmp_path, "gene,x,y\nA,10,11\nB,10.1,11\nC,12,9\nD,12,9.1\n", "f.csv"))
    alike, unlike = prior.similarity(["A"], ["B", "C"])[0]
    assert alike > 0.9
    assert unlike < -0.9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gene,x\nA,1\nB,\n", r"1 of 2 features .* \(first: of B\)"),
        ("gene,x\nA,1\nB,inf\n", r"1 of 2 features .* \(first: of B\)"),
        ("gene,x\nA,nan\nB,2\n", r"1 of 2 features .* \(first: of A\)"),
        ("A\nB\n", r"0 of 0 features"),
        ("gene,x\nA,1\nA,2\n", r"features of A twice"),
    ],
)
def test_a_file_that_is_something_else_is_told_so(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_features(write(tmp_path, text, "prior.csv"))


@pytest.mark.parametrize("header", ["", "name\tx\ty\n"])
def test_a_table_of_features_needs_no_line_of_names(tmp_path, header):
    path = tmp_path / "features.tsv"
    path.write_text(f"{header}A\t1\t-2.5\nB\t2\t1e-3\n")
    assert read_features(path).names == ("A", "B")
