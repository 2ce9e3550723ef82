"""Moments against plain arithmetic on all cells at once, through a checkpoint, and in little memory."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Label, Part
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import DataError
from perturbrl.responses import training_cells
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.moments import Moments
from perturbrl.responses.training_cells import TrainingCells

N_GENES = 9
LABELS = ("control", "A", "B", "A+B", "D:0.1", "D:10")


def two_contexts(labels=LABELS, n_cells=7, seed=0):
    rng = np.random.default_rng(seed)
    effects = {label: rng.normal(size=N_GENES) * (label != "control") for label in labels}
    rows = [(label, context) for context in "xy" for label in labels for _ in range(n_cells)]
    expression = np.stack(
        [effects[label] + (context == "y") + rng.normal(size=N_GENES) for label, context in rows]
    )
    texts, contexts = zip(*rows, strict=True)
    return TrainingCells(expression, list(texts), tuple(f"g{i}" for i in range(N_GENES)), list(contexts))


def test_moments_are_those_of_all_cells_at_once():
    cells = two_contexts()
    found = Moments.of(cells)
    labels, contexts = np.array(cells.labels), np.array(cells.cell_types)
    residuals = np.empty_like(cells.expression)
    for context in "xy":
        for label in LABELS:
            rows = (labels == label) & (contexts == context)
            residuals[rows] = cells.expression[rows] - cells.expression[rows].mean(axis=0)
    control = cells.expression[(labels == "control") & (contexts == "y")].mean(axis=0)
    expected = cells.expression[(labels == "A+B") & (contexts == "y")].mean(axis=0) - control
    row = found.conditions.index((Label.parse("A+B"), "y"))
    freedom = len(labels) - 2 * len(LABELS)
    np.testing.assert_allclose(found.shifts[row], expected)
    np.testing.assert_allclose(found.gene_variance, np.square(residuals).sum(axis=0) / freedom)
    along = np.square(residuals @ found.components.T).sum(axis=0) / freedom
    np.testing.assert_allclose(found.component_variance, along)
    assert len(found.conditions) == 2 * (len(LABELS) - 1)


@pytest.mark.parametrize("n_kept", [6, 2])
def test_components_are_the_right_singular_vectors_of_whitened_shifts(n_kept):
    """With more rows than genes, and with fewer."""
    found = Moments.of(two_contexts(LABELS[:n_kept] if n_kept == 2 else LABELS))
    turned = found.noise.whiten(found.shifts)
    products = found.components @ turned.T @ turned @ found.components.T
    values = np.linalg.svd(turned, compute_uv=False)
    np.testing.assert_allclose(products, np.diag(np.square(values[: len(products)])), atol=1e-9)
    np.testing.assert_allclose(turned @ found.components.T @ found.components, turned, atol=1e-9)


def test_the_number_of_cells_read_at_a_time_changes_nothing(monkeypatch):
    cells = two_contexts()
    whole = Moments.of(cells)
    monkeypatch.setattr(training_cells, "_BLOCK", 5 * N_GENES)
    pieces = Moments.of(two_contexts())
    np.testing.assert_allclose(pieces.shifts, whole.shifts, atol=1e-12)
    np.testing.assert_allclose(pieces.gene_variance, whole.gene_variance)
    np.testing.assert_allclose(pieces.component_variance, whole.component_variance)


def test_compressed_cells_have_the_moments_of_dense_ones():
    cells = two_contexts()
    kept = np.where(np.asarray(cells.expression) > 0.5, cells.expression, 0.0)
    dense, sparse = (
        Moments.of(TrainingCells(values, cells.labels, cells.genes, cells.cell_types))
        for values in (kept, csr_matrix(kept))
    )
    np.testing.assert_array_equal(dense.shifts, sparse.shifts)
    np.testing.assert_array_equal(dense.component_variance, sparse.component_variance)
    kept[3, 2] = np.inf
    with pytest.raises(DataError, match="not finite"):
        TrainingCells(csr_matrix(kept), cells.labels, cells.genes)


def test_moments_take_no_copy_of_the_cells(monkeypatch):
    rng = np.random.default_rng(0)
    expression = torch.from_numpy(rng.normal(size=(40_000, 100)).astype(np.float32))
    labels = [LABELS[i % 3] for i in range(len(expression))]
    monkeypatch.setattr(training_cells, "_BLOCK", 1 << 16)
    tracemalloc.start()
    Moments.of(TrainingCells(expression, labels, [f"g{i}" for i in range(100)]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < expression.nbytes / 2


def test_a_fitted_model_goes_through_a_checkpoint_to_the_last_bit(tmp_path):
    features = csr_matrix(np.random.default_rng(1).normal(size=(4, 3)))
    model = Kriging((PriorKnowledge("told", ("A", "B", "D", "E"), features),)).fit(two_contexts())
    content = {"moments": model.moments.to_dict(), "priors": [prior.to_dict() for prior in model.priors]}
    torch.save(content, tmp_path / "saved.pt")
    read = torch.load(tmp_path / "saved.pt", weights_only=True)
    priors = [PriorKnowledge.from_dict(prior) for prior in read["priors"]]
    restored = Kriging(priors).fit_moments(Moments.from_dict(read["moments"]))
    asked = [(Label.parse(text), context) for text in ("A", "B+E", "D:1", "Q") for context in "xy"]
    before, after = model.predict(asked), restored.predict(asked)
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.sd, after.sd)
    assert before.evidence == after.evidence
    assert restored.weights == model.weights


def test_a_name_that_looks_like_a_dose_stays_a_name_in_a_checkpoint():
    name, dosed = Label([Part("C18:1")]), Label([Part("D", 0.5)])
    rng = np.random.default_rng(0)
    cells = TrainingCells(rng.normal(size=(6, 2)), ["control", name, dosed] * 2, ["g", "h"])
    saved = Moments.of(cells).to_dict()
    assert [label.parts for label, _ in Moments.from_dict(saved).conditions] == [name.parts, dosed.parts]


def test_populations_of_one_cell_tell_nothing_of_how_cells_vary():
    with pytest.raises(DataError, match="every population has one cell"):
        Moments.of(TrainingCells(np.eye(3), ["control", "A", "B"], ["g", "h", "i"]))
