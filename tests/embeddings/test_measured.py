"""Training cells come with their order; cells that judge get one that nothing was fitted on."""

import numpy as np
import pytest
import torch

from perturbrl.data.splits import HeldOutCells
from perturbrl.data.synthetic import simulate_screen
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.training.datamodule import PerturbationDataModule


def screen(**obs):
    adata = simulate_screen(2, 40, 80, 40, n_combinations=0)
    place = np.random.default_rng(0).random(adata.n_obs)
    adata.obs = adata.obs.assign(place=place, **obs)
    return adata


def fitted(adata, **options) -> PerturbationDataModule:
    data = PerturbationDataModule.from_adata(adata, "GENE0000", encoder=PCAEncoder(4), **options)
    data.setup("fit")
    return data


def test_training_cells_and_those_that_judge_are_ordered_by_the_named_column() -> None:
    adata = screen()
    data = fitted(adata, pseudotime_key="place")
    place = adata.obs["place"].to_numpy(dtype=np.float32)
    order = data.training_cells().require_order()
    assert (order.kind, order.source) == ("pseudotime", "obs['place']")
    assert np.array_equal(order.values.numpy(), place[data.training_rows()])
    judged = data.measured.judged_order("GENE0000", "test")
    assert np.array_equal(judged.values.numpy(), place[data.rows("GENE0000", "test")])


def test_time_points_are_recognised_and_said_even_where_those_that_judge_have_one() -> None:
    adata = screen()
    adata.obs["time_h"] = np.where(adata.obs["perturbation"] == "control", 0, 3)
    data = fitted(adata)
    assert data.training_cells().require_order().source == "obs['time_h']"
    assert data.measured.judged_order("GENE0000", "test").values.unique().tolist() == [3]


def test_without_an_order_the_cells_say_what_to_give_when_one_is_needed() -> None:
    data = fitted(screen())
    cells = data.training_cells()
    assert cells.order is None
    assert data.measured.judged_order("GENE0000", "test") is None
    with pytest.raises(DataError, match=r"nothing orders the cells; give data\.time_key .* data\.root"):
        cells.require_order()


def test_one_time_point_is_no_order_and_the_reason_is_said() -> None:
    with pytest.raises(
        DataError, match=r"nothing orders the cells: all \d+ cells to learn from have obs\['day'\] 2"
    ):
        fitted(screen(day=2)).training_cells().require_order()


def test_cells_that_judge_are_ordered_by_the_column_of_those_learned_from_and_what_was_passed_over_is_said() -> (
    None
):
    """A gap among the cells of one half only must not order the halves by two columns."""
    plain = screen(day=np.arange(160.0) % 3, pseudotime=np.linspace(0, 1, 160))
    train, test = fitted(plain).split.train, fitted(plain).split.test
    for rows in (train, test):
        adata = screen(day=np.arange(160.0) % 3, pseudotime=np.linspace(0, 1, 160))
        adata.obs.iloc[rows[0], adata.obs.columns.get_loc("day")] = np.nan
        data = fitted(adata)
        for cells in (data.training_cells(), data.judging_cells()):
            assert cells.require_order().source == "obs['pseudotime']"
        said = data.measured.order_source
        assert said.startswith("obs['pseudotime'], pseudotime (1 of ")
        assert said.endswith("cells have no finite value in obs['day'])")


def test_cells_to_judge_a_landscape_by_are_those_that_nobody_perturbed() -> None:
    data = fitted(screen(), split=HeldOutCells(0.5))
    labels = data.dataset.labels[data.split.test]
    assert 0 < len(data.measured.held_out()) == (labels == "control").sum() < len(labels)


def test_pseudotime_from_a_root_is_computed_on_training_cells_only() -> None:
    adata = screen()
    plain = fitted(adata, root="control")
    held_out = np.setdiff1d(np.arange(adata.n_obs), plain.training_rows())
    spoiled = adata.copy()
    dense = spoiled.X.toarray()
    dense[held_out] = np.random.default_rng(0).poisson(50, dense[held_out].shape)
    spoiled.X = dense
    order = plain.training_cells().require_order()
    assert torch.equal(fitted(spoiled, root="control").training_cells().require_order().values, order.values)
    root = int(order.values.argmin())
    assert plain.training_cells().labels[root] == "control"
    judged = plain.measured.judged_order("GENE0000", "test")
    assert order.values.min() < judged.values.min() <= judged.values.max() < order.values.max()


def test_a_root_that_does_not_exist_is_refused() -> None:
    with pytest.raises((DataError, ConfigurationError), match="GENE0009"):
        fitted(screen(), root="GENE0009").training_cells()


def test_a_root_that_is_held_out_is_refused() -> None:
    with pytest.raises(DataError, match="no training cell is of the root 'GENE0000'"):
        fitted(screen(), root="GENE0000").training_cells()
