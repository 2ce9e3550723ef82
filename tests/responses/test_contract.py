"""What holds of every response model, kriging and baselines alike."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge, ScreenShifts
from perturbrl.errors import DataError
from perturbrl.responses.base import EVIDENCE, ResponseModel
from perturbrl.responses.competitors import competitors
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells

GENES = tuple(f"g{i}" for i in range(7))
LABELS = ("A", "B", "C", "A+B", "B+C")
CONTEXTS = ("k", "m", "n")


def screen(labels=LABELS, contexts=CONTEXTS, n_cells=20, *, without=(), seed=0):
    """Normal cells around effects that differ between contexts."""
    rng = np.random.default_rng(seed)
    conditions = [(label, context) for context in contexts for label in ("control", *labels)]
    conditions = [one for one in conditions if one not in without]
    blocks = [
        rng.normal(size=7) * (label != "control")
        + CONTEXTS.index(context)
        + rng.normal(size=(n_cells, 7)) / 3
        for label, context in conditions
    ]
    each = [one for one in conditions for _ in range(n_cells)]
    types = [context for _, context in each] if len(contexts) > 1 else None
    return TrainingCells(np.concatenate(blocks), [label for label, _ in each], GENES, types)


PRIOR = PriorKnowledge("told", ("A", "B", "C", "Z"), csr_matrix([[1.0, 0], [0.2, 1], [0, 1], [1, 0.1]]))


def every_model() -> tuple[ResponseModel, ...]:
    priors = (PRIOR, elsewhere())
    return (*competitors(screen(), priors=priors), Kriging(), KrigingWithPrior(priors))


def elsewhere():
    """Another screen, of A, B, C and Z."""
    values = np.random.default_rng(3).normal(size=(4, 7))
    return PriorKnowledge("screen", ("A", "B", "C", "Z"), csr_matrix(values), ScreenShifts(GENES, values))


INFORMED = {"knn_prior", "ridge_prior", "same_target", "same_target_scaled", "kriging_prior"}


class KrigingWithPrior(Kriging):
    name = "kriging_prior"


every_one = pytest.mark.parametrize("model", every_model(), ids=lambda model: model.name)


def conditions(*queries):
    return [(Label.parse(text), context) for text, _, context in (query.partition("@") for query in queries)]


ASKED = conditions("A@k", "A+B@m", "C+A@n", "Q@k", "A+Z@m", "A+B+C@n")


@every_one
def test_answers_are_finite_and_of_the_right_shape(model):
    found = model.fit(screen()).predict(ASKED)
    assert found.mean.shape == found.sd.shape == (6, 7)
    assert np.isfinite(found.mean).all()
    assert len(found.evidence) == 6
    assert set(found.evidence) <= set(EVIDENCE)
    assert found.along.shape == (6,)
    # A model tells how sure it is everywhere or nowhere.
    told = np.column_stack((found.sd, found.along))
    assert np.isnan(told).all() or (np.isfinite(told) & (told >= 0)).all()


@every_one
def test_fit_gives_the_model_itself_back(model):
    assert model.fit(screen()) is model


@every_one
def test_the_order_of_training_cells_does_not_matter(model):
    cells = screen()
    order = np.random.default_rng(1).permutation(len(cells.labels))
    labels, types = ([one[i] for i in order] for one in (cells.labels, cells.cell_types))
    mixed = TrainingCells(np.asarray(cells.expression)[order], labels, GENES, types)
    one, other = (model.fit(some).predict(ASKED) for some in (cells, mixed))
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-8)
    np.testing.assert_allclose(one.sd, other.sd, atol=1e-8)
    assert one.evidence == other.evidence


@every_one
def test_the_order_of_parts_does_not_matter(model):
    cells = screen()
    turned = ["+".join(reversed(label.split("+"))) for label in cells.labels]
    other = TrainingCells(cells.expression, turned, GENES, cells.cell_types)
    asked = conditions("A+B@k", "C+A@m"), conditions("B+A@k", "A+C@m")
    expected = model.fit(cells).predict(asked[0]).mean
    np.testing.assert_allclose(model.fit(other).predict(asked[1]).mean, expected, atol=1e-8)


@every_one
def test_equal_calls_give_equal_results_whatever_else_is_asked(model):
    found = model.fit(screen())
    together = found.predict(ASKED)
    np.testing.assert_array_equal(found.predict(ASKED).mean, together.mean)
    for i, one in enumerate(ASKED):
        np.testing.assert_allclose(found.predict([one]).mean, together.mean[[i]], atol=1e-10)
    np.testing.assert_allclose(model.fit(screen()).predict(ASKED).mean, together.mean, atol=1e-12)


@every_one
def test_a_model_learns_anew_at_each_fit(model):
    before = model.fit(screen()).predict(ASKED).mean
    model.fit(screen(seed=5))
    np.testing.assert_allclose(model.fit(screen()).predict(ASKED).mean, before, atol=1e-12)


@every_one
@pytest.mark.parametrize("contexts", [CONTEXTS, ("k",)], ids=["contexts", "one"])
def test_one_perturbation_is_enough(model, contexts):
    found = model.fit(screen(["A"], contexts))
    context = "k" if len(contexts) > 1 else ""
    assert np.isfinite(found.predict(conditions(f"A@{context}", f"B@{context}", f"A+B@{context}")).mean).all()


@every_one
def test_a_context_without_perturbed_cells_can_be_asked_about(model):
    found = model.fit(screen(without=[(label, "m") for label in LABELS]))
    assert found.contexts == CONTEXTS
    assert np.isfinite(found.predict(conditions("A@m", "Z@m")).mean).all()


@every_one
def test_what_cannot_be_asked_is_an_error(model):
    found = model.fit(screen())
    with pytest.raises(DataError, match="name at least one"):
        found.predict([])
    with pytest.raises(DataError, match="'elsewhere'; choose among k, m, n"):
        found.predict(conditions("A@elsewhere"))
    with pytest.raises(DataError, match="'k'; choose among the only one"):
        model.fit(screen(contexts=["k"])).predict(conditions("A@k"))


@every_one
def test_nothing_to_learn_from_is_an_error(model):
    apart = TrainingCells(np.ones((4, 1)), ["control", "A"] * 2, GENES[:1], ["a", "b"] * 2)
    with pytest.raises(DataError, match="has both control and perturbed cells"):
        model.fit(apart)


@every_one
def test_contexts_are_told_apart(model):
    found = model.fit(screen()).predict(conditions("A@k", "A@m", "A@n")).mean
    # The other screen speaks of A and of no context.
    if model.name in {"no_op", "training_mean", "same_target"}:
        assert (found == found[0]).all()
        return
    assert len(np.unique(found.round(6), axis=0)) == 3


@every_one
def test_overall_is_the_mean_over_contexts(model):
    found = model.fit(screen())
    each = found.predict(conditions("A+C@k", "A+C@m", "A+C@n")).mean
    np.testing.assert_allclose(found.overall(["A+C"])[0], each.mean(axis=0), atol=1e-10)


@every_one
def test_evidence_rests_on_what_was_measured_where(model):
    asked = {
        "A@k": "measured",
        "A@m": "transferred",
        "A+C@k": "combined",
        "C+A@m": "transferred",
        "Z@k": "prior" if model.name in INFORMED else "none",
        "A+Q@k": "none",
    }
    found = model.fit(screen(without=[("A", "m"), ("A+B", "m")])).predict(conditions(*asked))
    blind = {"no_op", "random", "training_mean", "cell_type_mean"}
    expected = ("none",) * len(asked) if model.name in blind else tuple(asked.values())
    assert found.evidence == expected
