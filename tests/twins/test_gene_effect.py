import pytest
import torch
from linear_twin import linear_twin, normal

from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import CheckpointError, ConfigurationError, DataError
from perturbrl.twins.gene_effect import GeneEffectTwin

GENES = ("A", "B", "C", "D", "E", "F")
LABELS = ("control",) * 40 + ("A",) * 20 + ("B",) * 20 + ("A+B",) * 20


def cells_and_encoder(labels=LABELS):
    expression = normal(len(labels), len(GENES), seed=1) * torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0, 1.0])
    for i, label in enumerate(labels):
        expression[i, 0] += 3.0 * ("A" in label)
        expression[i, 1] += 2.0 * ("B" in label)
    encoder = PCAEncoder(3).fit(expression)
    return EncodedCells(encoder.encode(expression), expression, tuple(labels), GENES), encoder


def test_measured_effects_are_differences_of_means():
    cells, encoder = cells_and_encoder()
    twin = GeneEffectTwin().fit(cells, encoder)
    assert twin.perturbations.names == ("A", "B")
    latent = cells.latent
    expected = torch.stack((latent[40:60].mean(0), latent[60:80].mean(0))) - latent[:40].mean(0)
    assert torch.allclose(twin.effects, expected, atol=1e-5)


def test_effects_are_told_as_a_step_applies_them():
    twin = linear_twin(normal(3, 4))
    twin.scale = 0.5
    state, dose = normal(6, 4, seed=1), normal(6, 3, seed=2)
    stepped = twin.transition(state, dose, twin.draw_noise(6))
    assert torch.allclose(stepped - state, dose @ twin.linear_effects(), atol=1e-6)


def test_held_out_cells_cannot_change_an_effect():
    # The twin sees only the cells it is given: a label that is not among them is not learned.
    cells, encoder = cells_and_encoder(LABELS[:60])
    assert GeneEffectTwin().fit(cells, encoder).perturbations.names == ("A",)


def test_measured_combinations_as_perturbations_of_their_own():
    cells, encoder = cells_and_encoder()
    assert GeneEffectTwin(combinations=True).fit(cells, encoder).perturbations.names == ("A", "A+B", "B")


def test_in_silico_effects_are_regressions_on_control_cells():
    cells, encoder = cells_and_encoder()
    twin = GeneEffectTwin("in_silico").fit(cells, encoder)
    control = slice(0, 40)
    for i in range(len(GENES)):
        gene = cells.expression[control, i].double()
        slope = torch.linalg.lstsq(
            (gene - gene.mean())[:, None],
            cells.latent[control].double() - cells.latent[control].mean(0).double(),
        ).solution[0]
        assert torch.allclose(twin.effects[i].double(), slope * gene.std(), atol=1e-4)


def test_in_silico_effects_do_not_see_perturbed_cells():
    cells, encoder = cells_and_encoder()
    changed = EncodedCells(cells.latent.clone(), cells.expression.clone(), cells.labels, GENES)
    changed.latent[40:] += 100.0
    changed.expression[40:] += 100.0
    first, second = (GeneEffectTwin("in_silico").fit(c, encoder) for c in (cells, changed))
    assert torch.equal(first.effects, second.effects)


def test_a_gene_that_does_not_vary_is_left_out():
    cells, encoder = cells_and_encoder()
    cells.expression[:40, 2] = 1.0
    assert "C" not in GeneEffectTwin("in_silico").fit(cells, encoder).perturbations.names


def test_joint_effects_prefer_what_was_measured():
    cells, encoder = cells_and_encoder()
    joint, measured, silico = (
        GeneEffectTwin(s).fit(cells, encoder) for s in ("joint", "experimental", "in_silico")
    )
    assert joint.perturbations.names == GENES
    assert torch.equal(joint.effects[:2], measured.effects)
    assert torch.equal(joint.effects[2:], silico.effects[2:])


def test_rows_keep_their_length_unless_told_otherwise():
    cells, encoder = cells_and_encoder()
    plain, unit = GeneEffectTwin().fit(cells, encoder), GeneEffectTwin(normalise=True).fit(cells, encoder)
    assert torch.allclose(unit.effects.norm(dim=1), torch.ones(2))
    assert torch.allclose(unit.effects * plain.effects.norm(dim=1, keepdim=True), plain.effects, atol=1e-5)


def test_a_step_is_linear_in_the_dose():
    effects, state = normal(4, 3), normal(5, 3, seed=2)
    twin = linear_twin(effects)
    twin.scale = 2.0
    dose, noise = torch.rand(5, 4), twin.draw_noise(5)
    assert torch.allclose(twin.transition(state, dose, noise), state + 2.0 * dose @ effects, atol=1e-6)
    assert noise.shape == (5, 0)


def test_noise_has_the_asked_for_spread():
    twin = linear_twin(normal(4, 3), noise_scale=0.5)
    generator = torch.Generator().manual_seed(0)
    state = torch.zeros(20_000, 3)
    moved = twin.transition(state, torch.zeros(20_000, 4), twin.draw_noise(20_000, generator))
    assert moved.std(0).tolist() == pytest.approx([0.5] * 3, rel=0.03)
    assert moved.mean(0).abs().max() < 0.02


def test_expression_is_decoded():
    cells, encoder = cells_and_encoder()
    twin = GeneEffectTwin().fit(cells, encoder)
    assert torch.equal(twin.expression(cells.latent[:3]), encoder.decode(cells.latent[:3]))
    state = normal(2, 3)
    assert torch.equal(linear_twin(normal(4, 3)).expression(state), state)


def test_a_checkpoint_rebuilds_a_twin_that_was_never_fitted():
    cells, encoder = cells_and_encoder()
    twin = GeneEffectTwin(min_dose_value=-0.5, max_dose_value=2.0).fit(cells, encoder)
    twin.start_from(cells.latent[:40])
    restored = GeneEffectTwin()
    restored.restore(twin.describe())
    restored.encoder = PCAEncoder(3)
    restored.load_state_dict(twin.state_dict())
    restored.encoder.load_state_dict(encoder.state_dict())
    assert restored.perturbations.names == ("A", "B")
    assert restored.perturbations.low.tolist() == [-0.5, -0.5]
    assert restored.perturbations.high.tolist() == [2.0, 2.0]
    assert torch.equal(restored.effects, twin.effects)
    assert torch.equal(restored.start_cells, twin.start_cells)
    assert torch.equal(restored.expression(cells.latent), twin.expression(cells.latent))


def test_a_description_holds_plain_values():
    cells, encoder = cells_and_encoder()
    for value in GeneEffectTwin().fit(cells, encoder).describe().values():
        assert type(value) in (int, list, bool)


def test_a_network_of_another_checkpoint_is_refused():
    class Own(GeneEffectTwin):
        needs_data = False

    cells, encoder = cells_and_encoder()
    twin = Own().fit(cells, encoder)
    with pytest.raises(CheckpointError, match=r"doses \['X'\], this one \['A', 'B'\]"):
        twin.restore({"latent_dim": 3, "names": ["X"], "low": [0.0], "high": [1.0]})


def test_what_cannot_be_fitted_is_refused():
    cells, encoder = cells_and_encoder(LABELS[40:])
    for source in ("experimental", "in_silico", "joint"):
        with pytest.raises(DataError, match="control"):
            GeneEffectTwin(source).fit(cells, encoder)
    cells, encoder = cells_and_encoder(("control",) * 40 + ("A+B",) * 20)
    with pytest.raises(DataError, match="no single perturbation is left"):
        GeneEffectTwin().fit(cells, encoder)
    cells.expression[:40] = 1.0
    with pytest.raises(DataError, match="none of the 6 genes varies"):
        GeneEffectTwin("in_silico").fit(cells, encoder)
    with pytest.raises(ConfigurationError, match="noise_scale is -1"):
        GeneEffectTwin(noise_scale=-1.0)
