import gzip
from pathlib import Path

import pandas as pd
import pytest

from perturbrl.data.regulators import read_regulators
from perturbrl.errors import DataError

LAYOUTS = {
    "dorothea": "tf,confidence,target,mor\nGata1,A,Klf1,1.0\nGata1,B,Spi1,-1.0\n",
    "collectri": "source\ttarget\tweight\tPMID\nGata1\tKlf1\t1\t1;2\nGata1\tSpi1\t-1\t3\n",
    "omnipath": "source_genesymbol,target_genesymbol,is_stimulation,is_inhibition\n"
    "Gata1,Klf1,True,False\nGata1,Spi1,False,True\nGata1,Both,True,True\n",
    "celloracle links": ",source,target,coef_mean,coef_abs,p\n0,Gata1,Klf1,1.0,1.0,.1\n1,Gata1,Spi1,-1.0,1.0,.1\n",
    "words": "TF\tTarget\tSign\nGata1\tKlf1\tActivation\nGata1\tSpi1\tRepression\nGata1\tMyb\tUnknown\n",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_signed_layouts_say_the_same(layout: str, tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text(LAYOUTS[layout])
    found = read_regulators(tmp_path / "table.txt")
    edges = {(row.factor, row.target): row.weight for row in found.edges.itertuples()}
    assert edges == {("Gata1", "Klf1"): 1.0, ("Gata1", "Spi1"): -1.0}
    assert found.is_signed


def test_adjacencies_and_base_networks_have_no_signs(tmp_path: Path) -> None:
    (tmp_path / "adjacency.tsv").write_text("TF\ttarget\timportance\nGata1\tKlf1\t8.5\nMyb\tKlf1\t2\n")
    (tmp_path / "base.csv").write_text(
        "peak_id,gene_short_name,Gata1,Myb\np1,Klf1,1,0\np2,Klf1,1,1\np3,Spi1,0,0\n"
    )
    adjacency, base = (read_regulators(tmp_path / name) for name in ("adjacency.tsv", "base.csv"))
    assert not adjacency.is_signed
    assert not base.is_signed
    assert adjacency.edges["weight"].tolist() == [8.5, 2.0]
    assert base.edges.to_numpy().tolist() == [["Gata1", "Klf1", 1.0], ["Myb", "Klf1", 1.0]]


def test_a_gzipped_table_with_a_pair_twice_counts_it_once(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"tf,target,mor\nA,B,1\nA,B,0.5\nA,C,1\nA,C,-1\n"))
    found = read_regulators(path)
    assert found.edges.to_numpy().tolist() == [["A", "B", 0.75]]


def test_only_measured_targets_are_left_and_no_factor_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("tf,target,mor\nA,A,1\nA,B,1\nA,C,-1\nD,E,1\n")
    found = read_regulators(tmp_path / "t.csv").among(["A", "B", "C"])
    assert found.factors == ("A",)
    assert found.targets == ("B", "C")


def test_other_names_are_heeded(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("tf,target,mor\nSpi1,B,1\nA,Spi1,-1\n")
    found = read_regulators(tmp_path / "t.csv").renamed({"Spi1": "Sfpi1"})
    expected = pd.DataFrame({"factor": ["A", "Sfpi1"], "target": ["Sfpi1", "B"], "weight": [-1.0, 1.0]})
    pd.testing.assert_frame_equal(found.edges, expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", r"has the columns \['a', 'b'\]"),
        ("tf,target,mor\nA,B,strong\n", r"1 of 1 entries in the column 'mor' of 't.csv' .*'strong'"),
        ("tf,target,mor\nA,,1\n", "1 lines of 't.csv' lack"),
        ("tf,target,mor\nA,B,0\n", "has no edge"),
        ("", "cannot be read as a table of regulators"),
    ],
)
def test_what_is_no_such_table_is_said(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        read_regulators(tmp_path / "t.csv")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv' cannot be read"):
        read_regulators(tmp_path / "none.csv")


def test_a_damaged_archive_is_said(tmp_path):
    path = tmp_path / "net.csv.gz"
    content = bytearray(gzip.compress(b"tf,target,mor\n" + b"A,B,1\n" * 4000))
    content[40:60] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"net\.csv\.gz' cannot be read as a table of regulators"):
        read_regulators(path)
