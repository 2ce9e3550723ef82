"""Of many effects that are looked at, few that are claimed are none."""

import numpy as np
import pytest

import perturbrl
from perturbrl.data.synthetic import simulate_screen
from perturbrl.responses import discoveries


def test_one_gene_of_one_query_is_its_own_p_value():
    rates = discoveries.of_queries(np.array([[1.959964]]), np.ones((1, 1)))
    assert rates == pytest.approx([0.05])


def test_by_hand():
    """Two queries of two genes: adjusted within each, the smallest of each, adjusted over both."""
    shift = np.array([[3.0, 0.5], [2.0, 2.2]])
    p = [[0.0026998, 0.6170751], [0.0455003, 0.0278069]]
    smallest = [2 * p[0][0], p[1][0]]
    rates = discoveries.of_queries(shift, np.ones((2, 2)))
    assert rates == pytest.approx([2 * smallest[0], smallest[1]], abs=1e-6)
    assert discoveries.of_genes(shift, np.ones((2, 2)), rates).tolist() == [[True, False], [True, True]]


def test_a_query_is_claimed_exactly_where_one_of_its_genes_is():
    rng = np.random.default_rng(0)
    shift = rng.normal(size=(1200, 30)) + 4 * (rng.random((1200, 30)) < 0.01)
    rates = discoveries.of_queries(shift, np.ones_like(shift))
    claimed = discoveries.of_genes(shift, np.ones_like(shift), rates)
    assert 50 < claimed.any(axis=1).sum() < 600
    np.testing.assert_array_equal(claimed.any(axis=1), rates <= discoveries.LEVEL)


def test_few_of_what_is_claimed_is_nothing():
    rng, wrong = np.random.default_rng(1), []
    for _ in range(40):
        real = np.arange(300) < 60
        shift = rng.normal(size=(300, 50))
        shift[real, :3] += 5.0
        rates = discoveries.of_queries(shift, np.ones_like(shift))
        claimed = rates <= discoveries.LEVEL
        assert claimed[real].mean() > 0.9
        wrong.append((claimed & ~real).sum() / max(claimed.sum(), 1))
    assert np.mean(wrong) < 0.06


def test_without_a_deviation_nothing_is_claimed():
    shift, sd = np.array([[5.0, 0.0], [5.0, 5.0]]), np.array([[1.0, 0.0], [np.nan, np.nan]])
    rates = discoveries.of_queries(shift, sd)
    assert rates[0] < 1e-5
    assert rates[1] == 1.0
    assert discoveries.of_genes(shift, sd, rates).tolist() == [[True, False], [False, False]]


def test_nothing_at_all_claims_nothing():
    assert not discoveries.of_genes(np.zeros((3, 2)), np.ones((3, 2)), np.ones(3)).any()


def test_control_cells_that_are_called_perturbed_are_not_claimed():
    """Their 90 % interval of the size clears 0 as often as not, which is why genes decide."""
    screen = simulate_screen(6, 60, 400, 60, n_combinations=0, seed=5)
    labels = screen.obs["perturbation"].astype(str).to_numpy()
    control = np.flatnonzero(labels == "control")
    for i in range(6):
        labels[control[40 * i : 40 * i + 40]] = f"NOTHING{i}"
    screen.obs["perturbation"] = labels
    found = perturbrl.respond(screen, sorted(set(labels) - {"control"}))
    claimed = found.effects["fdr"] <= discoveries.LEVEL
    assert claimed[[f"GENE000{i}" for i in range(6)]].all()
    assert not claimed[[f"NOTHING{i}" for i in range(6)]].any()
    assert not any(found.genes(f"NOTHING{i}", direction) for i in range(6) for direction in (1, -1))
