"""What is said of files of prior knowledge that are none."""

import gzip
import tracemalloc

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
        (read_features, "A\nB\n", r"'prior.csv' has a column of names and no feature"),
        (read_features, "gene,x\n", r"'prior.csv' has features of no perturbation"),
        (read_features, "", r"'prior.csv' is empty"),
        (read_edges, "", r"'prior.csv' is empty"),
        (read_features, "gene,x\nA,1\nA,2\n", r"features of A twice"),
    ],
)
def test_a_file_that_is_something_else_is_told_so(tmp_path, read, text, said):
    with pytest.raises(DataError, match=said):
        read(write(tmp_path, text, "prior.csv"))


@pytest.mark.parametrize("read", [read_gene_sets, read_edges, read_features])
def test_a_damaged_or_cut_archive_and_a_missing_file_are_told_so(tmp_path, read):
    text = "".join(f"g{i}\th{i * i}\t{i / 7:.5f}\n" for i in range(5000))
    whole = gzip.compress(text.encode())
    flipped = bytearray(whole)
    flipped[10:30] = bytes([255] * 20)
    for content in (whole[: len(whole) // 2], bytes(flipped), b"no archive at all"):
        (tmp_path / "prior.tsv.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"'.*prior\.tsv\.gz' cannot be read as text"):
            read(tmp_path / "prior.tsv.gz")
    with pytest.raises(DataError, match=r"'.*nowhere\.tsv' cannot be read as text"):
        read(tmp_path / "nowhere.tsv")
    (tmp_path / "image.tsv").write_bytes(b"g1\th1\t1\n" + bytes(range(128, 256)) * 50)
    with pytest.raises(DataError, match=r"'.*image\.tsv' cannot be read as text"):
        read(tmp_path / "image.tsv")


def test_blank_lines_say_nothing(tmp_path):
    prior = read_features(write(tmp_path, "\ngene,x\n  \nA,1\n\nB,2\n", "f.csv"))
    assert prior.names == ("A", "B")


def test_a_table_takes_little_more_memory_than_its_file(tmp_path):
    """A network of all human genes has hundreds of megabytes."""
    lines = (f"9606.P{i % 3000:05d} 9606.P{i * 7 % 3001:05d} {i % 1000}\n" for i in range(400_000))
    path = write(tmp_path, "protein1 protein2 combined_score\n" + "".join(lines), "network.txt")
    tracemalloc.start()
    read_edges(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7 * path.stat().st_size
