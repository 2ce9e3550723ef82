"""What a policy does to cells that start where kriging expects them is added to what kriging says."""

from dataclasses import replace

import numpy as np
import torch
from residual_screen import fitted_twin

from perturbrl.data.labels import Label
from perturbrl.responses.kriging import Kriging
from perturbrl.twins.corrected_kriging import CorrectedKriging

ASKED = [(Label.parse(name), "") for name in ("GENE0000", "GENE0004+GENE0005", "GENE0033")]


def moving(twin, along, apart):
    def move(state):
        return twin.transition(
            state, torch.tensor([[along, apart]]).expand(len(state), -1), torch.empty(0, 0)
        )

    return move


def test_nothing_is_added_where_cells_stay():
    twin = fitted_twin()
    plain, same = twin.response.predict(ASKED), CorrectedKriging(twin, lambda state: state).predict(ASKED)
    assert np.array_equal(plain.mean, same.mean)


def test_the_mean_moves_as_the_cells_do_and_the_rest_stays():
    twin = fitted_twin(reach=1.0)
    plain, corrected = (
        model.predict(ASKED) for model in (twin.response, CorrectedKriging(twin, moving(twin, 0.5, 0.0)))
    )
    components = twin.encoder.components.double().numpy()
    expected = plain.mean + 0.5 * plain.mean @ components.T @ components
    assert np.allclose(corrected.mean, expected, atol=1e-3)
    assert np.array_equal(plain.sd, corrected.sd)
    assert plain.evidence == corrected.evidence


def test_spreading_cells_moves_no_mean():
    twin = fitted_twin()
    plain, spread = (
        model.predict(ASKED) for model in (twin.response, CorrectedKriging(twin, moving(twin, 0.0, 0.8)))
    )
    assert np.allclose(plain.mean, spread.mean, atol=1e-4)


def test_it_answers_like_kriging():
    twin = fitted_twin()
    model = CorrectedKriging(twin, moving(twin, 0.3, 0.0))
    assert model.name == "corrected_kriging"
    assert model.weights == twin.response.weights
    assert np.array_equal(model.row_weights(ASKED), twin.response.row_weights(ASKED))
    many = [(Label.parse(f"GENE00{i:02d}"), "") for i in range(40)] * 2
    alone = np.concatenate([model.predict([one]).mean for one in many[:3]])
    assert np.allclose(model.predict(many).mean[:3], alone, atol=1e-6)


def test_the_correction_goes_over_to_another_kriging_and_no_further():
    """In a context that the twin has no cells of, nothing is added."""
    twin = fitted_twin(reach=1.0)
    moments = twin.response.moments
    both = dict.fromkeys(("", "new"), moments.controls[""])
    counts = dict.fromkeys(both, moments.control_counts[""])
    conditions = tuple((label, "new" if i else "") for i, (label, _) in enumerate(moments.conditions))
    other = Kriging(twin.response.priors).fit_moments(
        replace(moments, conditions=conditions, controls=both, control_counts=counts)
    )
    asked = [ASKED[0], (ASKED[0][0], "new")]
    plain = other.predict(asked).mean
    added = CorrectedKriging(twin, moving(twin, 0.5, 0.0)).over(other).predict(asked).mean - plain
    components = twin.encoder.components.double().numpy()
    assert np.allclose(added[0], 0.5 * plain[0] @ components.T @ components, atol=1e-3)
    assert added[0].any()
    assert not added[1].any()
