from perturbrl.errors import listed


def test_names_are_said_as_in_a_sentence():
    sentences = ["", "A", "A and B", "A, B and C"]
    assert [listed(["A", "B", "C"][:n]) for n in range(4)] == sentences
    assert [listed(["A", "B", "C"][:n], 3) for n in range(4)] == sentences


def test_of_many_names_the_first_are_said_and_how_many_more_there_are():
    names = [str(i) for i in range(10)]
    assert listed(names, 2) == "0, 1 and 8 more"
    assert listed(names, 1) == "0 and 9 more"
