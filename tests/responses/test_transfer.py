"""What another screen foretells: the scale, the reading of a file, and kriging with both."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge, ScreenShifts
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.responses import reference
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.moments import Moments
from perturbrl.responses.reference import read_reference, reference_of
from perturbrl.responses.same_target import SameTarget, ScaledSameTarget
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.responses.transfer import Transfer

GENES = tuple(f"g{i}" for i in range(10))
NAMES = tuple(f"p{i}" for i in range(12))


def screen_of(values, names=NAMES, genes=GENES):
    return PriorKnowledge("other", tuple(names), csr_matrix(values), ScreenShifts(tuple(genes), values))


def cells(shifts, n=30, noise=0.2, seed=0):
    """Cells of the given shifts, and twice as many controls."""
    rng = np.random.default_rng(seed)
    blocks = [rng.normal(size=(2 * n, 10)) * noise]
    blocks += [shift + noise * rng.normal(size=(n, 10)) for shift in shifts.values()]
    labels = ["control"] * 2 * n + [name for name in shifts for _ in range(n)]
    return TrainingCells(np.concatenate(blocks), labels, GENES)


@pytest.fixture
def alike():
    """Twelve perturbations that do here half of what they do elsewhere, and something common and of their own."""
    rng = np.random.default_rng(1)
    there = rng.normal(size=(12, 10))
    here = 0.5 * there + rng.normal(size=10) + 0.1 * rng.normal(size=(12, 10))
    return there, dict(zip(NAMES, here, strict=True))


def conditions(*texts):
    return [(Label.parse(text), "") for text in texts]


def test_the_scale_is_that_of_least_squares_around_the_means(alike):
    there, here = alike
    without = {name: here[name] for name in NAMES[:-1]}
    transfer = Transfer.learn(screen_of(there), cells(without, noise=1e-6))
    x, y = (part - part.mean(axis=0) for part in (there[:-1], np.stack(list(without.values()))))
    assert transfer.scale == pytest.approx((x * y).sum() / (x * x).sum(), rel=1e-4)
    assert transfer.scale == pytest.approx(0.5, abs=0.1)
    assert transfer.in_common == 11
    expected = transfer.scale * (there - there[:-1].mean(axis=0))
    found = transfer.of(conditions(NAMES[-1], "p0+p1", "new", "p0+new", "p0:3"))
    np.testing.assert_allclose(found[0], expected[-1])
    np.testing.assert_allclose(found[1], expected[0] + expected[1])
    np.testing.assert_allclose(found[2:], [np.zeros(10), expected[0], np.zeros(10)])


@pytest.mark.parametrize("seed", range(8))
def test_leaving_one_out_is_done_as_it_says(seed):
    """The closed form against the loop, whichever way it decides."""
    rng = np.random.default_rng(seed)
    there, here = rng.normal(size=(2, 12, 10))
    here = here + 0.12 * there
    before = after = 0.0
    for i in range(12):
        others = np.arange(12) != i
        x, y = there[others] - there[others].mean(axis=0), here[others] - here[others].mean(axis=0)
        slope = (x * y).sum() / (x * x).sum()
        off = here[i] - here[others].mean(axis=0)
        before += off @ off
        left = off - slope * (there[i] - there[others].mean(axis=0))
        after += left @ left
    found = Transfer.learn(screen_of(there), cells(dict(zip(NAMES, here, strict=True)), noise=1e-7))
    assert (found.scale != 0.0) == (after < before)


def test_the_doubt_about_the_scale_is_the_jackknifes(alike):
    there, here = alike
    shifts = np.stack([here[name] for name in NAMES])
    slopes = []
    for i in range(12):
        others = np.arange(12) != i
        x, y = there[others] - there[others].mean(axis=0), shifts[others] - shifts[others].mean(axis=0)
        slopes.append((x * y).sum() / (x * x).sum())
    found = Transfer.learn(screen_of(there), cells(here, noise=1e-7))
    deviation = (11 / 12 * np.square(np.array(slopes) - np.mean(slopes)).sum()) ** 0.5
    assert found.scale * found.doubt == pytest.approx(deviation, rel=1e-4)


def test_intervals_hold_though_few_perturbations_tell_the_scale():
    """Unmeasured perturbations of large shifts elsewhere, foretold by a scale that four others tell."""
    inside, along = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        way = rng.normal(size=10)
        way /= np.linalg.norm(way)
        # Own effects lie the same way as those that are transferred, so they blur the scale.
        there = 2.0 * rng.normal(size=(12, 1)) * way + 0.3 * rng.normal(size=(12, 10))
        there[4:] *= 3.0
        here = 0.6 * there + 0.5 * (rng.normal(size=(12, 1)) * way + 0.2 * rng.normal(size=(12, 10)))
        model = Kriging((screen_of(there),)).fit(cells(dict(zip(NAMES[:4], here, strict=False)), seed=seed))
        found = model.predict(conditions(*NAMES[4:]))
        off = here[4:] - found.mean
        direction = found.mean / np.linalg.norm(found.mean, axis=1, keepdims=True)
        inside.append((np.abs(off) <= 1.645 * found.sd).mean())
        along.append((np.abs((off * direction).sum(axis=1)) <= 1.645 * found.along).mean())
    assert 0.85 < np.mean(inside) < 0.95
    assert np.mean(along) > 0.78


def test_what_is_well_measured_is_not_in_doubt(alike):
    there, here = alike
    told = Kriging((screen_of(there),)).fit(cells(here, n=400))
    sd = told.predict(conditions("p3")).sd
    object.__setattr__(told.moments.transfer, "doubt", 0.0)
    np.testing.assert_allclose(sd, told.predict(conditions("p3")).sd, rtol=0.02)


def test_a_dose_is_no_evidence_by_transfer(alike):
    there, here = alike
    model = Kriging((screen_of(there),)).fit(cells({name: here[name] for name in NAMES[:-1]}))
    model.weights["other"] = 0.0  # so that nothing but the transfer tells
    plain, dosed = conditions(NAMES[-1], f"{NAMES[-1]}:3")
    assert model.predict([plain, dosed]).evidence == ("prior", "none")
    np.testing.assert_array_equal(model.moments.transfer.of([dosed]), np.zeros((1, 10)))


def test_a_screen_that_foretells_nothing_is_not_heeded(alike):
    there, here = alike
    mixed = np.roll(there, 5, axis=0)
    transfer = Transfer.learn(screen_of(mixed), cells(here))
    assert transfer.scale == 0.0
    assert not transfer.shifts.any()
    few = Transfer.learn(screen_of(there[:2], NAMES[:2]), cells(here))
    assert (few.scale, few.in_common) == (0.0, 2)


def test_a_screen_of_other_genes_is_an_error(alike):
    there, here = alike
    strange = screen_of(there, genes=[gene.upper() for gene in GENES])
    with pytest.raises(
        DataError, match="measured none of the 10 genes \\(it has G0, G1, G2, and they are g0"
    ):
        Transfer.learn(strange, cells(here))
    with pytest.raises(DataError, match="features and no shifts"):
        Transfer.learn(PriorKnowledge("table", ("a",), csr_matrix([[1.0]])), cells(here))


def test_kriging_with_another_screen_beats_kriging_and_the_transfer(alike):
    there, here = alike
    noisy = there + 0.3 * np.random.default_rng(5).normal(size=there.shape)
    training = cells({name: here[name] for name in NAMES[:-2]})
    models = [
        Kriging(),
        SameTarget(screen_of(noisy)),
        ScaledSameTarget(screen_of(noisy)),
        Kriging((screen_of(noisy),)),
    ]
    truth = np.stack([here[name] for name in NAMES[-2:]])
    errors = [
        np.linalg.norm(model.fit(training).predict(conditions(*NAMES[-2:])).mean - truth) for model in models
    ]
    assert errors[3] < 0.6 * min(errors[:3])
    sd = models[3].predict(conditions(*NAMES[-2:])).sd
    assert (sd < models[0].predict(conditions(*NAMES[-2:])).sd).all()


def test_what_only_the_other_screen_measured_is_known_by_prior_knowledge(alike):
    there, here = alike
    training = cells({name: here[name] for name in NAMES[:-1]})
    model = Kriging((screen_of(there),)).fit(training)
    asked = conditions(NAMES[-1], "new", f"p0+{NAMES[-1]}")
    assert model.predict(asked).evidence == ("prior", "none", "prior")
    # Even where shifts there say nothing of which perturbations are alike.
    model.weights["other"] = 0.0
    assert model.predict(asked).evidence == ("prior", "none", "prior")
    few = [0, 1, 11]  # two in common tell nothing
    deaf = Kriging((screen_of(there[few], [NAMES[i] for i in few]),)).fit(training)
    deaf.weights["other"] = 0.0
    assert deaf.predict(asked).evidence == ("none", "none", "none")


def test_the_size_of_an_effect_is_no_less_sure_than_its_genes():
    rng = np.random.default_rng(4)
    there = np.column_stack((np.zeros(12), rng.normal(size=(12, 9))))
    here = there + rng.normal(size=(12, 1)) * 3.0 * (np.arange(10) == 0)
    learned = dict(zip(NAMES[:-1], here[:-1], strict=True))
    found = Kriging([screen_of(there)]).fit(cells(learned)).predict(conditions("p0", "p11"))
    way = np.abs(found.mean) / np.linalg.norm(found.mean, axis=1, keepdims=True)
    assert (found.along <= (way * found.sd).sum(axis=1)).all()
    # What only this screen does, and nobody foretells, is not what is expected.
    assert found.along[1] < 0.5 * found.sd[1, 0]


def test_a_measured_perturbation_stays_as_measured(alike):
    there, here = alike
    model = Kriging((screen_of(there),)).fit(cells(here, n=2000))
    found = model.predict(conditions("p3")).mean[0]
    np.testing.assert_allclose(found, here["p3"], atol=0.05)


def test_the_transfer_goes_through_a_checkpoint(alike):
    there, here = alike
    prior = screen_of(there)
    model = Kriging((prior,)).fit(cells(here))
    restored = Kriging((PriorKnowledge.from_dict(prior.to_dict()),)).fit_moments(
        Moments.from_dict(model.moments.to_dict())
    )
    asked = conditions("p1", "new", "p1+p2")
    np.testing.assert_array_equal(restored.predict(asked).mean, model.predict(asked).mean)


def test_a_file_becomes_a_reference(tmp_path):
    adata = simulate_screen(6, 60, 300, 100, n_combinations=3, effect_size=2.0, seed=1)
    adata.write_h5ad(tmp_path / "other.h5ad")
    prior = read_reference(tmp_path / "other.h5ad")
    assert prior.source == "other.h5ad"
    assert prior.names == tuple(f"GENE{i:04d}" for i in range(6))
    assert prior.screen.genes == tuple(adata.var_names)
    for name, shift in zip(prior.names, prior.screen.values, strict=True):
        truth = adata.varm["true_effects"][:, list(adata.uns["true_effect_labels"]).index(name)]
        assert np.corrcoef(shift, truth)[0, 1] > 0.9
    np.testing.assert_allclose(prior.features.toarray().mean(axis=0), 0, atol=1e-9)


def test_cells_of_a_reference_are_not_all_dense_at_once(tmp_path, monkeypatch):
    kinds = []

    def watched(cells, source):
        kinds.append(type(cells.expression))
        return reference_of(cells, source)

    monkeypatch.setattr(reference, "reference_of", watched)
    simulate_screen(4, 60, 50, 20, seed=1).write_h5ad(tmp_path / "other.h5ad")
    read_reference(tmp_path / "other.h5ad")
    assert kinds == [csr_matrix]


def test_of_several_doses_the_largest_is_taken():
    shifts = {"A:1": np.ones(10), "A:10": 3 * np.ones(10), "B": -np.ones(10), "A:10+B": 9 * np.ones(10)}
    prior = reference_of(cells(shifts, n=400), "doses")
    assert prior.names == ("A", "B")
    np.testing.assert_allclose(prior.screen.values, [3 * np.ones(10), -np.ones(10)], atol=0.1)


def test_one_perturbation_is_no_reference():
    with pytest.raises(DataError, match="'small' holds 1 single perturbation"):
        reference_of(cells({"A": np.ones(10)}), "small")


def test_the_same_target_by_hand():
    there = np.array([[1.0] * 10, [0.0] * 5 + [2.0] * 5])
    training = cells({"A": 2 * there[0], "C": np.zeros(10)}, noise=1e-9)
    model = SameTarget(screen_of(there, ("A", "B"))).fit(training)
    scaled = ScaledSameTarget(screen_of(there, ("A", "B"))).fit(training)
    asked = conditions("A", "B", "A+B", "C", "B+C")
    expected = np.stack([there[0], there[1], there[0] + there[1], np.ones(10), np.ones(10)])
    np.testing.assert_allclose(model.predict(asked).mean, expected, atol=1e-6)
    np.testing.assert_allclose(scaled.predict(asked).mean, (expected.T * [2, 2, 2, 1, 1]).T, atol=1e-6)
    assert model.predict(asked).evidence == ("measured", "prior", "prior", "measured", "prior")


def test_genes_that_the_other_screen_lacks_get_the_training_mean():
    training = cells({"A": np.full(10, 4.0)}, noise=1e-9)
    model = SameTarget(screen_of(np.ones((1, 2)), ("A",), GENES[:2])).fit(training)
    np.testing.assert_allclose(model.predict(conditions("A")).mean[0], [1, 1] + [4] * 8, atol=1e-6)
    with pytest.raises(ConfigurationError, match="goes by another screen"):
        SameTarget(PriorKnowledge("table", ("a",), csr_matrix([[1.0]])))
