"""Strong interactions of an outcome are found sooner than by chance, from measured pairs alone."""

import numpy as np
import pytest
from pair_outcomes import growth

from perturbrl.planning.outcome_search import (
    STRATEGIES,
    OutcomeBeliefs,
    OutcomeSearch,
    PairPanel,
    Strategy,
    choose,
)


def after_batches(strategy: Strategy, seed: int, n_batches: int = 6) -> int:
    """How many of the 20 strongest of 276 pairs are among 30 + 60 measured ones."""
    panel, values = growth(seed=seed)
    strong = set(np.argsort(-np.abs(panel.deviations(values)))[:20].tolist())
    rng = np.random.default_rng(seed)
    measured = {int(row): float(values[row]) for row in rng.permutation(len(values))[:30]}
    search = OutcomeSearch(panel, 20, seed)
    for _ in range(n_batches):
        beliefs = search.believe(measured)
        chosen = beliefs.open[choose(beliefs, strategy, 10, np.ones(len(beliefs.open)), rng)]
        measured |= {int(row): float(values[row]) for row in chosen}
    return len(strong & set(measured))


def test_more_of_the_strongest_are_found_than_at_random() -> None:
    ours = sum(after_batches("strong interactions", seed) for seed in range(2))
    chance = sum(after_batches("random", seed) for seed in range(2))
    assert ours >= 30
    assert ours >= 1.8 * chance


def beliefs(seed: int = 0) -> tuple[PairPanel, np.ndarray, OutcomeBeliefs]:
    panel, values = growth(seed=seed)
    rows = np.random.default_rng(seed).permutation(len(values))[:80]
    return (
        panel,
        values,
        OutcomeSearch(panel, 20, seed).believe({int(row): float(values[row]) for row in rows}),
    )


def test_as_many_strong_ones_are_expected_as_are_sought() -> None:
    _, _, found = beliefs()
    assert len(found.found) + found.chances.sum() == pytest.approx(20, abs=1.0)


def test_unmeasured_values_are_never_looked_at() -> None:
    panel, values, found = beliefs()
    rows = np.setdiff1d(np.arange(len(values)), found.open)
    spoilt = np.full(len(values), 1e6)
    spoilt[rows] = values[rows]
    again = OutcomeSearch(panel, 20, 0).believe({int(row): float(spoilt[row]) for row in rows})
    assert np.array_equal(found.deviations, again.deviations)


def test_the_order_of_measured_rows_does_not_matter() -> None:
    panel, values, found = beliefs()
    rows = np.setdiff1d(np.arange(len(values)), found.open)[::-1]
    again = OutcomeSearch(panel, 20, 0).believe({int(row): float(values[row]) for row in rows})
    assert np.array_equal(found.chances, again.chances)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_chooses_different_open_pairs(strategy: Strategy) -> None:
    _, _, found = beliefs()
    chosen = choose(found, strategy, 15, np.ones(len(found.open)), np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 15
    assert chosen.max() < len(found.open)


def test_the_likeliest_batch_has_the_most_expected_finds_and_learning_the_surest_rest() -> None:
    _, _, found = beliefs()
    rng, ones = np.random.default_rng(0), np.ones(len(found.open))
    batches = {name: choose(found, name, 15, ones, rng) for name in STRATEGIES}
    finds = {name: found.chances[batch].sum() for name, batch in batches.items()}
    learned = {name: found.share_learned(batch) for name, batch in batches.items()}
    assert max(finds, key=lambda name: finds[name]) == "strong interactions"
    assert max(learned, key=lambda name: learned[name]) == "learn"


def test_a_cheap_pair_goes_before_a_likelier_dear_one() -> None:
    _, _, found = beliefs()
    costs = np.ones(len(found.open))
    first = int(np.argmax(found.chances))
    costs[first] = 1e6
    assert first not in choose(found, "strong interactions", 5, costs, np.random.default_rng(0))


def test_deviations_from_a_parabola_are_what_least_squares_leaves() -> None:
    panel, values = growth()
    total = panel.singles[panel.pairs].sum(axis=1)
    for expected, degree in (("line", 1), ("parabola", 2)):
        curved = PairPanel(panel.names, panel.pairs, panel.singles, (), expected)
        left = values - np.polyval(np.polyfit(total, values, degree), total)
        assert curved.deviations(values) == pytest.approx(left, abs=1e-9)
