"""What a person writes, and what is asked by it."""

from dataclasses import replace

import pytest

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.responses.questions import Known, questions, text_of


def known(*labels, contexts=("",), names=()):
    measured = {text: Label.parse(text) for text in labels}
    every = {name for label in measured.values() for name in label.names} | set(names)
    return Known(measured, contexts, every, list(measured.values()))


def asked(queries, given):
    return questions(queries, given)


def test_a_combination_comes_back_under_the_text_that_was_asked():
    found = asked(["JAK2+CAV1", "CAV1+JAK2"], known("JAK2", "CAV1"))
    assert [one.text for one in found] == ["JAK2+CAV1", "CAV1+JAK2"]
    assert found[0].condition == found[1].condition
    assert text_of(found[0].condition) == "CAV1+JAK2"


def test_a_query_that_comes_twice_has_one_row():
    assert [one.text for one in asked(["A", "B", "A"], known("A", "B"))] == ["A", "B"]


def test_a_query_without_a_context_asks_for_every_one():
    given = known("A@x", "A", "B", contexts={"T", "NK"})
    assert [one.text for one in asked(["A"], given)] == ["A@NK", "A@T"]
    assert [one.text for one in asked(["A@cell_type=T", "A@x@T"], given)] == ["A@cell_type=T", "A@x@T"]
    assert [str(one.condition[0]) for one in asked(["A@x@T"], given)] == ["A@x"]


def test_only_the_column_of_contexts_may_stand_before_one():
    given = replace(known("A", contexts={"T", "NK", "day=3"}), column="louvain")
    texts = ["A@louvain=T", "A@cell_type=T", "A@T", "A@day=3", "A@louvain=day=3"]
    assert [one.condition[1] for one in asked(texts, given)] == ["T", "T", "T", "day=3", "day=3"]
    said = "'foo=NK' names the column 'foo', and contexts are told by 'louvain'; ask for '@louvain=NK', or for '@NK'"
    with pytest.raises(DataError, match=said):
        asked(["A@foo=NK"], given)
    with pytest.raises(DataError, match="'B' is no context with control cells"):
        asked(["A@louvain=B"], given)


def test_no_dose_means_the_largest_and_is_said():
    given = known("dex:0.1", "dex:10", "B")
    (plain,), (dosed,) = asked(["dex"], given), asked(["dex:10"], given)
    assert plain.text == "dex"
    assert plain.condition == dosed.condition
    assert plain.said == ("dex without a dose means its largest measured one, dex:10",)
    assert dosed.said == ()
    (both,) = asked(["B+dex"], given)
    assert str(both.condition[0]) == "B+dex:10"


@pytest.mark.parametrize(
    ("query", "outside"),
    [("dex:100", True), ("dex:0.01", True), ("dex:3", False), ("dex:10", False), ("B+dex:100", True)],
)
def test_a_dose_outside_of_the_measured_ones_is_marked(query, outside):
    (found,) = asked([query], known("dex:0.1", "dex:10", "B"))
    assert found.extrapolated == outside
    said = "extrapolated: dose 100 of dex lies outside of those measured (0.1 to 10)"
    assert (said in found.said) == query.endswith("dex:100")


def test_a_dose_that_was_held_out_is_an_extrapolation():
    given = known("dex:0.1", "dex:10")
    learned = Known(given.measured, given.contexts, given.names, [Label.parse("dex:0.1")])
    (found,) = asked(["dex:10"], learned)
    assert found.extrapolated
    assert "lies outside of those measured (0.1)" in found.said[0]


def test_a_dose_of_what_was_never_measured_is_said():
    (found,) = asked(["drug:3"], known("dex:1", names=["drug"]))
    assert found.extrapolated
    assert found.said == ("no dose of drug was measured, so 3 is taken for a full one",)


def test_an_unknown_name_is_an_error_with_the_closest():
    with pytest.raises(DataError, match=r"'STAT' is no perturbation .*did you mean STAT2 or STAT1"):
        asked(["STAT"], known("STAT1", "STAT2"))


def test_a_name_of_the_data_is_no_alias():
    given = known("P53", "A", names=["TP53"])
    given = Known(given.measured, given.contexts, given.names, given.learned, {"P53": "TP53"})
    found = asked(["P53", "A+P53"], given)
    assert [str(one.condition[0]) for one in found] == ["P53", "A+P53"]
    assert [one.said for one in found] == [(), ()]
