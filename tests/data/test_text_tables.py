"""What is said of files of prior knowledge that are none."""

import pytest
from prior_texts import write

from perturbrl.data.edge_lists import read_edges
from perturbrl.data.feature_tables import read_features
from perturbrl.data.gene_sets import read_gene_sets
from perturbrl.errors import DataError


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
def test_a_file_that_is_something_else_is_told_so(tmp_path, read, text, said):
    with pytest.raises(DataError, match=said):
        read(write(tmp_path, text, "prior.csv"))
