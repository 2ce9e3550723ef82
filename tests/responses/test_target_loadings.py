"""The loadings of perturbed genes, against numpy and on a screen where they tell."""

import numpy as np
from scipy.sparse import csr_matrix

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.data.synthetic import simulate_screen
from perturbrl.responses import target_loadings as target_loadings_file
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.target_loadings import N_COMPONENTS, SOURCE, target_loadings
from perturbrl.responses.training_cells import TrainingCells


def screen(without=()):
    adata = simulate_screen(20, 80, 300, 40, n_combinations=0, effect_size=1.5, seed=3)
    x = adata.X.toarray().astype(np.float64)
    logs = np.log1p(1e4 * x / x.sum(axis=1, keepdims=True))
    labels = adata.obs["perturbation"].astype(str).to_numpy()
    kept = ~np.isin(labels, without)
    return adata, TrainingCells(logs[kept], labels[kept].tolist(), tuple(adata.var_names))


def test_similarities_are_those_of_leading_components_of_correlations():
    _, cells = screen()
    values, vectors = np.linalg.eigh(np.corrcoef(cells.expression.T))
    loadings = vectors[:, -N_COMPONENTS:] * np.sqrt(values[-N_COMPONENTS:])
    unit = loadings / np.linalg.norm(loadings, axis=1, keepdims=True)
    prior = target_loadings(cells)
    np.testing.assert_allclose(prior.similarity(prior.names, prior.names), unit @ unit.T, atol=1e-6)


def test_a_gene_seen_nowhere_says_nothing():
    _, cells = screen()
    expression = np.array(cells.expression)
    expression[:, 30] = 0.0
    prior = target_loadings(TrainingCells(expression, cells.labels, cells.genes))
    assert not prior.knows(cells.genes[30])
    assert prior.knows(cells.genes[31])


def test_there_are_none_where_targets_were_not_measured():
    _, cells = screen()
    renamed = [f"other{gene}" for gene in cells.genes]
    assert target_loadings(TrainingCells(cells.expression, cells.labels, renamed)) is None


def test_loadings_carry_an_effect_to_a_gene_nobody_perturbed():
    held_out = ["GENE0003", "GENE0011"]
    adata, cells = screen(without=held_out)
    prior = target_loadings(cells)
    asked = [(Label.parse(name), "") for name in held_out]
    found = Kriging((prior,)).fit(cells).predict(asked).mean
    for name, shift in zip(held_out, found, strict=True):
        truth = adata.varm["true_effects"][:, list(adata.uns["true_effect_labels"]).index(name)]
        assert np.corrcoef(shift, truth)[0, 1] > 0.75


def test_of_many_cells_the_controls_tell(monkeypatch):
    _, cells = screen()
    monkeypatch.setattr(target_loadings_file, "MOST_CELLS", 100)
    control = np.array(cells.labels) == "control"
    values, vectors = np.linalg.eigh(np.corrcoef(cells.expression[control].T))
    loadings = vectors[:, -N_COMPONENTS:] * np.sqrt(values[-N_COMPONENTS:])
    unit = loadings / np.linalg.norm(loadings, axis=1, keepdims=True)
    prior = target_loadings(cells)
    np.testing.assert_allclose(prior.similarity(prior.names, prior.names), unit @ unit.T, atol=1e-6)


def test_kriging_goes_by_them():
    _, cells = screen()
    model = Kriging().fit(cells)
    assert [prior.source for prior in model.priors] == [SOURCE]
    assert set(model.weights) == {"common", "own", SOURCE}
    found = model.predict([(Label.parse("GENE0050"), ""), (Label.parse("unheard of"), "")])
    assert found.evidence == ("prior", "none")
    # Fitted again on cells of which they say nothing, it forgets them.
    renamed = [f"other{gene}" for gene in cells.genes]
    assert model.fit(TrainingCells(cells.expression, cells.labels, renamed)).priors == ()


def test_kriging_goes_by_them_beside_other_priors_that_do_not_say_as_much():
    adata, cells = screen(without=["GENE0003", "GENE0011"])
    rng = np.random.default_rng(0)
    other = PriorKnowledge("noise", tuple(cells.genes), csr_matrix(rng.normal(size=(len(cells.genes), 5))))
    model = Kriging((other,)).fit(cells)
    assert [prior.source for prior in model.priors] == ["noise", SOURCE]
    asked = [(Label.parse(name), "") for name in ("GENE0003", "GENE0011")]
    truth = [
        adata.varm["true_effects"][:, list(adata.uns["true_effect_labels"]).index(str(label))]
        for label, _ in asked
    ]
    for shift, true in zip(model.predict(asked).mean, truth, strict=True):
        assert np.corrcoef(shift, true)[0, 1] > 0.75
    # What a file says already is not said twice.
    same = PriorKnowledge("told", (prior := target_loadings(cells)).names, prior.features)
    assert [one.source for one in Kriging((same,)).fit(cells).priors] == ["told"]


def test_there_are_none_where_too_few_controls_have_to_tell(monkeypatch):
    monkeypatch.setattr(target_loadings_file, "MOST_CELLS", 100)
    _, cells = screen()
    controls = np.flatnonzero(np.array(cells.labels) == "control")
    kept = np.setdiff1d(np.arange(len(cells.labels)), controls[1:])
    few = TrainingCells(cells.expression[kept], [cells.labels[i] for i in kept], cells.genes)
    assert target_loadings(few) is None
