import numpy as np
import pytest
import torch
from linear_twin import normal

from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import DataError


def screen(cells=60, genes=12, rank=None, seed=0):
    rank = genes if rank is None else rank
    return normal(cells, rank, seed=seed) @ normal(rank, genes, seed=seed + 1) + 2.0


@pytest.mark.parametrize("shape", [(60, 12), (10, 40)])
def test_it_agrees_with_a_singular_value_decomposition(shape):
    x = screen(*shape)
    encoder = PCAEncoder(4).fit(x)
    centred = (x - x.mean(0)).double().numpy()
    _, _, vt = np.linalg.svd(centred, full_matrices=False)
    overlap = np.abs(encoder.components.double().numpy() @ vt[:4].T)
    np.testing.assert_allclose(overlap, np.eye(4), atol=1e-4)
    np.testing.assert_allclose(np.abs(encoder.encode(x).numpy()), np.abs(centred @ vt[:4].T), atol=1e-3)


def test_what_lies_in_the_plane_survives_the_round_trip():
    x = screen(rank=3)
    encoder = PCAEncoder(3).fit(x)
    assert torch.allclose(encoder.decode(encoder.encode(x)), x, atol=1e-4)
    state = normal(5, 3, seed=4)
    assert torch.allclose(encoder.encode(encoder.decode(state)), state, atol=1e-5)


def test_distances_are_those_of_expression():
    x = screen(rank=3)
    encoder = PCAEncoder(3).fit(x)
    assert torch.allclose(torch.cdist(encoder.encode(x), encoder.encode(x)), torch.cdist(x, x), atol=1e-2)


def test_whitened_components_count_in_units_of_their_spread():
    x = screen(rank=3)
    plain, whitened = PCAEncoder(3).fit(x), PCAEncoder(3, whiten=True).fit(x)
    assert torch.allclose(whitened.encode(x).std(0), torch.ones(3), atol=1e-5)
    spread = plain.encode(x).std(0)
    assert torch.allclose(whitened.encode(x) * spread, plain.encode(x), atol=1e-3)
    assert torch.allclose(whitened.encode(x), (x - whitened.mean) @ whitened.directions.T, atol=1e-6)
    assert torch.allclose(whitened.decode(whitened.encode(x)), x, atol=1e-4)


def test_a_component_in_which_cells_do_not_differ_is_not_blown_up():
    encoder = PCAEncoder(4, whiten=True).fit(screen(rank=3))
    assert float(encoder.encode(screen(rank=3)).abs().max()) < 10
    assert float(encoder.unit[3]) == 1.0


def test_fitting_twice_gives_the_same_bits():
    first, again = PCAEncoder(4).fit(screen()), PCAEncoder(4).fit(screen())
    assert torch.equal(first.components, again.components)
    assert torch.equal(first.mean, again.mean)


def test_a_checkpoint_restores_an_encoder_that_was_never_fitted():
    fitted, restored = PCAEncoder(4).fit(screen()), PCAEncoder(4)
    restored.load_state_dict(fitted.state_dict())
    assert torch.equal(restored.encode(screen(seed=5)), fitted.encode(screen(seed=5)))


def test_cells_that_were_not_fitted_do_not_change_the_map():
    encoder = PCAEncoder(2).fit(screen())
    before = encoder.components.clone()
    encoder.encode(screen(seed=7) * 100)
    assert torch.equal(encoder.components, before)


def test_too_few_cells_are_refused():
    with pytest.raises(DataError, match="latent_dim"):
        PCAEncoder(20).fit(screen(cells=10))


def test_the_spread_of_unseen_cells_is_told_before_any_is_seen():
    """Few cells of many noisy genes: two components are real, the others are noise of these very cells."""
    generator = torch.Generator().manual_seed(0)
    loadings = torch.randn(2, 300, generator=generator)

    def cells(n):
        return torch.randn(n, 2, generator=generator) @ loadings + 3 * torch.randn(
            n, 300, generator=generator
        )

    seen, unseen = cells(200), cells(2000)
    encoder = PCAEncoder(6).fit(seen)
    told, real = encoder.unseen_spread(seen), encoder.encode(unseen).std(0) / encoder.encode(seen).std(0)
    assert torch.allclose(told, real, atol=0.12)
    assert (told[:2] > 0.8).all()
    assert (told[2:] < 0.7).all()
