"""Cells are ordered by what was measured, else by what was computed on training cells, else not at all."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from perturbrl.data.cell_order import (
    CellOrder,
    OrderColumn,
    OrderOptions,
    diffusion_order,
    judged_order,
    order_column,
    why_unordered,
)
from perturbrl.errors import ConfigurationError, DataError

NONE = OrderOptions()


def arc(n: int = 300, noise: float = 0.02) -> tuple[torch.Tensor, np.ndarray]:
    """Cells along three quarters of a circle, whose ends are near each other, in random order, and their place."""
    rng = np.random.default_rng(0)
    place = rng.permutation(np.linspace(0.0, 1.0, n))
    angle = 1.5 * np.pi * place
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) + noise * rng.normal(size=(n, 2))
    return torch.from_numpy(points).float(), place


@pytest.mark.parametrize("name", ["time", "time_h", "day", "hours"])
def test_time_points_with_a_plain_name_come_before_pseudotime(name: str) -> None:
    obs = pd.DataFrame({"pseudotime": [0.1, 0.2, 0.3], name: [0, 3, 3]})
    column = order_column(obs, NONE)
    assert column == OrderColumn(name, "time")
    order = column.of(obs)
    assert (order.kind, order.source) == ("time", f"obs['{name}']")
    assert order.values.tolist() == [0, 3, 3]
    assert order.time_points.tolist() == [0, 3]


def test_a_plain_name_that_cannot_be_used_gives_way_and_the_reason_is_said() -> None:
    obs = pd.DataFrame({"time": ["early", "late"], "dpt_pseudotime": [0.0, 1.0]})
    assert order_column(obs, NONE) == OrderColumn("dpt_pseudotime", "pseudotime")
    assert order_column(obs[["time"]], NONE) is None
    said = why_unordered(obs[["time"]])
    assert "obs['time'] holds text such as 'early' and 'late'" in said
    assert all(option in said for option in ("data.time_key", "data.pseudotime_key", "data.root"))


def test_a_column_of_ordered_numbers_as_categories_is_read_as_numbers() -> None:
    obs = pd.DataFrame({"time": pd.Categorical([2, 6, 4, 2])})
    assert order_column(obs, NONE).of(obs).values.tolist() == [2, 6, 4, 2]


def test_the_named_column_wins_over_a_plain_one() -> None:
    obs = pd.DataFrame({"time": [0.0, 1.0], "age": [5.0, 6.0], "mine": [0.3, 0.1]})
    assert order_column(obs, OrderOptions(time_key="age")) == OrderColumn("age", "time")
    assert order_column(obs, OrderOptions(pseudotime_key="mine")) == OrderColumn("mine", "pseudotime")
    assert order_column(obs, OrderOptions(root="control")) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            ["d2", "d4"],
            "obs['age'] holds text such as 'd2' and 'd4', no numbers; give every cell a time as a number",
        ),
        (["2", "4"], "obs['age'] holds text such as '2' and '4', no numbers"),
        ([True, False], "no numbers"),
        (
            [4, 4],
            "all 2 cells to learn from have obs['age'] 4; give every cell a time as a number and at least two",
        ),
        ([1.0, np.nan], "1 of 2 cells have no finite value in obs['age']"),
        ([1.0, np.inf], "1 of 2 cells have no finite value in obs['age']"),
    ],
)
def test_a_named_column_that_cannot_order_is_refused_with_its_values_and_a_remedy(values, said) -> None:
    with pytest.raises(DataError, match=r"data\.root") as error:
        order_column(pd.DataFrame({"age": values}), OrderOptions(time_key="age"))
    assert said in str(error.value)


def test_a_named_column_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        DataError, match=r"no obs column 'tme' to order cells by; its columns of numbers are time"
    ):
        order_column(pd.DataFrame({"time": [0, 1], "type": ["a", "b"]}), OrderOptions(time_key="tme"))


def test_two_orders_of_the_same_cells_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"data\.time_key 'time' and data\.root 'HSC' order the same"
    ):
        OrderOptions(time_key="time", root="HSC")


def test_diffusion_pseudotime_follows_the_way_and_not_the_straight_line() -> None:
    cells, place = arc()
    order = diffusion_order(cells, np.flatnonzero(place < 0.1), "start", None)
    assert order.kind == "pseudotime"
    assert order.source == "diffusion pseudotime from start"
    assert spearmanr(order.values, place).statistic > 0.99


def test_the_root_cell_is_the_far_end_of_its_population() -> None:
    cells, place = arc()
    order = diffusion_order(cells, np.flatnonzero(place > 0.6), "end", None)
    assert place[order.values.argmin()] > 0.97


def test_a_root_that_leaves_cells_unreached_names_their_types() -> None:
    cells, place = arc()
    islands = torch.cat([cells, cells + 100])
    types = np.repeat(["here", "far"], len(cells))
    with pytest.raises(DataError, match=r"the root 'start' does not reach 300 of 600 training cells \(far\)"):
        diffusion_order(islands, np.flatnonzero(place < 0.1), "start", types)


def test_a_root_on_both_sides_of_a_gap_is_refused() -> None:
    cells, place = arc()
    both = np.flatnonzero(np.tile(place < 0.1, 2))
    with pytest.raises(DataError, match="lies in 2 groups of cells that are not linked"):
        diffusion_order(torch.cat([cells, cells + 100]), both, "start", None)


def test_a_root_without_training_cells_is_refused() -> None:
    with pytest.raises(DataError, match="no training cell is of the root 'start'"):
        diffusion_order(arc()[0], np.array([], dtype=int), "start", None)


def test_cells_to_judge_take_the_order_of_their_neighbours_that_were_learned_from() -> None:
    cells, place = arc()
    learned = place < 0.8
    order = CellOrder(torch.from_numpy(place[learned]).float(), "pseudotime", "place")
    points = cells.numpy()
    judged = judged_order(points[~learned], points[learned], order)
    assert (judged.values > 0.75).all()
    assert judged.kind == "pseudotime"
    again = judged_order(points[learned], points[learned], order)
    assert np.abs(again.values.numpy() - place[learned]).max() < 0.05
