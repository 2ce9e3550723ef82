import pytest
import torch
from linear_twin import linear_twin, normal

from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import CheckpointError, ConfigurationError, DataError
from perturbrl.twins.checks import check_twin
from perturbrl.twins.gene_effect import GeneEffectTwin
from perturbrl.twins.perturbations import PerturbationSpace

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
    with pytest.raises(DataError, match=r"no single perturbation is left.*--model\.twin\.combinations true"):
        GeneEffectTwin().fit(cells, encoder)
    cells.expression[:40] = 1.0
    with pytest.raises(DataError, match="none of the 6 genes varies"):
        GeneEffectTwin("in_silico").fit(cells, encoder)
    with pytest.raises(ConfigurationError, match="noise_scale is -1"):
        GeneEffectTwin(noise_scale=-1.0)


DOSED = ("control",) * 40 + ("A:1",) * 20 + ("A:100",) * 20 + ("A:10",) * 10 + ("B",) * 10 + ("A:1+B",) * 5


def dosed_twin(**options):
    cells, encoder = cells_and_encoder(DOSED)
    twin = GeneEffectTwin(**options).fit(cells, encoder)
    twin.start_from(cells.latent[:40])
    shift = {label: cells.mean_of(label) - cells.mean_of("control") for label in cells.perturbations}
    return twin, shift


def moved(twin, dose):
    state = torch.zeros(1, 3)
    return twin.transition(state, torch.tensor([dose]), twin.draw_noise(1))[0]


def test_a_perturbation_measured_at_several_doses_is_one_column_interpolated_between_them():
    twin, shift = dosed_twin(scale=2.0)
    assert twin.perturbations.names == ("A", "B")
    assert twin.perturbations.measured_doses == ((1.0, 10.0, 100.0), ())
    for dose, label in ((0.01, "A:1"), (0.1, "A:10"), (1.0, "A:100")):
        assert torch.allclose(moved(twin, [dose, 0.0]), 2 * shift[label], atol=1e-4)
    half_way = (shift["A:10"] + shift["A:100"]) / 2
    assert torch.allclose(moved(twin, [10**-0.5, 0.5]), 2 * half_way + shift["B"], atol=1e-4)
    assert twin.linear_effects() is None
    check_twin(twin)


def test_normalised_effects_keep_the_ratio_of_doses():
    twin, shift = dosed_twin(normalise=True)
    assert torch.allclose(moved(twin, [0.1, 0.0]), shift["A:10"] / shift["A:100"].norm(), atol=1e-4)


def test_every_measured_dose_can_be_given_however_small():
    twin, _ = dosed_twin(min_dose_value=-1.0)
    for space in (twin.perturbations, twin.perturbations.restrict(min_dose=0.3)):
        action = torch.tensor([[0.01, 0.05], [0.004, 1.0], [-0.01, 0.7]])
        given, used = space.project(action, torch.zeros(3, 2, dtype=torch.bool))
        assert given[:, 0].tolist() == pytest.approx([0.01, 0.0, -0.01])
        assert used[:, 1].tolist() == [False, True, True]


def test_a_measured_label_is_a_dose_of_its_columns():
    space = dosed_twin()[0].perturbations
    doses = {label: space.dose_of(label) for label in ("A:10", "A:1+B", "A", "B", "control", "A:30")}
    assert {label: dose.tolist() for label, dose in doses.items()} == {
        "A:10": pytest.approx([0.1, 0.0]),
        "A:1+B": pytest.approx([0.01, 1.0]),
        "A": [1.0, 0.0],
        "B": [0.0, 1.0],
        "control": [0.0, 0.0],
        "A:30": pytest.approx([0.3, 0.0]),
    }
    assert [space.dose_of(label) for label in ("A:200", "B:3", "A:1+C")] == [None] * 3
    odd = PerturbationSpace(["C18:1", "B"])
    assert odd.dose_of("C18:1").tolist() == [1.0, 0.0]


def test_a_checkpoint_brings_the_doses_back():
    twin, _ = dosed_twin()
    restored = GeneEffectTwin()
    restored.restore(twin.describe())
    restored.load_state_dict(twin.state_dict())
    dose = torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
    state, noise = torch.zeros(5, 3), twin.draw_noise(5)
    assert torch.equal(restored.transition(state, dose, noise), twin.transition(state, dose, noise))
    assert restored.perturbations.measured_doses == twin.perturbations.measured_doses
    assert torch.equal(restored.perturbations.least, twin.perturbations.least)


def test_doses_of_combinations_and_of_genes_beside_them():
    cells, encoder = cells_and_encoder(DOSED)
    both = GeneEffectTwin(combinations=True).fit(cells, encoder)
    assert both.perturbations.names == ("A", "A:1+B", "B")
    joint = GeneEffectTwin("joint").fit(cells, encoder)
    assert joint.perturbations.names == GENES
    assert joint.perturbations.measured_doses == ((1.0, 10.0, 100.0), (), (), (), (), ())
