from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.drawing import cells_under, check_fractions, draw, in_hash_order, share_of
from perturbrl.data.presets import detect_fields
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import ConfigurationError

SCREEN = simulate_screen(6, 12, 30, 10, 6)
DATASET = PerturbationDataset.from_adata(SCREEN, detect_fields(SCREEN))


@settings(deadline=None, max_examples=30)
@given(st.floats(0.0, 0.99), st.integers(0, 5))
def test_a_draw_takes_the_share_of_every_label_and_leaves_one_cell_on_each_side(
    fraction: float, seed: int
) -> None:
    among = np.arange(DATASET.n_cells) % 4 > 0
    drawn = draw(DATASET, among, fraction, seed, "test")
    assert not (drawn & ~among).any()
    for label in set(DATASET.labels):
        rows = among & (DATASET.labels == label)
        expected = min(max(int(np.floor(fraction * rows.sum() + 0.5)), 1), rows.sum() - 1) if fraction else 0
        assert drawn[rows].sum() == expected


def test_draws_for_different_purposes_are_independent() -> None:
    everything = np.ones(DATASET.n_cells, dtype=bool)
    test, goal = (draw(DATASET, everything, 0.5, 0, purpose) for purpose in ("test", "goal"))
    assert 0.3 < (test == goal).mean() < 0.7


def test_the_cells_with_the_smallest_hashes_are_drawn() -> None:
    drawn = draw(DATASET, np.ones(DATASET.n_cells, dtype=bool), 0.1, 7, "test")

    def rank(barcode: str) -> int:
        return int.from_bytes(blake2b(f"7/test/{barcode}".encode(), digest_size=8).digest(), "little")

    for label, n in (("control", 3), ("GENE0002", 1)):
        expected = sorted((DATASET.barcodes[row] for row in DATASET.population_rows(label)), key=rank)[:n]
        assert {DATASET.barcodes[row] for row in np.flatnonzero(drawn & (DATASET.labels == label))} == set(
            expected
        )


def test_cells_under_labels() -> None:
    flags = cells_under(DATASET, ["GENE0000", "control"])
    np.testing.assert_array_equal(flags, [label in ("GENE0000", "control") for label in DATASET.labels])
    assert not cells_under(DATASET, []).any()


@given(st.sets(st.text(max_size=5)), st.integers(0, 3))
def test_the_order_of_names_is_the_seeds_alone(names: set[str], seed: int) -> None:
    assert in_hash_order(names, seed) == in_hash_order(sorted(names, reverse=True), seed)
    assert set(in_hash_order(names, seed)) == names


def test_seeds_order_names_differently() -> None:
    names = list("ABCDEFGH")
    assert len({tuple(in_hash_order(names, seed)) for seed in range(10)}) == 10


def test_shares_are_rounded_halves_up() -> None:
    assert [share_of(0.5, n) for n in range(5)] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("fraction", [-0.01, 1.0, 7.0])
def test_fractions_out_of_range(fraction: float) -> None:
    check_fractions(0.0, 0.999)
    with pytest.raises(ConfigurationError, match=r"give a share of cells in \[0, 1\)"):
        check_fractions(0.5, fraction)
