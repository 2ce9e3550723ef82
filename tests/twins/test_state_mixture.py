"""The mixture describes every type, however few cells it has."""

import numpy as np

from perturbrl.twins.state_mixture import fit_mixture


def test_a_type_of_one_cell_gets_the_common_spread_and_no_infinite_precision() -> None:
    """Seen on LARRY: of two Neu_Mon cells one was drawn twice, its variance was 0 and every cell became NaN."""
    rng = np.random.default_rng(0)
    latent = np.concatenate([rng.normal(size=(200, 3)), rng.normal(5.0, 1.0, (1, 3))])
    kinds = np.repeat([0, 1], [200, 1])
    mixture = fit_mixture(latent, kinds, np.ones(201), 50, seed=0)
    assert (mixture.scales > 0.3).all()
    assert (mixture.scales < 3.0).all()
    assert np.allclose(mixture.means[mixture.kinds == 1], latent[-1])
