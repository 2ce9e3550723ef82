"""Names that prior knowledge and data have in common."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import DataError
from perturbrl.responses.matches import kind_of_names, matched_names


def prior(*names, source="sets.gmt"):
    return PriorKnowledge(source, names, csr_matrix(np.eye(len(names))))


def test_how_many_names_match_is_counted():
    found = matched_names([prior("STAT1", "JAK2", "TP53")], {"STAT1", "JAK2", "CAV1"}, {"TP53", "none"})
    assert found.loc["sets.gmt"].to_dict() == {
        "names": 3,
        "measured": 2,
        "of_measured": 3,
        "asked": 1,
        "of_asked": 2,
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Stat1", "Jak2"), "like capitalised symbols, as of mouse genes and the others like upper-case"),
        (
            ("ENSG00000115415", "ENSG00000096968"),
            "the first look like Ensembl ids and the others like upper-case",
        ),
        (("6772", "3717"), "numbers, such as Entrez ids"),
        (("9606.ENSP00000354394",), "STRING ids"),
        (("stat1", "jak2"), "like lower-case names and the others like upper-case symbols"),
        (("STAT_1", "Jak_2"), "did you mean Jak_2 by JAK2 and STAT_1 by STAT1? Say so"),
        (("stat-1", "TP53", "MYC"), "did you mean stat-1 by STAT1? Say so"),
        (("TP53", "MYC"), "; give one that names these perturbations"),
        (
            ("JAK22", "MYC"),
            "; did you mean JAK22 by JAK2? Say so in a table of aliases (columns alias and name)",
        ),
    ],
)
def test_nothing_in_common_is_an_error_that_says_what_names_look_like(names, said):
    with pytest.raises(DataError) as error:
        matched_names([prior(*names)], {"STAT1", "JAK2", "C1orf112"})
    assert "'sets.gmt' knows none of the 3 measured perturbations" in str(error.value)
    assert names[0] in str(error.value)
    assert "STAT1" in str(error.value)
    assert said in str(error.value)


def test_kinds_of_names():
    assert kind_of_names(["dexamethasone", "IFN-b", "x y"]) is None
    assert kind_of_names([]) is None
    assert kind_of_names(["HLA-A", "NKX2-1", "C1orf112"]) == "upper-case symbols, as of human genes"
    assert kind_of_names(["Gata1", "1700001C19Rik", "Sfpi1"]) == "capitalised symbols, as of mouse genes"
    assert kind_of_names(["gata1", "sfpi1"]) == "lower-case names"


def test_names_that_are_there_without_a_feature_are_no_case_for_aliases():
    silent = PriorKnowledge("edges.csv", ("JAK2", "STAT1", "TP53"), csr_matrix(np.diag([0.0, 0.0, 1.0])))
    with pytest.raises(DataError) as error:
        matched_names([silent], {"STAT1", "JAK2", "C1orf112"})
    said = str(error.value)
    assert (
        "'edges.csv' has JAK2 and STAT1 of the 3 measured perturbations, and all their features are 0" in said
    )
    assert "aliases" not in said
