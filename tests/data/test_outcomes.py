"""Outcomes and costs from tables: what is read, and what is refused in one sentence."""

import gzip
from pathlib import Path

import pytest

from perturbrl.data.costs import Costs
from perturbrl.data.labels import Label
from perturbrl.data.outcomes import read_outcomes
from perturbrl.errors import ConfigurationError, DataError


def table(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_one_name_or_two_and_several_tables(tmp_path: Path) -> None:
    singles = table(tmp_path, "gene,fitness,other\nA,-0.5,3\nB,0.25,4\nC,,5\n")
    pairs = table(tmp_path, "a,b,fitness\nB,A,-0.75\nA,B,-0.25\nA,C,1\n", "pairs.csv.gz")
    found = read_outcomes([singles, pairs])
    assert found.singles == {"A": -0.5, "B": 0.25}
    assert found.pairs == {Label.parse("A+B"): -0.5, Label.parse("A+C"): 1.0}
    assert found.left_out == ("C",)
    together = read_outcomes([table(tmp_path, "A\t-0.5\nB\t0.25\nB+A\t-0.5\nA+C\t1\n", "one.tsv")])
    assert (together.singles, together.pairs) == (found.singles, found.pairs)


def test_tables_without_pairs_or_numbers_are_refused(tmp_path: Path) -> None:
    for text, said in (
        ("gene,fitness\nA,1\n", "table.csv has no pair with a number"),
        ("gene,fitness\nA+B,1\n", "table.csv has no single perturbation with a number"),
        ("gene,other\nA,x\n", "'table.csv' has 0 columns of names before its numbers"),
        ("a,b\nA+B+C,1\nA,2\n", "names three or more perturbations in one line"),
    ):
        with pytest.raises(DataError, match=said.replace("+", r"\+")):
            read_outcomes([table(tmp_path, text)])
    with pytest.raises(ConfigurationError, match="outcome names no file"):
        read_outcomes([])


def test_costs_are_of_names_and_of_combinations(tmp_path: Path) -> None:
    costs = Costs.read(table(tmp_path, "name,cost\nA,2\nB,3\nB+A,4\nC,1\n"))
    assert costs.each([Label.parse(one) for one in ("A", "A+B", "B+C")]).tolist() == [2.0, 4.0, 4.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name,cost\nA,2\nB,-3\nC,\n",
            r"2 of 3 costs of 'table.csv' are missing or not above 0 \(B -3 and C nan\)",
        ),
        ("name,cost\nA,2\nB,free\n", "1 of 2 costs of 'table.csv' are missing"),
        ("name,cost\nA,0\nB,1\n", "1 of 2 costs"),
        ("name\nA\nB\n", "'table.csv' has one column"),
    ],
)
def test_costs_that_cannot_be_weighed_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Costs.read(table(tmp_path, text))


def test_a_candidate_without_a_cost_is_named() -> None:
    with pytest.raises(DataError, match=r"'costs' has no cost of 1 perturbations of the candidates \(B\)"):
        Costs.checked({"A": 1.0}).each([Label.parse("A+B")])
