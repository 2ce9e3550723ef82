import numpy as np
import pytest
from counted_screen import counted
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from toy_screen import ToyScreen

from perturbrl.errors import DataError
from perturbrl.evaluation.de_metrics import de_precision_at_k, de_recall, differential_expression
from perturbrl.evaluation.distances import energy_distance, relative_to_replicate
from perturbrl.responses import emission
from perturbrl.responses.counted_cells import CountedCells, join
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.spread import ResponseSpread, Share

TOY = ToyScreen(n_genes=150)


@pytest.fixture(scope="module")
def control():
    return counted(TOY, "control", 150, draw_seed=0)


@pytest.fixture(scope="module")
def real():
    """Perturbed cells, normalised by the size factor of a cell as deep as the controls."""
    return counted(TOY, "G3", 150, draw_seed=0).log_expression


def test_emitted_cells_are_whole_dispersed_and_have_the_mean(control, real):
    target = real.mean(axis=0)
    cells = CellEmitter(control, seed=1).emit(target, n_cells=450)
    assert cells.counts.shape == (450, 150)
    emitted = cells.log_expression
    # Every control cell is there three times, so only what is drawn is noise, and that is less than all that varies.
    z = (emitted.mean(axis=0) - target) / (emitted.std(axis=0) / np.sqrt(450))
    assert np.abs(z).max() < 4
    assert np.sqrt(np.mean(z**2)) < 1
    assert emitted.std(axis=0).min() > 0


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("depth", [0.6, 1.5])
def test_the_mean_is_kept_whatever_the_spread(control, real, share, depth):
    target = real.mean(axis=0)
    spread = ResponseSpread(depth, np.full(150, 0.8), Share(share))
    cells = CellEmitter(control, seed=1).emit(target, 3000, spread=spread)
    emitted = cells.log_expression
    z = (emitted.mean(axis=0) - target) / (emitted.std(axis=0) / np.sqrt(3000))
    assert np.abs(z).max() < 4
    # A share of cells that is exact, and control cells drawn equally often, leave less noise than chance does.
    assert np.sqrt(np.mean(z**2)) < 1.05
    np.testing.assert_allclose(cells.size_factors.mean() / control.size_factors.mean(), depth, rtol=1e-9)


def test_cells_that_escape_are_control_cells(control, real):
    spread = ResponseSpread(1.0, np.zeros(150), Share(0.25))
    target = control.log_expression.mean(axis=0) + 0.3 * (
        real.mean(axis=0) - control.log_expression.mean(axis=0)
    )
    emitted = CellEmitter(control).emit(target, 400, spread=spread).counts.toarray()
    known = {tuple(row) for row in control.counts.toarray()}
    assert np.mean([tuple(row) in known for row in emitted]) == pytest.approx(0.25, abs=0.01)


def test_predicting_the_control_emits_control_cells(control):
    emitted = CellEmitter(control).emit(control.log_expression.mean(axis=0), n_cells=150)
    np.testing.assert_array_equal(
        np.unique(emitted.counts.toarray(), axis=0), np.unique(control.counts.toarray(), axis=0)
    )
    assert sorted(emitted.size_factors) == sorted(control.size_factors)


def test_emitted_cells_score_near_a_replicate_and_constant_ones_do_not(control, real):
    """Both predictors know the true mean exactly; only the spread of their cells differs."""
    target, control_cells = real.mean(axis=0), control.log_expression
    cells = {
        "emitted": CellEmitter(control).emit(target, n_cells=150).log_expression,
        "constant": np.tile(target, (150, 1)),
        "replicate": counted(TOY, "G3", 150, draw_seed=1).log_expression,
    }
    truth = differential_expression(real, control_cells)
    tests = {name: differential_expression(x, control_cells) for name, x in cells.items()}
    energy = {name: relative_to_replicate(x, real, energy_distance) for name, x in cells.items()}
    precision = {name: de_precision_at_k(truth, test) for name, test in tests.items()}
    recall = {name: de_recall(truth, test) for name, test in tests.items()}
    assert energy["emitted"] < 1.5 < 5 < energy["constant"]
    assert precision["emitted"] > precision["replicate"] - 0.1 > precision["constant"]
    assert recall["emitted"] > 0.7


def test_impossible_means_are_cut_to_what_counts_can_have(control):
    target = control.log_expression.mean(axis=0)
    target[0], target[1] = -2.0, 30.0
    emitted = CellEmitter(control).emit(target, n_cells=20).counts.toarray()
    assert not emitted[:, 0].any()
    assert np.isfinite(emitted).all()
    assert emitted[:, 1].min() > 0.5 * control.size_factors.min()


def test_a_gene_silent_in_control_can_be_switched_on(control):
    counts = control.counts.toarray()
    counts[:, 0] = 0
    silent = CountedCells(csr_array(counts), control.size_factors)
    target = silent.log_expression.mean(axis=0)
    target[0] = 1.0
    emitted = CellEmitter(silent).emit(target, n_cells=500).log_expression
    assert emitted[:, 0].mean() == pytest.approx(1.0, abs=0.25)


def test_emission_is_seeded(control, real):
    first, again, other, beside = (
        CellEmitter(control, seed).emit(real.mean(axis=0), 10, stream).counts.toarray()
        for seed, stream in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, beside)


@settings(max_examples=30, deadline=None)
@given(
    n_control=st.integers(1, 40),
    n_genes=st.integers(1, 12),
    n_cells=st.integers(1, 60),
    share=st.floats(0.0, 0.9),
    depth=st.floats(0.2, 5.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_fewer_cells_are_the_first_of_more_and_all_are_whole(n_control, n_genes, n_cells, share, depth, seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.5, 4.0, size=n_genes), size=(n_control, n_genes))
    cells = CountedCells(csr_array(counts.astype(np.float32)), rng.uniform(50.0, 5000.0, n_control))
    emitter = CellEmitter(cells, seed)
    spread = ResponseSpread(depth, rng.gamma(0.5, size=n_genes), Share(share))
    target = rng.normal(0.5, 1.0, n_genes)
    few, more = (emitter.emit(target, n, 3, spread) for n in (n_cells, n_cells + 7))
    assert few.counts.shape == (n_cells, n_genes)
    np.testing.assert_array_equal(few.counts.toarray(), more.counts.toarray()[:n_cells])
    np.testing.assert_array_equal(few.size_factors, more.size_factors[:n_cells])


def test_blocks_are_the_cells_a_few_at_a_time(control, real):
    n_cells = 2 * emission.BLOCK + 5
    blocks = list(CellEmitter(control).blocks(real.mean(axis=0), n_cells))
    assert [len(block) for block in blocks] == [emission.BLOCK, emission.BLOCK, 5]
    whole = CellEmitter(control).emit(real.mean(axis=0), n_cells)
    assert (join(blocks).counts != whole.counts).nnz == 0


def test_a_bounded_number_of_controls_calibrates_and_all_are_moved(control, real, monkeypatch):
    seen, of = [], emission.MovedControls.of
    monkeypatch.setattr(emission, "CALIBRATED", 40)
    monkeypatch.setattr(emission.MovedControls, "of", lambda cells: seen.append(len(cells)) or of(cells))
    cells = CellEmitter(control).emit(real.mean(axis=0), 150)
    assert seen == [40]
    assert sorted(cells.size_factors) == sorted(control.size_factors)


def test_emission_needs_control_cells(control):
    with pytest.raises(DataError, match="there is none"):
        CellEmitter(control[np.arange(0)])
