import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.errors import NetworkError
from perturbrl.networks.bnet import MAX_REGULATORS, Rule, parse_bnet


def rule(text: str, *names: str) -> Rule:
    lines = [f"out, {text}", *(f"{name}, {name}" for name in names)]
    return parse_bnet("\n".join(lines)).rules["out"]


def value(text: str, **values: bool) -> bool:
    return bool(rule(text, *values).evaluate({k: np.array(v) for k, v in values.items()}))


def test_not_binds_tighter_than_and_and_and_tighter_than_or() -> None:
    assert value("!a & b | c", a=True, b=True, c=True)
    assert value("a | b & !c", a=True, b=False, c=True)
    assert not value("(a | b) & !c", a=True, b=False, c=True)
    assert value("!!a", a=True)
    assert not value("!(a | b)", a=False, b=True)


def test_reads_header_comments_constants_and_unusual_names() -> None:
    text = (
        "\ufeff# a comment\r\n\r\nTargets , Factors\r\nERK1.2, !PKB-a & true # tail\r\nPKB-a, 0\r\n"
        "3'UTR,  ( 1 )\r\nCa2+, False|ERK1.2\r\n"
    )
    parsed = parse_bnet(text)
    assert list(parsed.rules) == ["ERK1.2", "PKB-a", "3'UTR", "Ca2+"]
    assert parsed.rules["ERK1.2"].regulators == ("PKB-a",)
    assert parsed.rules["ERK1.2"].truth_table.tolist() == [True, False]
    assert parsed.rules["3'UTR"].truth_table.tolist() == [True]
    assert parsed.rules["Ca2+"].truth_table.tolist() == [False, True]


def test_truth_table_index_has_the_first_regulator_as_lowest_bit() -> None:
    assert rule("a & !b", "a", "b").truth_table.tolist() == [False, True, False, False]


def test_markers_are_read_from_comments_and_other_comments_are_not() -> None:
    parsed = parse_bnet("# @attractor on: a & !b\n# @other thing\n# attractor x: ((\na, a\nb, b\n")
    assert list(parsed.markers) == ["on"]
    assert parsed.markers["on"].truth_table.tolist() == [False, True, False, False]


def test_deep_nesting_and_long_chains_need_no_recursion() -> None:
    assert value("(" * 5000 + "a" + ")" * 5000, a=True)
    assert not value("!" * 5001 + "a", a=True)
    assert value(" | ".join(["a"] * 5000), a=True)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a, b & c\nb, b", "line 1, column 8", "'c' is not defined"),
        ("a, a & & a", "line 1, column 8", "found '&'"),
        ("a, a a", "line 1, column 6", "found 'a'"),
        ("a, (a", "line 1, column 4", "never closed"),
        ("a, a)", "line 1, column 5", "closes nothing"),
        ("a, a !a", "line 1, column 6", "found '!'"),
        ("a, a &", "line 1, column 7", "ends where"),
        ("a,", "line 1, column 3", "ends where"),
        ("a, ()", "line 1, column 5", "found ')'"),
        ("# x\n\na a", "line 3, column 4", "no comma"),
        ("a, a\n  a, !a", "line 2, column 3", "has a rule already"),
        ("a b, a", "line 1, column 1", "no gene name"),
        (" , a", "line 1, column 2", "no gene name"),
        ("1, a", "line 1, column 1", "no gene name"),
        ("a, a, b", "line 1, column 5", "','"),
        ("# @attractor x: q\na, a", "line 1, column 17", "'q' is not defined"),
    ],
)
def test_errors_name_line_and_column(text: str, place: str, words: str) -> None:
    with pytest.raises(NetworkError) as error:
        parse_bnet(text, "my.bnet")
    assert f"my.bnet, {place}:" in str(error.value)
    assert words in str(error.value)


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(NetworkError, match="defines no gene"):
        parse_bnet("# nothing\ntargets, factors\n")


def test_a_truth_table_that_would_be_too_large_is_an_error() -> None:
    names = [f"g{i}" for i in range(MAX_REGULATORS + 1)]
    with pytest.raises(NetworkError, match=f"{MAX_REGULATORS + 1} regulators"):
        _ = rule(" & ".join(names), *names).truth_table


expressions = st.recursive(
    st.sampled_from(["a", "b", "c", "True", "False"]),
    lambda inner: st.one_of(
        inner.map(lambda x: f"(not {x})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"{t[0]} {t[1]} {t[2]}"),
    ),
    max_leaves=12,
)


@given(expressions)
def test_agrees_with_python_on_random_expressions(python: str) -> None:
    text = python.replace("not ", "!").replace("and", "&").replace("or", "|")
    parsed = rule(text, "a", "b", "c")
    again = rule(parsed.text(), "a", "b", "c")
    for code in range(8):
        values = {name: bool(code >> i & 1) for i, name in enumerate("abc")}
        arrays = {name: np.array(v) for name, v in values.items()}
        assert bool(parsed.evaluate(arrays)) is eval(python, {}, values)
        assert bool(again.evaluate(arrays)) is bool(parsed.evaluate(arrays))
