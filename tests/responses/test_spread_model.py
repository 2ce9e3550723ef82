"""Spread of simulated cells, where it is known."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from spread_screen import SpreadScreen

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import Label
from perturbrl.data.presets import ColumnOptions, detect_fields
from perturbrl.data.prior_knowledge import PriorKnowledge, ScreenShifts
from perturbrl.data.synthetic import simulate_screen
from perturbrl.evaluation.distances import energy_distance
from perturbrl.responses.counted_cells import counted_cells
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.moved_controls import MovedControls
from perturbrl.responses.spread import ResponseSpread, mixed_moments
from perturbrl.responses.spread_model import SpreadModel, spreads_under
from perturbrl.responses.training_cells import ONE_CONTEXT


def predicted(model, label):
    return model.predict([(Label.parse(label), ONE_CONTEXT)])[0]


@pytest.mark.parametrize("dispersion", [0.5, 1.5])
def test_a_known_dispersion_is_recovered(dispersion):
    model = SpreadModel().fit(*SpreadScreen(dispersion=dispersion).training())
    assert model.dispersion.mean() == pytest.approx(dispersion, rel=0.2)
    assert np.abs(model.dispersion - dispersion).mean() < 0.3 * dispersion


def test_genes_have_dispersions_of_their_own():
    known = np.where(np.arange(60) % 2, 0.25, 2.0)
    found = SpreadModel().fit(*SpreadScreen(dispersion=known).training()).dispersion
    assert np.corrcoef(found, known)[0, 1] > 0.9


def test_the_variance_of_a_perturbation_left_out_is_told_by_the_others():
    """A known factor: how much wider than by the mean alone cells are."""
    screen = SpreadScreen(dispersion=1.0)
    cells, labels = screen.training()
    kept = np.array([i for i, label in enumerate(labels) if label != "P7"])
    spread = predicted(SpreadModel().fit(cells[kept], [labels[i] for i in kept]), "P7")
    control, truth = screen.cells("control", 2000, 1), screen.cells("P7", 2000, 1)
    controls, shift = MovedControls.of(control), truth.log_mean - control.log_mean
    rises = shift > 0.5
    real = truth.log_expression.var(axis=0)[rises]
    narrow = mixed_moments(controls, shift, ResponseSpread.none(60))[1][rises]
    wide = mixed_moments(controls, shift, spread)[1][rises]
    assert (real / narrow).mean() > 1.3
    np.testing.assert_allclose((real / wide).mean(), 1.0, atol=0.05)


@pytest.mark.parametrize("depth", [0.6, 1.4])
def test_a_known_change_of_depth_is_recovered_and_expected_elsewhere(depth):
    model = SpreadModel().fit(*SpreadScreen(depth=depth).training())
    assert predicted(model, "P0").depth == pytest.approx(depth, rel=0.05)
    assert predicted(model, "nobody").depth == pytest.approx(depth, rel=0.1)


def test_null_data_have_a_factor_of_one():
    screen = SpreadScreen(strength=0.0)
    model = SpreadModel().fit(*screen.training())
    spread = predicted(model, "P0")
    controls = MovedControls.of(screen.cells("control", 300))
    still = controls.moments(controls.calibrate(controls.mean))[1]
    found = mixed_moments(controls, np.zeros(60), spread)[1]
    assert spread.depth == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(found / still, 1.0, atol=0.05)


def test_equal_size_factors_tell_no_depth():
    cells, labels = SpreadScreen().training()
    cells.size_factors[:] = 3000.0
    assert predicted(SpreadModel().fit(cells, labels), "P0").depth == 1.0


def test_emitted_cells_are_nearer_to_real_ones_with_the_spread_than_without():
    screen = SpreadScreen(dispersion=1.0, depth=0.6)
    spread = predicted(SpreadModel().fit(*screen.training()), "P3")
    control, real = screen.cells("control", 400, 2), screen.cells("P3", 400, 2)
    emitter = CellEmitter(control)
    found = {
        name: energy_distance(emitter.emit(real.log_mean, 400, 0, given).log_expression, real.log_expression)
        for name, given in {"spread": spread, "mean": None}.items()
    }
    assert found["spread"] < 0.5 * found["mean"]
    shifted = control.log_expression + real.log_mean - control.log_mean
    assert found["spread"] < 0.5 * energy_distance(shifted, real.log_expression)


def test_depth_is_told_by_features_of_another_screen_and_not_by_its_shifts():
    screen = SpreadScreen(depth=0.6)
    names = tuple(screen.perturbations)
    shifts = ScreenShifts(tuple(f"G{i}" for i in range(60)), np.ones((len(names), 60)))
    prior = PriorKnowledge("other", names, csr_matrix(np.eye(len(names))), shifts)
    assert predicted(SpreadModel([prior]).fit(*screen.training()), "P0").depth == pytest.approx(0.6, rel=0.05)


def test_of_a_data_set_some_cells_tell_the_spread_in_their_contexts():
    adata = simulate_screen(4, 40, 80, 40, n_combinations=0, seed=1)
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2, "T", "B")
    dataset = PerturbationDataset.from_adata(adata, detect_fields(adata, ColumnOptions(cell_type_key="kind")))
    rows, genes = np.flatnonzero(dataset.labels != "GENE0003"), dataset.genes[:20]
    asked = [(Label.parse("GENE0003"), "T"), (Label.parse("GENE0001"), "B")]
    model = SpreadModel().fit(
        counted_cells(dataset, rows, genes), list(dataset.labels[rows]), list(dataset.cell_types[rows])
    )
    for found, expected in zip(spreads_under(asked, dataset, rows, genes), model.predict(asked), strict=True):
        assert (found.depth, found.escaped) == (expected.depth, expected.escaped)
        np.testing.assert_array_equal(found.dispersion, expected.dispersion)
