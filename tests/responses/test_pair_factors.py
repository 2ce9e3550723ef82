"""Factors of members foretell pairs that were not measured, and nothing where there is nothing."""

import numpy as np
import pytest
from pair_outcomes import growth

from perturbrl.responses.pair_factors import PairFactors


def predicted(
    interaction: float, seed: int, order: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    panel, values = growth(interaction=interaction, seed=seed)
    rows = np.random.default_rng(seed).permutation(len(values))
    known, held = np.sort(rows[:180]), rows[180:]
    known = known if order is None else known[order]
    model = PairFactors(panel.features, seed=seed)
    draws = model.learn(panel.pairs[known], panel.terms[known], values[known], 60, 30, 2)
    return draws.of(panel.pairs[held], panel.terms[held]), values[held] - panel.singles[
        panel.pairs[held]
    ].sum(axis=1)


def test_a_product_of_hidden_factors_is_foretold_with_honest_intervals() -> None:
    draws, truth = predicted(0.1, 0)
    panel, values = growth(seed=0)
    held = np.random.default_rng(0).permutation(len(values))[180:]
    found = draws - panel.singles[panel.pairs[held]].sum(axis=1)
    assert np.corrcoef(found.mean(axis=0), truth)[0, 1] > 0.9
    low, high = np.quantile(found, (0.02, 0.98), axis=0)
    # Noise of 0.02 on the truth is small beside interactions of 0.14.
    assert np.mean((low - 0.04 < truth) & (truth < high + 0.04)) > 0.85


def test_equal_seeds_give_equal_draws_and_others_do_not() -> None:
    one, _ = predicted(0.1, 1)
    again, _ = predicted(0.1, 1)
    assert np.array_equal(one, again)
    other = PairFactors(growth(seed=1)[0].features, seed=7)
    panel, values = growth(seed=1)
    drawn = other.learn(panel.pairs, panel.terms, values, 4, 2).of(panel.pairs, panel.terms)
    assert not np.allclose(drawn[: len(one)].mean(), one.mean())


@pytest.mark.parametrize("seed", range(3))
def test_of_noise_alone_next_to_nothing_is_expected(seed: int) -> None:
    panel, values = growth(interaction=0.0, seed=seed)
    rows = np.random.default_rng(seed).permutation(len(values))
    known, held = rows[:180], rows[180:]
    model = PairFactors(panel.features, seed=seed)
    draws = model.learn(panel.pairs[known], panel.terms[known], values[known], 80, 40, 2)
    found = panel.deviations(draws.of(panel.pairs, panel.terms))[:, held].mean(axis=0)
    assert found.std() < 0.6 * 0.02
    assert float(np.mean(draws.noise_sd)) == pytest.approx(0.02, rel=0.35)
