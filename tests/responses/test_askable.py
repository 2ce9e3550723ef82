"""What is asked where nobody asks: the unmeasured names that prior knowledge likens most to measured ones."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.presets import detect_fields
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.data.synthetic import simulate_screen
from perturbrl.responses import askable
from perturbrl.responses.answers import fit_kriging

ANGLES = {"AAA": 80, "BBB": 60, "GENE0030": 70, "YYY": 10, "XXX": 10, "ZZZ": 0, "NOT": 90}


def prior(angles=ANGLES):
    """Names at these degrees from both measured perturbations."""
    every = {"GENE0000": 0, "GENE0001": 0, **angles}
    turned = np.deg2rad(list(every.values()))
    features = np.stack([np.cos(turned).round(12), np.sin(turned)], axis=1)
    return PriorKnowledge("angles", tuple(every), csr_matrix(features))


def asked(knowledge):
    adata = simulate_screen(2, 40, 60, 20, n_combinations=0, seed=1)
    dataset = PerturbationDataset.from_adata(adata, detect_fields(adata))
    model, _ = fit_kriging(dataset, [knowledge])
    queries, said = askable.everything(model, dataset)
    return [
        query for query in queries if query in knowledge.names and query not in ("GENE0000", "GENE0001")
    ], said


@pytest.mark.parametrize("at_once", [1, 3, 1024])
def test_the_most_alike_are_asked_first(monkeypatch, at_once):
    monkeypatch.setattr(askable, "_AT_ONCE", at_once)
    found, said = asked(prior())
    assert found == ["ZZZ", "XXX", "YYY", "BBB", "GENE0030", "AAA"]
    assert said == ()


def test_what_is_cut_off_is_said(monkeypatch):
    monkeypatch.setattr(askable, "MOST_UNMEASURED", 2)
    found, said = asked(prior())
    assert found == ["ZZZ", "XXX"]
    assert said == (
        "4 more unmeasured perturbations could be asked about: the 2 asked of 6 are what prior knowledge likens most "
        "to measured ones; name others with --data.queries.",
    )


def test_names_are_compared_in_blocks(monkeypatch):
    monkeypatch.setattr(askable, "_AT_ONCE", 100)
    sizes = []
    whole = PriorKnowledge.similarity

    def counted(self, a, b):
        sizes.append(len(a))
        return whole(self, a, b)

    monkeypatch.setattr(PriorKnowledge, "similarity", counted)
    knowledge = prior({f"N{i:04d}": i / 20 for i in range(1000)})
    assert len(asked(knowledge)[0]) == 1000
    assert max(sizes) <= 100
