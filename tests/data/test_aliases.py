"""Other names of perturbations, and what is said of tables that cannot be followed."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from perturbrl.data.aliases import read_aliases
from perturbrl.data.prior_knowledge import PriorKnowledge, ScreenShifts
from perturbrl.errors import DataError


def test_aliases_rename_what_a_prior_knows(tmp_path):
    path = tmp_path / "aliases.csv"
    path.write_text("alias,name\nP53,TP53\nOCT4,POU5F1\nold,new\n")
    aliases = read_aliases(path)
    assert aliases == {"P53": "TP53", "OCT4": "POU5F1", "old": "new"}
    values = np.diag([1.0, 2.0, 3.0])
    prior = PriorKnowledge(
        "s", ("OCT4", "P53", "TP53"), csr_matrix(values), ScreenShifts(("x", "y", "z"), values)
    )
    renamed = prior.renamed(aliases)
    assert set(renamed.names) == {"POU5F1", "TP53"}
    # What is there under the name itself is not replaced by what is there under an alias.
    row = renamed.names.index("TP53")
    np.testing.assert_array_equal(renamed.screen.values[row], [0, 0, 3])
    np.testing.assert_array_equal(renamed.features.toarray()[row], [0, 0, 3])
    assert not renamed.knows("P53")
    assert prior.renamed({}).names == prior.names


def test_a_table_written_by_r_is_read_as_it_is_meant(tmp_path):
    path = tmp_path / "aliases.txt"
    path.write_text('"alias" "name"\n"1" "P53" "TP53"\n"2" "OCT4" "POU5F1"\n')
    assert read_aliases(path) == {"P53": "TP53", "OCT4": "POU5F1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("P53\tTP53\tx\n", "3 columns"),
        ("P53,TP53\nP53,MYC\n", "gives P53 several names"),
        ("P53,TP53\nTP53,MYC\n", "has TP53 both as a name and as an alias"),
        ("P53,TP53\nMYC,\n", "1 empty fields"),
    ],
)
def test_aliases_that_cannot_be_followed_are_errors(tmp_path, text, said):
    path = tmp_path / "aliases.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_aliases(path)
