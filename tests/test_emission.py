import numpy as np
import pytest
from toy_screen import ToyScreen

from perturbrl.errors import DataError
from perturbrl.evaluation.de_metrics import de_precision_at_k, de_recall, differential_expression
from perturbrl.evaluation.distances import energy_distance, relative_to_replicate
from perturbrl.evaluation.emission import emit_counts

TOY = ToyScreen(n_genes=150)


def normalised(counts, sizes):
    return np.log1p(1e4 * counts / sizes[:, None])


@pytest.fixture(scope="module")
def control():
    counts = TOY.counts("control", 150, draw_seed=0)
    return counts, counts.sum(axis=1, dtype=np.float64)


@pytest.fixture(scope="module")
def real(control):
    """Perturbed cells, normalised by the size factor of a cell as deep as the controls."""
    counts = TOY.counts("G3", 150, draw_seed=0)
    return normalised(counts, counts.sum(axis=1, dtype=np.float64))


def test_emitted_cells_are_whole_dispersed_and_have_the_mean(control, real):
    target = real.mean(axis=0)
    counts, sizes = emit_counts(target, *control, n_cells=400, seed=1)
    assert counts.shape == (400, 150)
    np.testing.assert_array_equal(counts, counts.round())
    assert counts.min() >= 0
    emitted = normalised(counts, sizes)
    # Error of 400 emitted cells and of the 150 that calibrated them.
    error = emitted.std(axis=0) * np.sqrt(1 / 400 + 1 / 150)
    z = (emitted.mean(axis=0) - target) / error
    assert np.abs(z).max() < 5
    assert np.sqrt(np.mean(z**2)) < 1.3


def test_predicting_the_control_emits_control_cells(control):
    counts, sizes = control
    emitted, emitted_sizes = emit_counts(normalised(counts, sizes).mean(axis=0), counts, sizes, n_cells=50)
    known = {tuple(row) for row in counts}
    assert all(tuple(row) in known for row in emitted)
    assert set(emitted_sizes) <= set(sizes)


def test_emitted_cells_score_near_a_replicate_and_constant_ones_do_not(control, real):
    """Both predictors know the true mean exactly; only the spread of their cells differs."""
    target, control_cells = real.mean(axis=0), normalised(*control)
    fresh = TOY.counts("G3", 150, draw_seed=1)
    cells = {
        "emitted": normalised(*emit_counts(target, *control, n_cells=150)),
        "constant": np.tile(target, (150, 1)),
        "replicate": normalised(fresh, fresh.sum(axis=1, dtype=np.float64)),
    }
    truth = differential_expression(real, control_cells)
    tests = {name: differential_expression(x, control_cells) for name, x in cells.items()}
    energy = {name: relative_to_replicate(x, real, energy_distance) for name, x in cells.items()}
    precision = {name: de_precision_at_k(truth, test) for name, test in tests.items()}
    recall = {name: de_recall(truth, test) for name, test in tests.items()}
    assert energy["emitted"] < 1.5 < 5 < energy["constant"]
    assert precision["emitted"] > precision["replicate"] - 0.1 > precision["constant"]
    # Measured .78 against .91: resampled control cells carry the noise of the control sample.
    assert recall["replicate"] > recall["emitted"] > 0.7


def test_impossible_means_are_cut_to_what_counts_can_have(control):
    counts, sizes = control
    target = normalised(counts, sizes).mean(axis=0)
    target[0], target[1] = -2.0, 30.0
    emitted, _ = emit_counts(target, counts, sizes, n_cells=20)
    assert not emitted[:, 0].any()
    assert np.isfinite(emitted).all()
    assert emitted[:, 1].min() > 0.5 * sizes.min()


def test_a_gene_silent_in_control_can_be_switched_on(control):
    counts, sizes = control
    silent = counts.copy()
    silent[:, 0] = 0
    target = normalised(silent, sizes).mean(axis=0)
    target[0] = 1.0
    emitted, emitted_sizes = emit_counts(target, silent, sizes, n_cells=500)
    assert normalised(emitted, emitted_sizes)[:, 0].mean() == pytest.approx(1.0, abs=0.25)


def test_emission_is_seeded(control, real):
    first, again, other = (emit_counts(real.mean(axis=0), *control, 10, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_emission_needs_raw_counts(control):
    counts, sizes = control
    with pytest.raises(DataError, match="give raw counts"):
        emit_counts(counts[0] * 0.0, counts + 0.5, sizes, 3)
    with pytest.raises(DataError, match="the 0 given ones"):
        emit_counts(counts[0] * 0.0, counts[:0], sizes[:0], 3)
