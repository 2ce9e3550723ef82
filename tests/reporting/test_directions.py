import pandas as pd
import pytest
from anndata import AnnData

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import detect_fields
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.evaluation.hits import Hit
from perturbrl.evaluation.statistics import Interval
from perturbrl.reporting.directions import in_words, sense_of

HITS = tuple(Hit(name, Interval(1.0, 1.0, 1.0), name, 1.0) for name in ("up", "down", "none"))


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


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("CRISPRa", ["up", "down", "none"]),
        ("CRISPRko", ["down", "up", "none"]),
        ("cytokine", ["as measured", "reversed", "none"]),
        (None, ["as measured", "reversed", "none"]),
    ],
)
def test_doses_are_told_in_terms_of_the_gene(kind, said):
    obs = pd.DataFrame({"perturbation": ["control", "A", "B"]}, index=list("xyz"))
    if kind is not None:
        obs["perturbation_type"] = kind
    adata = AnnData(pd.DataFrame([[1.0], [2.0], [3.0]], index=obs.index), obs)
    dataset = PerturbationDataset.from_adata(adata, detect_fields(adata))
    cells = MeasuredCells(dataset, None, Preprocessor(), PCAEncoder())
    assert [hit.direction for hit in in_words(cells, HITS)] == said


def test_in_a_network_a_dose_is_expression():
    assert in_words(None, HITS) == HITS
