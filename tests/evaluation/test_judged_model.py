"""A response model beside every baseline on conditions that it was not shown."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.evaluation import judged_model
from perturbrl.evaluation.judged_model import LEVELS, judge_model
from perturbrl.reporting.judged_tables import compared, judged_table
from perturbrl.responses.baselines import Additive, NoOpResponse
from perturbrl.responses.counted_cells import CountedCells
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells

N_GENES = 30
GENES = tuple(f"g{i}" for i in range(N_GENES))


def cells(effects, n_cells=60, n_control=200, noise=0.4, seed=0, contexts=("",)):
    rng = np.random.default_rng(seed)
    blocks, labels, types = [], [], []
    for place, context in enumerate(contexts):
        for label, effect in {"control": np.zeros(N_GENES), **effects}.items():
            n = n_control if label == "control" else n_cells
            drawn = 5.0 + place + effect + noise * rng.normal(size=(n, N_GENES))
            blocks.append(drawn.clip(0.0))  # log expression is never negative
            labels += [label] * n
            types += [context] * n
    return TrainingCells(np.concatenate(blocks), labels, GENES, types if len(contexts) > 1 else None)


def effects(names, seed=3, size=0.7):
    return {name: size * np.random.default_rng([seed, ord(name)]).normal(size=N_GENES) for name in names}


SINGLES = effects("ABCDEF")
PAIRS = {f"{a}+{b}": SINGLES[a] + SINGLES[b] for a, b in ("AB", "CD", "EF", "AC", "BE")}


@pytest.fixture(scope="module")
def judged():
    training, held_out = cells(SINGLES), cells(PAIRS, seed=1)
    return judge_model(Kriging().fit(training), training, held_out)


def test_every_baseline_and_the_replicate_are_judged_on_every_condition(judged):
    names = set(judged.table["predictor"])
    assert {"kriging", "no_op", "random", "training_mean", "additive", "matching_mean"} <= names
    assert "split_half_replicate" in names
    sizes = judged.table.groupby("predictor")["condition"].nunique()
    assert (sizes == len(PAIRS)).all()
    means = judged.table.groupby("predictor")["l2"].mean()
    assert means["kriging"] < means["training_mean"] < means["no_op"]
    assert means["additive"] < means["no_op"]


def test_numbers_are_those_of_the_formulas(judged):
    """Euclidean distance and correlation of one condition, from the cells alone."""
    training, held_out = cells(SINGLES), cells(PAIRS, seed=1)
    model = Additive().fit(training)
    shift = model.predict([(Label.parse("A+B"), "")]).mean[0]
    own = judged.table.set_index(["predictor", "condition"]).loc[("additive", "A+B")]
    genes = judged.genes[judged.genes["condition"] == "A+B"]
    labels = np.array(held_out.labels)
    control = held_out.expression[labels == "control"].mean(axis=0)
    assert own["pearson_delta"] == pytest.approx(np.corrcoef(shift, genes["measured"])[0, 1])
    start = training.expression[np.array(training.labels) == "control"].mean(axis=0)
    target = genes["measured"].to_numpy() + control
    assert own["l2"] == pytest.approx(np.linalg.norm(start + shift - target))


def test_half_of_the_cells_judge(judged):
    held_out = cells(PAIRS, seed=1)
    rows = held_out.expression[np.array(held_out.labels) == "A+B"]
    control = held_out.expression[np.array(held_out.labels) == "control"].mean(axis=0)
    measured = judged.genes[judged.genes["condition"] == "A+B"]["measured"].to_numpy()
    difference = np.abs(measured - (rows.mean(axis=0) - control))
    assert 0.2 * 0.4 / 60**0.5 < difference.mean() < 3 * 0.4 / 60**0.5


def test_intervals_that_hold_are_seen_to_hold(judged):
    assert judged.calibration["level"].tolist() == list(LEVELS)
    covered = judged.calibration.set_index("level")["covered"]
    assert covered.is_monotonic_increasing
    assert 0.8 < covered[0.9] < 1.0
    assert (judged.calibration["low"] <= judged.calibration["covered"]).all()


def test_intervals_that_are_too_narrow_are_seen_to_be(monkeypatch):
    training, held_out = cells(SINGLES), cells(effects("UVW", seed=9, size=2.0), seed=1)
    model = Kriging().fit(training)
    honest = judge_model(model, training, held_out).calibration.set_index("level")["covered"][0.9]
    predict = model._predict

    def narrow(conditions):
        found = predict(conditions)
        object.__setattr__(found, "sd", 0.01 * found.sd)
        return found

    monkeypatch.setattr(model, "_predict", narrow)
    cut = judge_model(model, training, held_out).calibration.set_index("level")["covered"][0.9]
    assert cut < 0.5 * honest


def test_genes_that_no_judge_expresses_do_not_make_intervals_look_better(monkeypatch):
    certain = Kriging._predict

    def narrow(self, conditions):
        found = certain(self, conditions)
        found.sd[:, :N_GENES] *= 0.05
        return found

    def with_rare_genes(given, noise):
        rare = noise * np.random.default_rng(7).random((len(given.labels), 200))
        return TrainingCells(np.hstack((given.expression, rare)), given.labels, genes)

    monkeypatch.setattr(Kriging, "_predict", narrow)
    genes = (*GENES, *(f"rare{i}" for i in range(200)))
    training, held_out = cells(SINGLES), cells(PAIRS, seed=1)
    own = judge_model(Kriging().fit(training), training, held_out).calibration
    more = with_rare_genes(training, 1e-3)
    found = judge_model(Kriging().fit(more), more, with_rare_genes(held_out, 0.0)).calibration
    np.testing.assert_allclose(found["covered"], own["covered"], atol=0.05)


def test_a_model_without_intervals_has_no_calibration():
    training, held_out = cells(SINGLES), cells(PAIRS, seed=1)
    assert len(judge_model(Additive().fit(training), training, held_out).calibration) == 0


def test_each_context_is_judged_by_its_own_controls():
    contexts = ("B", "T")
    training, held_out = cells(SINGLES, contexts=contexts), cells(PAIRS, seed=1, contexts=contexts)
    found = judge_model(Kriging().fit(training), training, held_out)
    assert len(found.conditions) == 2 * len(PAIRS)
    own = found.table[found.table["predictor"] == "kriging"]
    assert sorted(own["condition"])[:2] == ["A+B@B", "A+B@T"]
    # Contexts lie a whole unit apart in every gene: a wrong control would show.
    assert own["l2"].max() < 1.5
    assert own["pearson_delta"].min() > 0.8
    assert "nearest_context" in set(found.table["predictor"])


class Truth(NoOpResponse):
    name = "truth"

    def learn(self, context):
        return lambda label: PAIRS[str(label)]


def test_other_models_stand_beside(judged):
    training, held_out = cells(SINGLES), cells(PAIRS, seed=1)
    found = judge_model(Kriging().fit(training), training, held_out, beside=[Truth().fit(training)])
    means = found.table.groupby("predictor")["l2"].mean()
    assert means["truth"] < means["kriging"]
    assert means["kriging"] == pytest.approx(judged.table.groupby("predictor")["l2"].mean()["kriging"])


def test_too_few_cells_are_left_out_and_said():
    training = cells(SINGLES)
    many, few = cells({"A+B": PAIRS["A+B"]}, seed=1), cells({"C+D": PAIRS["C+D"]}, n_cells=7, seed=1)
    both = TrainingCells(
        np.concatenate([many.expression, few.expression]), [*many.labels, *few.labels], GENES
    )
    model = Kriging().fit(training)
    found = judge_model(model, training, both)
    assert [str(label) for label, _ in found.conditions] == ["A+B"]
    assert "C+D: judging needs 8 held-out cells" in found.left_out[0]
    with pytest.raises(DataError, match=r"nothing held out can judge \(C\+D"):
        judge_model(model, training, few)


def emitted(names, seed, n_cells=16):
    """Judged conditions whose cells were emitted, and what is said of the others."""
    rng = np.random.default_rng(0)
    labels = [name for name in ("control", *names) for _ in range(n_cells)]
    counts = rng.poisson(5.0, size=(len(labels), N_GENES)).astype(float)
    every = CountedCells(csr_array(counts), counts.sum(axis=1))
    controls = CountedCells(csr_array(counts[:n_cells]), counts[:n_cells].sum(axis=1))
    judging = TrainingCells(every.log_expression, labels, GENES)
    found = judge_model(
        Kriging().fit(judging), judging, judging, emitters={"": CellEmitter(controls)}, seed=seed
    )
    own = found.table[found.table["predictor"] == "no_op"].set_index("condition")["energy_relative"]
    return found, frozenset(own.index[own.notna()])


def test_conditions_whose_cells_are_emitted_are_drawn_by_the_seed(monkeypatch):
    every, drawn = emitted("ABCDEFGH", 0)
    assert drawn == set("ABCDEFGH")
    assert every.left_out == ()
    n_predictors = every.table["predictor"].nunique()
    monkeypatch.setattr(judged_model, "MOST_EMITTED", 3 * N_GENES * n_predictors)
    found, first = emitted("ABCDEFGH", 0)
    assert len(first) == 3
    assert first == emitted("ABCDEFGH", 0)[1]
    assert len({emitted("ABCDEFGH", seed)[1] for seed in range(3)}) > 1
    (said,) = found.left_out
    assert "differential expression): 3 of the 8 held-out conditions, drawn with seed 0;" in said
    assert found.table["l2"].notna().all()
    assert "the means are over the 3 of 8 conditions that have one" in judged_table(found, "kriging").note
    assert "(of 3 of them, " in str(compared(found, "kriging", "energy_relative"))
    assert "of them" not in str(compared(found, "kriging", "l2"))


def test_cells_are_emitted_for_metrics_of_populations():
    rng = np.random.default_rng(0)
    counts = rng.poisson(5.0, size=(50, N_GENES)).astype(float)
    controls = CountedCells(csr_array(counts), counts.sum(axis=1))
    emitter, logs = CellEmitter(controls), controls.log_expression
    labels = ["control"] * 25 + ["A"] * 25
    training = TrainingCells(logs, labels, GENES)
    found = judge_model(
        Kriging().fit(training), training, TrainingCells(logs, labels, GENES), emitters={"": emitter}
    )
    assert found.table["energy_relative"].notna().all()
