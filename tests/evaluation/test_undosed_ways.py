"""Undosed cells of a known landscape pass where real cells are, and end in its types."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from branching_cells import branching_cells, encoder_of

from perturbrl.errors import DataError
from perturbrl.evaluation.undosed_ways import BINS, fates, undosed_path, undosed_ways
from perturbrl.twins.landscape import LandscapeTwin


@pytest.fixture(scope="module")
def cells():
    return branching_cells()


@pytest.fixture(scope="module")
def held_out(cells):
    """Other cells of the same landscape, as the encoder of the training cells sees them."""
    return encoder_of(cells).encode(branching_cells(seed=1).expression)


@pytest.fixture(scope="module")
def twin(cells):
    return LandscapeTwin(n_members=1).fit(cells, encoder_of(cells))


@pytest.fixture(scope="module")
def ways(twin, cells, held_out):
    return undosed_ways(twin, cells, held_out)


def test_a_replicate_is_nearest_and_the_landscape_beats_standing_still(ways) -> None:
    assert len(ways.by_time) == BINS - 1
    mean = ways.by_time[["landscape", "no_op", "replicate"]].mean()
    assert abs(mean["replicate"]) < 0.1 * mean["no_op"]
    assert mean["replicate"] < mean["landscape"] < 0.3 * mean["no_op"]
    assert ways.by_time["interpolated"].isna().tolist() == [False] * (BINS - 2) + [True]


def test_a_twin_that_keeps_account_of_disagreement_is_followed_to_the_same_places(cells, held_out) -> None:
    plain, keeping = (LandscapeTwin(n_members=2).fit(cells, encoder_of(cells)) for _ in range(2))
    keeping.account()
    assert torch.equal(*(undosed_path(twin, held_out[:9], 2, 0) for twin in (plain, keeping)))


def test_distances_per_component_are_those_of_each_fate(ways) -> None:
    assert set(ways.by_component["fate"]) >= {"left", "right"}
    table = ways.by_component.set_index(["fate", "way", "component"])
    for fate in ("left", "right"):
        landscape, no_op, replicate = (
            table.loc[fate, way].sum() for way in ("landscape", "no_op", "replicate")
        )
        for name in ("dtw", "wasserstein"):
            assert replicate[name] < landscape[name] < 0.6 * no_op[name]


def test_cells_that_cannot_be_followed_are_too_few(twin, cells, held_out) -> None:
    with pytest.raises(DataError, match="59 held-out cells are too few to follow the earliest of 6 parts"):
        undosed_ways(twin, cells, held_out[:59])


def test_cells_without_an_order_are_refused(twin, cells, held_out) -> None:
    with pytest.raises(DataError, match="nothing orders the cells"):
        undosed_ways(twin, replace(cells, order=None), held_out)


def test_a_path_begins_at_the_start_and_every_transition_is_the_twins(twin, held_out) -> None:
    path = undosed_path(twin, held_out[:7], 3, seed=5)
    assert path.shape == (7, 4, 3)
    assert torch.equal(path[:, 0], held_out[:7])
    assert torch.equal(path, undosed_path(twin, held_out[:7], 3, seed=5))
    assert not torch.equal(path[:, 1], undosed_path(twin, held_out[:7], 3, seed=6)[:, 1])


def test_fates_are_shares_of_the_types_around_the_ends(cells) -> None:
    contexts = np.array(cells.contexts)
    left, right = (cells.latent[torch.from_numpy(contexts == name)] for name in ("left", "right"))
    mixed = torch.cat((left[-30:], right[-10:]))
    table = fates({"policy": mixed, "no_op": left[-30:]}, cells).set_index(["design", "cell_type"])["share"]
    assert table["policy"].to_dict() == {"left": 0.75, "progenitor": 0.0, "right": 0.25}
    assert table["no_op", "left"] == 1.0


def test_fates_need_cell_types(cells) -> None:
    with pytest.raises(DataError, match="fates are shares of cell types"):
        fates({"policy": cells.latent}, replace(cells, contexts=None))
