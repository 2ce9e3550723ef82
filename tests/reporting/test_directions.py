import pandas as pd
import pytest
import torch
from anndata import AnnData
from linear_twin import linear_twin

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import detect_fields
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.evaluation.hits import Hit
from perturbrl.evaluation.statistics import Interval
from perturbrl.reporting.directions import in_words
from perturbrl.twins.perturbations import PerturbationSpace

HITS = tuple(Hit(name, Interval(1.0, 1.0, 1.0), name, 1.0) for name in ("up", "down", "none"))


TWIN = linear_twin(torch.eye(3))


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
    assert [hit.direction for hit in in_words(cells, TWIN, HITS)] == said
    told = linear_twin(torch.eye(3))
    told.perturbations, told.senses = PerturbationSpace(("up", "down", "none")), (-1, 1, 0)
    assert [hit.direction for hit in in_words(cells, told, HITS)] == ["down", "down", "none"]


def test_in_a_network_a_dose_is_expression():
    assert in_words(None, TWIN, HITS) == HITS
