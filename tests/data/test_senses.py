import pandas as pd
import pytest

from perturbrl.data.senses import sense_of


@pytest.mark.parametrize(
    ("kinds", "sense"),
    [
        (["CRISPRa", "CRISPRa"], 1),
        (["CRISPRko", "control"], -1),
        (["CRISPRi"], -1),
        (["CRISPR-cas9", None], -1),
        (["CRISPRa", "CRISPRi"], 0),
        (["drug"], 0),
        (["control"], 0),
        ([], 0),
    ],
)
def test_what_a_kind_of_perturbation_does_to_its_gene(kinds, sense):
    assert sense_of(pd.Series(kinds, dtype=object)) == sense
