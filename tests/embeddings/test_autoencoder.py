import pytest
import torch
from linear_twin import normal

from perturbrl.embeddings.autoencoder import AutoencoderEncoder
from perturbrl.errors import ConfigurationError, DataError


def curve(cells=300, seed=0):
    """Ten genes that depend on one hidden number in a curved way, and one that is constant."""
    hidden = normal(cells, 1, seed=seed)
    genes = torch.cat([hidden, hidden**2, hidden.sin()] * 3 + [hidden.abs()], 1)
    return torch.cat((genes, torch.ones(cells, 1)), 1)


def make(**options):
    return AutoencoderEncoder(
        **{"latent_dim": 2, "hidden_sizes": (32,), "max_epochs": 40, "seed": 1} | options
    )


@pytest.fixture(scope="module")
def fitted():
    return make().fit(curve())


def test_it_reconstructs_new_cells_of_the_same_kind(fitted):
    new = curve(seed=3)
    error = (fitted.decode(fitted.encode(new)) - new).square().mean()
    assert fitted.encode(new).shape == (300, 2)
    assert error < 0.15 * new.var(0).mean()


def test_fitting_twice_gives_the_same_bits_and_leaves_global_randomness_alone(fitted):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    again = make().fit(curve())
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in fitted.state_dict().items())


def test_another_seed_gives_another_encoder(fitted):
    other = make(seed=2, max_epochs=2).fit(curve())
    assert not torch.equal(other.encode(curve()), fitted.encode(curve()))


def test_a_checkpoint_restores_an_encoder_that_was_never_fitted(fitted):
    restored = make()
    restored.load_state_dict(fitted.state_dict())
    new = curve(seed=4)
    assert torch.equal(restored.encode(new), fitted.encode(new))
    assert torch.equal(restored.decode(restored.encode(new)), fitted.decode(fitted.encode(new)))
    assert not any(parameter.requires_grad for parameter in restored.parameters())


def test_a_checkpoint_of_other_genes_replaces_a_fitted_one(fitted):
    other = make(max_epochs=1).fit(curve()[:, :5])
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other.encode(curve()), fitted.encode(curve()))


def test_it_works_under_no_grad_and_has_nothing_to_train_afterwards():
    with torch.no_grad():
        encoder = make(max_epochs=2).fit(curve())
    assert not encoder.encode(curve()).requires_grad


def test_training_stops_when_held_cells_no_longer_improve():
    encoder, epochs = make(learning_rate=0.0, patience=3, max_epochs=50), []
    original = encoder._epoch
    encoder._epoch = lambda *arguments: epochs.append(original(*arguments))
    encoder.fit(curve())
    assert len(epochs) == 4


def test_diverged_training_is_an_error():
    with pytest.raises(ConfigurationError, match="lower its learning_rate"):
        make(max_epochs=3).fit(curve() * float("nan"))


@pytest.mark.parametrize(
    "option", [{"max_epochs": 0}, {"patience": 0}, {"minibatch_size": 0}, {"hidden_sizes": (8, 0)}]
)
def test_options_below_one_are_refused(option):
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        make(**option)


def test_too_few_cells_are_refused():
    with pytest.raises(DataError, match="latent_dim"):
        make(latent_dim=20).fit(curve(10))
