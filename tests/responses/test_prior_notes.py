"""What is said of priors that tell, that mislead, and that nothing can be said of."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.kriging import LITTLE, WORTH, Kriging
from perturbrl.responses.prior_notes import prior_notes
from perturbrl.responses.training_cells import TrainingCells

NAMES = [f"p{i:02}" for i in range(24)]


def fitted(n_named, mixed=False):
    """Modules of six perturbations, of which the first few names were measured."""
    rng = np.random.default_rng(0)
    modules = 2 * rng.normal(size=(4, 12))
    names = NAMES[:n_named]
    blocks = [rng.normal(size=(200, 12))]
    blocks += [modules[i % 4] + 0.2 * rng.normal(size=12) + rng.normal(size=(50, 12)) for i in range(n_named)]
    labels = ["control"] * 200 + [name for name in names for _ in range(50)]
    cells = TrainingCells(np.concatenate(blocks), labels, [f"g{i}" for i in range(12)])
    order = rng.permutation(24) if mixed else np.arange(24)
    return Kriging((PriorKnowledge("sets", tuple(NAMES), csr_matrix(np.eye(4)[order % 4])),)).fit(cells)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            fitted(24),
            "of the variance of effects, and the measured perturbations speak for it (log evidence +",
        ),
        (fitted(3), "and the measured perturbations do not tell whether it helps"),
        (fitted(24, mixed=True), "so it hardly counts"),
    ],
    ids=["tells", "few", "mixed"],
)
def test_what_a_prior_is_worth_is_said(model, said):
    (note,) = prior_notes(model)
    assert note.startswith("sets explains ")
    assert said in note
    assert model.confirmed == ("speak for it" in note)


def test_asking_for_the_gain_changes_no_prediction():
    model = fitted(12)
    asked = [(label, context) for label, context in model.moments.conditions]
    before = model.predict(asked).mean
    assert abs(model.gain_of("sets")) > WORTH
    np.testing.assert_array_equal(model.predict(asked).mean, before)


def test_a_prior_that_misleads_has_next_to_no_weight():
    assert fitted(24, mixed=True).weights["sets"] < LITTLE < 0.5 < fitted(24).weights["sets"]


def of_noise(n_named, seed):
    """Perturbations with effects of their own, and gene sets drawn at random that hold others, too."""
    rng = np.random.default_rng(seed)
    names = [f"p{i:02}" for i in range(n_named)]
    blocks = [rng.normal(size=(200, 30))]
    blocks += [0.8 * rng.normal(size=30) + rng.normal(size=(40, 30)) for _ in names]
    labels = ["control"] * 200 + [name for name in names for _ in range(40)]
    cells = TrainingCells(np.concatenate(blocks), labels, [f"g{i}" for i in range(30)])
    members = csr_matrix((rng.random((2 * n_named, 8)) < 0.2).astype(float))
    every = (*names, *(f"q{i:02}" for i in range(n_named)))
    return Kriging((PriorKnowledge("noise", every, members),)).fit(cells), every[n_named:]


@pytest.mark.parametrize("seed", range(3))
def test_a_prior_that_measured_perturbations_speak_against_is_no_evidence(seed):
    """Of twelve perturbations even random sets explain more than a tenth."""
    model, unmeasured = of_noise(12, seed)
    assert model.weights["noise"] > LITTLE
    assert model.gain_of("noise") < 0
    found = model.predict([(Label.parse(name), "") for name in unmeasured])
    assert set(found.evidence) == {"none"}


def test_gains_are_those_of_the_latest_fit():
    model = fitted(24)
    before = model.gain_of("sets")
    moments = fitted(12).moments
    assert model.fit_moments(moments).gain_of("sets") != before
    assert model.gain_of("sets") == Kriging(model.priors).fit_moments(moments).gain_of("sets")
