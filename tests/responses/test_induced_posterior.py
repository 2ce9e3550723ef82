"""Kriging of many rows against the exact equations, and its algebra against dense matrices."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import multivariate_normal

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses import induced_amplitudes, induced_posterior, kriging, weight_averaging
from perturbrl.responses.covariances import Covariances
from perturbrl.responses.induced_amplitudes import Told, nodes_between
from perturbrl.responses.induced_process import FeatureMap, Places, processes
from perturbrl.responses.inducing import BLOCK, Inducing
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.named_covariances import NamedCovariances
from perturbrl.responses.sampling_noise import SamplingNoise
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.responses.weight_averaging import AMPLITUDES, WeightNet

N_GENES = 10


def conditions(*texts, contexts=("",)):
    return [(Label.parse(text), context) for text in texts for context in contexts]


def screen(labels, contexts=("",), n_cells=12, seed=0, n_modules=3):
    """Cells of perturbations whose effects are told by features, and these features."""
    rng = np.random.default_rng(seed)
    names = sorted(
        {name for label in labels for name in Label.parse(label).names} | {f"u{i}" for i in range(6)}
    )
    features = rng.normal(size=(len(names), n_modules))
    effects = 0.4 * features @ rng.normal(size=(n_modules, N_GENES)) + 0.2 * rng.normal(
        size=(len(names), N_GENES)
    )
    effect = dict(zip(names, effects, strict=True))
    blocks, texts, types = [], [], []
    for context in contexts:
        for label in ("control", *labels):
            shift = sum((effect[name] for name in Label.parse(label).names), np.zeros(N_GENES))
            n = n_cells if label != "control" else 60
            blocks.append(shift + rng.normal(size=N_GENES) * 0.1 + rng.normal(size=(n, N_GENES)))
            texts, types = texts + [label] * n, types + [context] * n
    cells = TrainingCells(
        np.concatenate(blocks), texts, [f"g{i}" for i in range(N_GENES)], types if len(contexts) > 1 else None
    )
    return cells, PriorKnowledge("told", tuple(names), csr_matrix(features))


SINGLES = [f"p{i}" for i in range(70)]
PAIRS = [f"p{i}+p{(3 * i + 1) % 9}" for i in range(9, 40)]


@pytest.fixture
def small_net(monkeypatch):
    """All points are kept."""
    even = WeightNet.even
    monkeypatch.setattr(kriging.WeightNet, "even", lambda *sizes: even(*sizes, n_points=4))


@pytest.fixture
def without_short_cuts(small_net, monkeypatch):
    """All points of a small net, all amplitudes."""
    monkeypatch.setattr(weight_averaging, "_LEAST_SHARE", 0.0)
    monkeypatch.setattr(induced_amplitudes, "_LEAST_SHARE", 0.0)
    monkeypatch.setattr(induced_posterior, "_LEAST_WEIGHT", 0.0)
    monkeypatch.setattr(induced_posterior, "nodes_between", lambda process, most: AMPLITUDES)


@pytest.mark.usefixtures("without_short_cuts")
@pytest.mark.parametrize(
    ("labels", "contexts", "asked"),
    [
        (SINGLES, ("",), ("p0", "p9+p33", "u1", "p4+u2", "nobody")),
        ([*SINGLES[:40], *PAIRS], ("",), ("p0", "p9+p28", "p1+p2", "u1", "p4+u2", "p5+nobody")),
        ([*SINGLES[:24], "d:1", "d:10", "d:100"], ("x", "y"), ("p0", "p1+p2", "d:30", "u1")),
    ],
)
def test_it_is_the_exact_posterior_where_inducing_conditions_tell_all(labels, contexts, asked):
    cells, prior = screen(labels, contexts, n_cells=5)
    exact, found = (Kriging([prior], exact_rows=most).fit(cells) for most in (1000, 0))
    questions = conditions(*asked, contexts=contexts)
    expected, answers = exact.predict(questions), found.predict(questions)
    np.testing.assert_allclose(answers.mean, expected.mean, atol=2e-3)
    np.testing.assert_allclose(answers.sd, expected.sd, rtol=2e-3)
    np.testing.assert_allclose(answers.along, expected.along, rtol=2e-3)
    np.testing.assert_allclose(found.row_weights(questions), exact.row_weights(questions), atol=2e-3)


@pytest.mark.usefixtures("small_net")
def test_amplitudes_between_nodes_cost_little():
    cells, prior = screen(SINGLES)
    exact, found = (Kriging([prior], exact_rows=most).fit(cells) for most in (1000, 0))
    questions = conditions(*SINGLES[:20], "p1+p2", *(f"u{i}" for i in range(6)), "nobody")
    expected, answers = exact.predict(questions), found.predict(questions)
    assert np.linalg.norm(answers.mean - expected.mean) < 0.02 * np.linalg.norm(expected.mean)
    assert np.linalg.norm(answers.sd - expected.sd) < 0.02 * np.linalg.norm(expected.sd)


@pytest.mark.usefixtures("without_short_cuts")
def test_components_of_little_energy_share_a_point_and_an_amplitude(monkeypatch):
    monkeypatch.setattr(induced_posterior, "LEADING", 6)
    monkeypatch.setattr(induced_posterior, "_TAIL_STEP", 2)
    cells, prior = screen(SINGLES)
    exact, found = (Kriging([prior], exact_rows=most).fit(cells) for most in (1000, 0))
    questions = conditions(*SINGLES[:20], "u1", "nobody")
    expected, answers = exact.predict(questions), found.predict(questions)
    assert np.linalg.norm(answers.mean - expected.mean) < 0.1 * np.linalg.norm(expected.mean)
    np.testing.assert_allclose(answers.sd, expected.sd, rtol=0.2)


def test_likeliest_amplitudes_are_those_of_groups_together():
    process, places, whole, noise = one_process(SINGLES[:45])
    rng = np.random.default_rng(3)
    drawn = [
        rng.multivariate_normal(np.zeros(45), s * whole + noise.covariance, size=12).T for s in (0.05, 3.0)
    ]
    columns = np.concatenate(drawn, axis=1)
    nodes = AMPLITUDES[10:36:2]
    told = Told.of(0, process, nodes, places.put(columns))
    chosen = told.amplitudes[np.argmax(told.likeliest(slice(None), 2), axis=0)]
    evidence = [process.factor(s).evidence(places.put(columns)) for s in told.amplitudes.tolist()]
    together = [AMPLITUDES[10:35][np.argmax([one[part].sum() for one in evidence])] for part in HALVES]
    np.testing.assert_array_equal(chosen, together)
    np.testing.assert_allclose(np.log(chosen), np.log([0.05, 3.0]), atol=0.8)


HALVES = (slice(0, 12), slice(12, 24))


def one_process(labels, contexts=("",), cells=30):
    """A covariance between rows as blocks and features, and the same as one matrix."""
    _, prior = screen(labels, contexts)
    rows = [(Label.parse(label), context) for label in labels for context in contexts]
    profiles = {context: np.arange(3.0) * i for i, context in enumerate(contexts)}
    covariances = Covariances((prior,), profiles, {}, any("+" in label for label in labels))
    net = WeightNet.even(len(covariances.treatments), len(covariances.contexts), 2)
    inducing = Inducing.of(covariances, net, rows)
    codes = np.array([contexts.index(context) for _, context in rows])
    n_cells = np.random.default_rng(1).integers(cells // 10, cells, len(rows))
    noise = SamplingNoise(n_cells, np.array([40, 70])[codes], codes)
    places = Places.of(inducing, noise)
    features = FeatureMap(covariances, inducing, net)
    process = list(processes(covariances, rows, places, features, net))[1]
    whole = NamedCovariances.of(covariances, rows, rows).whole(net, 1)
    return process, places, whole, noise


@pytest.mark.parametrize("contexts", [("",), ("x", "y")])
def test_a_factor_solves_with_the_covariance_it_stands_for(contexts):
    process, places, whole, noise = one_process([*SINGLES[:40], *PAIRS[:5]], contexts)
    factor, dense = process.factor(0.7), 0.7 * whole + noise.covariance
    columns = np.random.default_rng(0).normal(size=(len(dense), 3))
    solved = places.take(factor.solve(places.put(columns)))
    np.testing.assert_allclose(solved, np.linalg.solve(dense, columns), rtol=1e-4, atol=1e-4)
    expected = multivariate_normal(np.zeros(len(dense)), dense).logpdf(columns.T)
    constant = 0.5 * len(dense) * np.log(2 * np.pi)
    np.testing.assert_allclose(factor.evidence(places.put(columns)), expected + constant, rtol=1e-4)
    known = process.factor(0.7, factor.root)
    np.testing.assert_array_equal(known.solve(places.put(columns)), factor.solve(places.put(columns)))


@pytest.mark.parametrize("contexts", [("",), ("x", "y")])
def test_mean_variance_is_that_of_turned_rows(contexts):
    process, _, whole, noise = one_process(SINGLES[:45], contexts)
    expected = np.trace(noise.whiten(noise.whiten(whole).T)) / len(whole)
    np.testing.assert_allclose(process.mean_variance, expected, rtol=1e-6)


@pytest.mark.parametrize("cells", [30, 10**12])
def test_there_is_an_amplitude_to_try_however_many_cells_there_are(cells):
    process, *_ = one_process(SINGLES[:45], cells=cells)
    nodes = nodes_between(process, 4.0)
    assert len(nodes) > 0
    assert (np.diff(nodes) > 0).all()
    signal = nodes * process.mean_variance
    assert cells > 30 or (signal[0] < 0.01 and signal[-1] > 4.0)


def test_rows_come_back_in_their_order():
    _, places, whole, _ = one_process(SINGLES[:45])
    values = np.arange(2.0 * len(whole)).reshape(-1, 2)
    placed = places.put(values)
    assert len(placed) % BLOCK == 0
    np.testing.assert_array_equal(places.take(placed), values)


def test_the_order_of_cells_changes_nothing():
    cells, prior = screen([*SINGLES[:30], *PAIRS[:4]])
    order = np.random.default_rng(0).permutation(len(cells.labels))
    mixed = TrainingCells(cells.expression[order], [cells.labels[i] for i in order], cells.genes)
    one, other = (Kriging([prior], exact_rows=0).fit(some) for some in (cells, mixed))
    questions = conditions("p1", "u2", "p1+p2", "p3+nobody")
    np.testing.assert_allclose(one.predict(questions).mean, other.predict(questions).mean, atol=1e-8)
    np.testing.assert_allclose(one.predict(questions).sd, other.predict(questions).sd, atol=1e-8)


def test_row_weights_are_those_with_which_measured_shifts_enter_a_prediction():
    cells, prior = screen(SINGLES[:40])
    one_gene = TrainingCells(cells.expression[:, :1], cells.labels, cells.genes[:1])
    model = Kriging([prior], exact_rows=0).fit(one_gene)
    questions = conditions("p1", "u2", "p1+p2", "nobody")
    weights = model.row_weights(questions)
    np.testing.assert_allclose(weights @ model.moments.shifts, model.predict(questions).mean, rtol=0.01)


@pytest.mark.usefixtures("small_net")
def test_no_covariance_between_all_rows_is_ever_held():
    n_rows = 3000
    rng = np.random.default_rng(0)
    labels = ["control"] * 50 + [f"p{i}" for i in range(n_rows) for _ in range(2)]
    cells = TrainingCells(rng.normal(size=(len(labels), 2)), labels, ["g", "h"])
    tracemalloc.start()
    model = Kriging(exact_rows=1000).fit(cells)
    found = model.predict(conditions(*(f"p{i}" for i in range(0, n_rows, 3)), "nobody"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(found.sd).all()
    assert peak < n_rows**2 * 8 / 2
