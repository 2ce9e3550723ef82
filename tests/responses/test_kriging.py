"""Kriging against closed forms, an independent library and its own model."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.responses import kriging, telling_rows
from perturbrl.responses.base import EVIDENCE
from perturbrl.responses.baselines import TrainingMean
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.responses.weight_averaging import AMPLITUDES, Spectrum, WeightNet

GENES = tuple(f"g{i}" for i in range(12))


def screen(effects, n_cells=40, n_control=200, noise=0.3, seed=0, contexts=None):
    """Cells with the given mean shift by label, normal around it."""
    rng = np.random.default_rng(seed)
    blocks, labels, types = [], [], []
    for context, offset in (contexts or {"": 0.0}).items():
        for label, effect in {"control": np.zeros(len(GENES)), **effects}.items():
            shift = effect(context) if callable(effect) else effect
            if shift is None:
                continue
            n = n_control if label == "control" else n_cells
            blocks.append(2.0 + offset + shift + noise * rng.normal(size=(n, len(GENES))))
            labels += [label] * n
            types += [context] * n
    return TrainingCells(np.concatenate(blocks), labels, GENES, types if contexts else None)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def certain(monkeypatch, treatments, contexts=(1.0,), saturation=0.0):
    """Let one point of the net have all the weight beforehand."""
    weights = (np.array([one], dtype=float) for one in (treatments, contexts))
    net = WeightNet(*weights, np.array([False]), np.array([saturation]), np.ones((1, 1)))
    monkeypatch.setattr(kriging.WeightNet, "even", lambda *sizes: net)


def shift_of(model, text, context=""):
    return model.predict([(Label.parse(text), context)])


SINGLES = dict(zip("ABCD", normal(4, 12), strict=True))


def test_effects_of_their_own_add_up(monkeypatch):
    certain(monkeypatch, (0.0, 1.0))
    cells = screen(SINGLES, n_cells=4000, n_control=8000)
    model = Kriging().fit(cells)
    np.testing.assert_allclose(shift_of(model, "A+C").mean[0], SINGLES["A"] + SINGLES["C"], atol=0.05)


def test_a_common_effect_is_the_mean_of_the_training_shifts(monkeypatch):
    certain(monkeypatch, (1.0, 0.0))
    common = normal(12, seed=5)
    cells = screen({name: common + 0.02 * effect for name, effect in SINGLES.items()}, n_cells=500)
    model = Kriging().fit(cells)
    expected = TrainingMean().fit(cells).overall(["unseen"])[0]
    np.testing.assert_allclose(shift_of(model, "unseen").mean[0], expected, atol=0.03)
    np.testing.assert_allclose(shift_of(model, "x+y").mean[0], 2 * expected, atol=0.06)


def test_the_mean_of_the_parts_is_a_limit(monkeypatch):
    certain(monkeypatch, (0.0, 1.0), saturation=1.0)
    cells = screen(SINGLES, n_cells=4000, n_control=8000)
    found = shift_of(Kriging().fit(cells), "A+C").mean[0]
    np.testing.assert_allclose(found, (SINGLES["A"] + SINGLES["C"]) / 2, atol=0.05)


def test_combinations_that_saturate_are_learned_from_others():
    effects = dict(zip("ABCDEF", normal(6, 12), strict=True))
    effects |= {f"{a}+{b}": (effects[a] + effects[b]) / 2 for a, b in ("AB", "CD", "EF", "AC", "BD")}
    found = shift_of(Kriging().fit(screen(effects, n_cells=400)), "A+F").mean[0]
    error = [np.linalg.norm(found - share * (effects["A"] + effects["F"])) for share in (0.5, 1.0)]
    assert error[0] < 0.4 * error[1]


def test_strong_perturbations_do_not_speak_for_weak_ones():
    """A few do much and alike, most do nothing: an unmeasured one is expected to do little of it."""
    rng = np.random.default_rng(0)
    strong = 3.0 * rng.normal(size=12)
    effects = {f"s{i}": strong + 0.5 * rng.normal(size=12) for i in range(3)}
    effects |= {f"w{i}": 0.1 * rng.normal(size=12) for i in range(17)}
    cells = screen(effects, n_cells=200)
    found = shift_of(Kriging().fit(cells), "unseen").mean[0]
    assert np.linalg.norm(found) < 0.7 * np.linalg.norm(TrainingMean().fit(cells).overall(["unseen"])[0])


def test_the_nearest_context_carries_its_effect_over(monkeypatch):
    certain(monkeypatch, (0.5, 0.5), (0.5, 0.5, 0.0))
    near, far = normal(2, 12, seed=7)
    contexts = {"a": 0.0, "b": 0.01, "c": 9.0}
    effects = {"A": lambda context: {"a": near, "b": None, "c": far}[context]}
    model = Kriging().fit(screen(effects, n_cells=2000, contexts=contexts))
    found = shift_of(model, "A", "b")
    assert found.evidence == ("transferred",)
    np.testing.assert_allclose(found.mean[0], near, atol=0.15)


def test_a_point_of_the_net_is_the_gaussian_process_of_scikit_learn():
    """One component with a known amplitude: mean and variance by an independent library."""
    rng = np.random.default_rng(3)
    features, new = rng.normal(size=(8, 3)), rng.normal(size=(4, 3))
    y = features @ rng.normal(size=3) + rng.normal(size=8)
    amplitude = 1.0  # in the middle of the net of amplitudes, made certain below
    theirs = GaussianProcessRegressor(DotProduct(sigma_0=1e-8, sigma_0_bounds="fixed"), alpha=1.0).fit(
        features, y
    )
    mean, sd = theirs.predict(new, return_std=True)
    spectrum = Spectrum.of(features @ features.T, y[:, None], amplitudes=np.array([amplitude]))
    seen = spectrum.vectors.T @ (features @ new.T)
    np.testing.assert_allclose(seen.T @ spectrum.coefficients[:, 0], mean)
    variance = amplitude * np.square(new).sum(1) - np.square(seen).T @ spectrum.curvature[:, 0]
    np.testing.assert_allclose(np.sqrt(variance), sd)
    expected = theirs.log_marginal_likelihood() + 4 * np.log(2 * np.pi)
    np.testing.assert_allclose(spectrum.evidence, expected)


def test_a_measured_perturbation_is_predicted_as_measured():
    model = Kriging().fit(screen(SINGLES, n_cells=2000, n_control=4000))
    found = shift_of(model, "B")
    np.testing.assert_allclose(found.mean[0], SINGLES["B"], atol=0.05)
    assert found.evidence == ("measured",)
    assert found.sd.max() < 0.05


def test_evidence_says_what_a_prediction_rests_on():
    prior = PriorKnowledge("sets", *_features({"A": (1, 0), "Z": (1, 0.1), "D": (0, 1)}))
    effects = SINGLES | {"A+B": SINGLES["A"] + SINGLES["B"]}
    model = Kriging((prior,)).fit(screen(effects))
    asked = {"A+B": "measured", "B+C": "combined", "Z": "prior", "Q": "none", "A+Q": "none"}
    conditions = [(Label.parse(text), "") for text in asked]
    assert model.predict(conditions).evidence == tuple(asked.values())
    assert set(asked.values()) <= set(EVIDENCE)


def _features(rows):
    return tuple(rows), csr_matrix(np.array(list(rows.values()), dtype=float))


def test_what_is_not_known_is_near_nothing_and_uncertain():
    model = Kriging().fit(screen(SINGLES, n_cells=200))
    unknown, known = shift_of(model, "Q"), shift_of(model, "A")
    assert np.linalg.norm(unknown.mean) < 0.6 * np.linalg.norm(known.mean)
    assert unknown.sd.mean() > 5 * known.sd.mean()
    assert (unknown.sd > 0).all()


def test_prior_knowledge_that_tells_is_used_and_noise_is_not():
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(24)]
    modules = rng.normal(size=(4, 12))
    effects = {name: modules[i % 4] + 0.1 * rng.normal(size=12) for i, name in enumerate(names)}
    told = {name: np.eye(4)[i % 4] for i, name in enumerate(names)}
    mixed = dict(zip(names, rng.permutation(list(told.values())), strict=True))
    cells = screen({name: effects[name] for name in names[:-1]}, n_cells=60)
    right, wrong = (Kriging((PriorKnowledge("told", *_features(rows)),)).fit(cells) for rows in (told, mixed))
    assert right.weights["told"] > 0.5 > 0.2 > wrong.weights["told"]
    truth = effects[names[-1]]
    assert np.linalg.norm(shift_of(right, names[-1]).mean - truth) < 0.3 * np.linalg.norm(truth)


def test_null_data_stay_null():
    model = Kriging().fit(screen({name: np.zeros(12) for name in "ABCDEF"}, n_cells=30))
    found = model.predict([(Label.parse(text), "") for text in ("A", "A+B", "Q")])
    sampling = 0.3 * (1 / 30 + 1 / 200) ** 0.5
    assert (np.sqrt(np.square(found.mean).mean(axis=1)) < np.array([0.8, 1.2, 0.8]) * sampling).all()
    assert (np.abs(found.mean) < 3 * found.sd).mean() > 0.97


@pytest.mark.parametrize("n_measured", [12, 40])
def test_intervals_cover_what_they_say(n_measured):
    """Unmeasured perturbations and combinations, drawn from the model that is fitted."""
    inside = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        common = 0.5 * rng.normal(size=12)
        effects = {f"p{i}": common + rng.normal(size=12) for i in range(n_measured + 4)}
        measured = dict(list(effects.items())[:n_measured])
        model = Kriging().fit(screen(measured, n_cells=40, seed=seed))
        asked = {f"p{n_measured + i}": effects[f"p{n_measured + i}"] for i in range(4)}
        asked["p0+p1"] = effects["p0"] + effects["p1"]
        found = model.predict([(Label.parse(text), "") for text in asked])
        inside.append(np.abs(found.mean - np.stack(list(asked.values()))) < 1.645 * found.sd)
    assert 0.84 < np.mean(inside) < 0.97


def test_noise_of_many_genes_is_no_effect_of_few_perturbations():
    cells = many_genes({name: np.zeros(400) for name in "ABCDEF"}, n_cells=30)
    found = Kriging().fit(cells).predict([(Label.parse(text), "") for text in ("A", "B", "C")])
    sampling = (1 / 30 + 1 / 200) ** 0.5
    assert np.sqrt(np.square(found.mean).mean()) < 0.3 * sampling
    assert (np.abs(found.mean) < 1.645 * found.sd).mean() > 0.85


def test_intervals_of_measured_perturbations_cover_what_they_say():
    inside = []
    for seed in range(8):
        effects = {f"p{i}": effect for i, effect in enumerate(0.1 * normal(12, 50, seed=seed))}
        found = Kriging().fit(many_genes(effects, n_cells=10, seed=seed))
        found = found.predict([(Label.parse(text), "") for text in effects])
        inside.append(np.abs(found.mean - np.stack(list(effects.values()))) < 1.645 * found.sd)
    assert 0.82 < np.mean(inside) < 0.97


def test_intervals_hold_where_effects_are_weaker_than_noise():
    inside = []
    for seed in range(12):
        effects = {f"p{i}": effect for i, effect in enumerate(0.2 * normal(34, 5, seed=seed))}
        measured = dict(list(effects.items())[:30])
        found = Kriging().fit(many_genes(measured, n_cells=10, seed=seed))
        found = found.predict([(Label.parse(text), "") for text in effects])
        inside.append(np.abs(found.mean - np.stack(list(effects.values()))) < 1.645 * found.sd)
    assert 0.8 < np.mean(inside) < 0.97


def test_one_perturbation_tells_how_large_another_may_be():
    found = Kriging().fit(screen({"A": normal(12)})).predict([(Label.parse(text), "") for text in "AQ"])
    assert found.sd[0].max() < 0.2
    assert 0.3 < np.sqrt(np.square(found.sd[1]).mean()) < 3.0


def many_genes(effects, n_cells, seed=0):
    """Cells of unit variance; 200 of control."""
    rng = np.random.default_rng(seed)
    n_genes = len(next(iter(effects.values())))
    blocks = [effect + rng.normal(size=(n_cells, n_genes)) for effect in effects.values()]
    labels = ["control"] * 200 + [label for label in effects for _ in range(n_cells)]
    expression = np.concatenate([rng.normal(size=(200, n_genes)), *blocks])
    return TrainingCells(expression, labels, tuple(f"g{i}" for i in range(n_genes)))


def test_not_knowing_the_amplitude_makes_the_mean_uncertain():
    """Where all eigenvalues are alike the first order is exact."""
    covariance, y = 2.0 * np.eye(5), normal(5, 3)
    spectrum = Spectrum.of(covariance, y)
    fits = [Spectrum.of(covariance, y, AMPLITUDES[i : i + 1]) for i in range(len(AMPLITUDES))]
    prior = np.sqrt(2 * AMPLITUDES) / (1 + 2 * AMPLITUDES)
    weights = prior[:, None] / prior.sum() * np.exp([fit.evidence - spectrum.evidence for fit in fits])
    means = np.array([fit.vectors @ fit.coefficients for fit in fits])
    average = (weights[:, None] * means).sum(axis=0)
    np.testing.assert_allclose(spectrum.vectors @ spectrum.coefficients, average)
    expected = (weights[:, None] * np.square(means - average)).sum(axis=0)
    np.testing.assert_allclose(np.square(spectrum.vectors @ spectrum.sway), expected)
    assert not any(fit.sway.any() for fit in fits)


def test_a_component_that_no_kept_point_suits_has_even_shares():
    shares = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    kept = WeightNet(np.eye(3), np.ones((3, 1)), np.zeros(3, dtype=bool), np.zeros(3), shares).most_likely(2)
    np.testing.assert_allclose(kept.shares, [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], atol=1e-300)


def test_populations_that_equal_control_to_the_last_digit_are_an_error():
    with pytest.raises(DataError, match="equal their control's"):
        Kriging().fit(TrainingCells(np.ones((6, 12)), ["control", "A", "B"] * 2, GENES))


def test_many_rows_are_weighed_by_some_of_them(monkeypatch):
    monkeypatch.setattr(telling_rows, "FEW_ROWS", 10)
    rng = np.random.default_rng(1)
    common = rng.normal(size=12)
    effects = {f"p{i}": common + 0.3 * rng.normal(size=12) for i in range(45)}
    model = Kriging().fit(screen(effects, n_cells=40))
    assert np.linalg.norm(shift_of(model, "new").mean - common) < 0.3 * np.linalg.norm(common)


def test_effects_grow_with_the_dose_and_stay_beyond_the_largest():
    effect = normal(12)
    effects = {"A:1": 0.2 * effect, "A:10": 0.6 * effect, "A:100": effect, "B": normal(12, seed=3)}
    model = Kriging().fit(screen(effects, n_cells=300))
    lengths = [np.linalg.norm(shift_of(model, f"A:{dose}").mean) for dose in (1, 3, 10, 30, 100)]
    assert lengths == sorted(lengths)
    beyond, largest = shift_of(model, "A:1000"), shift_of(model, "A:100")
    np.testing.assert_allclose(beyond.mean, largest.mean, rtol=0.05, atol=0.02)
    assert (beyond.sd > 3 * largest.sd).all()
    assert shift_of(model, "A:30").evidence == ("combined",)


def test_row_weights_are_those_with_which_measured_shifts_enter_a_prediction():
    prior = PriorKnowledge("sets", *_features({"A": (1, 0), "Z": (1, 0.3), "D": (0, 1)}))
    cells = screen({name: 3.0 * effect for name, effect in SINGLES.items()}, n_cells=60)
    one_gene = TrainingCells(cells.expression[:, :1], cells.labels, cells.genes[:1])
    model = Kriging((prior,)).fit(one_gene)
    asked = [(Label.parse(text), "") for text in ("Z", "A", "B+C", "unknown")]
    weights = model.row_weights(asked)
    # One gene has one component, so nothing is averaged.
    np.testing.assert_allclose(weights @ model.moments.shifts, model.predict(asked).mean)
    assert weights[1].argmax() == 0
    assert weights[1, 0] > 0.8


def test_row_weights_name_what_prior_knowledge_calls_alike():
    rows = {"A": (1, 0, 0), "Z": (1, 0.2, 0), "B": (0, 1, 0), "C": (0, 0.9, 0.5), "D": (0.7, 0, 1)}
    prior = PriorKnowledge("sets", *_features(rows))
    features = dict(zip(rows, np.array(list(rows.values())) @ normal(3, 12, seed=9), strict=True))
    model = Kriging((prior,)).fit(screen({name: features[name] for name in "ABCD"}, n_cells=200))
    weights = model.row_weights([(Label.parse("Z"), "")])[0]
    assert weights.argmax() == 0
    assert weights[0] > 2 * np.abs(weights[1:]).max()


def test_the_interval_along_a_prediction_holds_the_true_size():
    sizes = []
    for seed in range(60):
        effects = dict(zip("ABCDEF", 0.4 * normal(6, 12, seed=100 + seed), strict=True))
        model = Kriging().fit(screen({name: effects[name] for name in "ABCDE"}, n_cells=30, seed=seed))
        found = model.predict([(Label.parse(name), "") for name in "AF"])
        way = found.mean / np.linalg.norm(found.mean, axis=1, keepdims=True)
        true = (way * np.stack([effects["A"], effects["F"]])).sum(axis=1)
        sizes.append(np.abs(true - np.linalg.norm(found.mean, axis=1)) / found.along)
    measured, unknown = (np.array(sizes) < 1.645).mean(axis=0)
    assert 0.75 < measured <= 1.0
    assert 0.8 < unknown <= 1.0


@pytest.mark.parametrize("taken", ["sets.gmt", "own"])
def test_two_sources_of_one_name_are_an_error(taken):
    first, second = (PriorKnowledge(name, ("A", "B"), csr_matrix(np.eye(2))) for name in ("sets.gmt", taken))
    with pytest.raises(ConfigurationError, match=f"'{taken}' .* rename"):
        Kriging([first, second])


def test_the_covariance_along_genes_holds_their_variances():
    model = Kriging().fit(screen(SINGLES | {"A+B": SINGLES["A"] + SINGLES["B"]}))
    asked = [(Label.parse(text), "") for text in ("A", "A+C", "UNKNOWN")]
    found = model.covariance_along(asked, np.eye(len(GENES)))
    sd = model.predict(asked).sd
    np.testing.assert_allclose(np.sqrt(np.diagonal(found, axis1=1, axis2=2)), sd, rtol=1e-9)
    turned = np.linalg.qr(normal(12, 12, seed=9))[0]
    np.testing.assert_allclose(model.covariance_along(asked, turned), turned @ found @ turned.T, atol=1e-9)
