import copy
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perturbrl.data.labels import CONTROL, Label, Part
from perturbrl.errors import ConfigurationError

WORDS = st.text("AB1:-", min_size=1, max_size=3).map(lambda text: f"g{text}")
BRACKETED = WORDS.map(lambda word: f"(+)-{word}")
CHARGED = st.tuples(WORDS, st.integers(1, 2)).map(lambda pair: pair[0] + "+" * pair[1])
NAMES = st.one_of(WORDS, BRACKETED, CHARGED).filter(lambda name: not name[-1].isdigit() or ":" not in name)
DOSES = st.none() | st.floats(1e-12, 1e18)
PARTS = st.lists(st.builds(Part, NAMES, DOSES), max_size=4, unique_by=lambda part: part.name)
TEXTS = st.text("AB+:()[]. 1", min_size=1, max_size=10).filter(lambda text: text.strip())


@pytest.mark.parametrize(
    ("text", "canonical", "names"),
    [
        ("control", "control", ()),
        ("A+control", "A", ("A",)),
        (" B + A ", "A+B", ("A", "B")),
        ("A+A", "A", ("A",)),
        ("C+A+B", "A+B+C", ("A", "B", "C")),
        ("(+)-JQ1", "(+)-JQ1", ("(+)-JQ1",)),
        ("A+(+)-JQ1", "(+)-JQ1+A", ("(+)-JQ1", "A")),
        ("Ca2+", "Ca2+", ("Ca2+",)),
        ("KCl+Ca2+", "Ca2++KCl", ("Ca2+", "KCl")),
        ("Ca2+ + KCl", "Ca2++KCl", ("Ca2+", "KCl")),
        ("+A+!", "+A+!", ("+A", "!")),
        ("[a+b](c+d)", "[a+b](c+d)", ("[a+b](c+d)",)),
        ("A+B)", "A+B)", ("A+B)",)),
        ("+", "+", ("+",)),
        ("Ca2+:5+A:0.50", "A:0.5+Ca2+:5", ("A", "Ca2+")),
        ("A:0+B", "B", ("B",)),
        ("A:0", "control", ()),
    ],
)
def test_one_grammar(text: str, canonical: str, names: tuple[str, ...]) -> None:
    label = Label.parse(text)
    assert (label, label.names) == (canonical, names)
    assert label.is_combination == (len(names) > 1)
    assert label.is_control == (label == CONTROL == "control")


@pytest.mark.parametrize(
    ("text", "name", "dose"),
    [
        ("dex:0.1", "dex", 0.1),
        ("dex:1e-3", "dex", 1e-3),
        ("dex : 10.0", "dex", 10.0),
        ("C18:1:0.5", "C18:1", 0.5),
        ("C18:1", "C18", 1.0),
        ("dex:high", "dex:high", None),
        ("dex:", "dex:", None),
        (":1", ":1", None),
        ("dex:1e999", "dex:1e999", None),
    ],
)
def test_a_number_after_a_colon_is_a_dose(text: str, name: str, dose: float | None) -> None:
    assert Label.parse(text).parts == (Part(name, dose),)
    assert Label.parse(text, doses=False).parts == (Part(text.strip()),)


def test_doses_are_written_as_short_as_they_can_be() -> None:
    texts = [str(Label((Part("A", dose),))) for dose in (1.0, 0.1, 10000.0, 1e-9, 1e20, 1 / 3)]
    assert texts == ["A:1", "A:0.1", "A:10000", "A:1e-09", "A:1e20", "A:0.3333333333333333"]


@given(PARTS)
@example([Part("A", 1e20), Part("Ca2+", 0.5)])
def test_what_is_written_is_read_back(parts: list[Part]) -> None:
    label = Label(parts)
    again = Label.parse(str(label))
    assert (again, again.parts, hash(again)) == (label, label.parts, hash(label))
    assert set(label.parts) == set(parts)
    assert [single.parts for single in label.singles] == [(part,) for part in label.parts]


@given(PARTS, st.randoms(use_true_random=False))
def test_the_order_of_parts_does_not_matter(parts: list[Part], random) -> None:
    shuffled = random.sample(parts, len(parts))
    assert Label(shuffled) == Label(parts)
    # A name that begins with a "+" can only be written first.
    assert Label.parse(" + ".join(map(str, shuffled)) or "control").parts == Label(parts).parts


@given(TEXTS, st.booleans())
@example("b)+a(", False)
@example("1+:A", True)
def test_any_text_is_a_label_without_an_empty_part(text: str, doses: bool) -> None:
    label = Label.parse(text, doses=doses)
    assert all(name and name == name.strip() for name in label.names)
    assert Label.parse(str(label), doses=doses).parts == label.parts
    assert text.count("+") >= len(label.parts) - 1


def test_a_label_is_an_ordered_text_that_does_not_change() -> None:
    label = Label.parse("B+A:2")
    assert {label: 1}["A:2+B"] == 1
    assert sorted([Label.parse("B"), label, CONTROL]) == ["A:2+B", "B", "control"]
    assert Label.parse(label) is label
    assert type(str(label)) is str
    for same in (copy.copy(label), copy.deepcopy(label), pickle.loads(pickle.dumps(label))):
        assert (same, same.parts) == (label, label.parts)
    with pytest.raises(AttributeError, match="parts of 'A:2\\+B' cannot be set"):
        label.parts = ()


def test_a_label_contains_what_it_is_made_of() -> None:
    both = Label.parse("A:1+B")
    assert all(both.contains(Label.parse(text)) for text in ("B", "A:1", "A:1+B", "A:1+B"))
    assert not any(both.contains(Label.parse(text)) for text in ("A", "A:2", "control", "A:1+B+C"))
    assert not CONTROL.contains(CONTROL)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([Part("A+B")], r"the names \['A\+B'\] cannot be told apart in 'A\+B'"),
        ([Part("!"), Part("+B"), Part("+A")], "cannot be told apart"),
        ([Part("A", -1.0)], "the dose of 'A' is -1; give a positive number"),
        ([Part("A", float("nan"))], "the dose of 'A' is nan"),
        ([Part("A", 1.0), Part("A", 2.0)], "'A:1[+]A:2' gives 'A' twice with different doses"),
        ([Part("")], "cannot be told apart|empty"),
        ([Part(" A")], "cannot be told apart"),
    ],
)
def test_parts_that_make_no_label(parts: list[Part], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Label(parts)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_text_is_no_label(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is empty; name a perturbation or 'control'"):
        Label.parse(text)
