"""Every metric keeps what it declares: its range, its direction, and what doing nothing scores."""

import metrics_page
import numpy as np
import pytest
import torch
import toy_responses

from perturbrl.evaluation.design_metrics import DESIGN_METRICS, DesignOutcome
from perturbrl.evaluation.predicted_response import response_table
from perturbrl.evaluation.registry import METRICS, TABLES
from perturbrl.evaluation.response_metrics import CELL_METRICS, MEAN_METRICS, PANEL_METRICS
from perturbrl.evaluation.simulation import Simulation
from perturbrl.evaluation.statistics import Interval
from perturbrl.evaluation.trajectories import TRAJECTORY_METRICS, PairedTrajectories

RESPONSE = (*MEAN_METRICS, *PANEL_METRICS, *CELL_METRICS)
COSTS = ("dose", "n_perturbations")


def named(metrics):
    return pytest.mark.parametrize("metric", metrics, ids=lambda metric: metric.name)


def test_names_and_titles_are_unique():
    assert len(METRICS) == sum(map(len, TABLES.values()))
    for table in (RESPONSE, DESIGN_METRICS, TRAJECTORY_METRICS):
        assert len({metric.title for metric in table}) == len(table)


@named(METRICS.values())
def test_a_metric_is_described_and_has_a_source(metric):
    assert metric.meaning.endswith(".")
    assert metric.formula
    assert metric.source
    assert metric.low < metric.high


@named(METRICS.values())
def test_ends_of_intervals_and_losses_follow_the_declaration(metric):
    assert metric.within(metric.high + 1) == metric.high
    assert metric.within(metric.low - 1) == metric.low
    inside = max(metric.low, -5.0) / 2 + min(metric.high, 5.0) / 2
    assert metric.within(inside) == inside
    sign = {"larger": 1, "smaller": -1, "neither": 0}[metric.better]
    assert np.sign(metric.loss(1.0) - metric.loss(2.0)) == sign


@pytest.fixture(scope="module")
def random_scores():
    return [response_table(toy_responses.random_pair(seed)) for seed in range(30)]


@named(RESPONSE)
def test_no_prediction_leaves_the_range(random_scores, metric):
    values = np.concatenate([table[metric.name] for table in random_scores])
    values = values[~np.isnan(values)]
    assert len(values) > 20
    assert metric.low - 1e-12 <= values.min() < values.max() <= metric.high + 1e-12


@pytest.fixture(scope="module")
def better_and_better():
    """Tables of a prediction of nothing, of half of each response, and of all of it."""
    judges = toy_responses.measured(*toy_responses.TOY.perturbations)
    return [response_table(toy_responses.partial_prediction(judges, share)) for share in (0.0, 0.5, 1.0)]


@named(RESPONSE)
def test_doing_nothing_scores_what_is_declared(better_and_better, metric):
    nothing = better_and_better[0][metric.name]
    if metric.no_op is not None:
        np.testing.assert_allclose(nothing, metric.no_op, atol=1e-12)
    else:
        assert nothing.round(9).nunique() > 1, "it depends on the data, as declared"


@named(RESPONSE)
def test_a_better_prediction_is_never_worse(better_and_better, metric):
    nothing, half, all_of_it = ([metric.loss(x) for x in table[metric.name]] for table in better_and_better)
    assert (np.array(all_of_it) < np.array(nothing)).all()
    assert np.mean(half) <= np.mean(nothing) + 1e-12
    # Half an effect is called in fewer genes, and with more precision.
    assert metric.name == "call_precision" or np.mean(all_of_it) <= np.mean(half) + 1e-12


def outcome(share, seed=0):
    """A design that brings cells ``share`` of the way to the target by doses of its two parts."""
    rng = torch.Generator().manual_seed(seed)
    start, noise = (torch.randn(40, 3, generator=rng) for _ in range(2))
    way = torch.tensor([4.0, 2.0, -3.0])
    final = start + share * way
    doses = torch.zeros(40, 2, 4)
    doses[:, 0, :2] = share
    simulation = Simulation(
        start,
        final,
        torch.stack((start, final), 1),
        torch.arange(4),
        doses,
        4,
        torch.full((40,), share == 1.0),
        torch.full((40,), share),
    )
    return DesignOutcome(
        simulation, noise + way, "A+B", ("A", "B", "C", "D"), 5.0 * (1.1 - share), 1.0 - share
    )


def random_outcome(seed):
    rng = torch.Generator().manual_seed(seed)
    start, final, target = (torch.randn(12, 3, generator=rng) * 3 for _ in range(3))
    doses = torch.randn(12, 2, 4, generator=rng) * (torch.rand(12, 2, 4, generator=rng) > 0.5)
    arrived = torch.rand(12, generator=rng) > 0.5
    path = torch.stack((start, final), 1)
    simulation = Simulation(
        start, final, path, torch.arange(4), doses, 4, arrived, torch.rand(12, generator=rng)
    )
    left, best = torch.rand(2, generator=rng).tolist()
    return DesignOutcome(simulation, target, "A+C", ("A", "B", "C", "D"), left, best)


def score(metric, design):
    value = metric.function(design)
    return value.estimate if isinstance(value, Interval) else value


@named(DESIGN_METRICS)
def test_no_design_leaves_the_range(metric):
    values = [metric.function(random_outcome(seed)) for seed in range(30)]
    ends = np.array([[v.low, v.high] if isinstance(v, Interval) else [v, v] for v in values])
    assert np.isfinite(ends).all()
    assert metric.low <= ends.min() < ends.max() <= metric.high


@named(DESIGN_METRICS)
def test_a_design_that_does_nothing_scores_what_is_declared(metric):
    nothing = [score(metric, outcome(0.0, seed)) for seed in range(3)]
    if metric.no_op is not None:
        assert nothing == [metric.no_op] * 3


@named(DESIGN_METRICS)
def test_a_better_design_is_never_worse_and_a_dearer_one_never_better(metric):
    nothing, half, all_of_it = (metric.loss(score(metric, outcome(share))) for share in (0.0, 0.5, 1.0))
    if metric.name in COSTS:
        assert nothing < half <= all_of_it
    elif metric.better == "neither":
        assert nothing == half == all_of_it
    else:
        assert all_of_it < nothing
        assert all_of_it <= half <= nothing


def ways(share, seed, whole_way=True):
    """Cells that go ``share`` of the way of real cells."""
    rng = np.random.default_rng(seed)
    reference = np.linspace(0.0, 1.0, 6)[:, None] * [3.0, -2.0]
    simulated = share * reference + 0.1 * rng.normal(size=(20, 6, 2))
    real = (reference if whole_way else reference[-1:]) + 0.1 * rng.normal(
        size=(30, 6 if whole_way else 1, 2)
    )
    return PairedTrajectories(simulated, reference, real.reshape(-1, 2), whole_way)


@named(TRAJECTORY_METRICS)
@pytest.mark.parametrize("whole_way", [True, False])
def test_a_trajectory_nearer_to_that_of_real_cells_scores_better_and_none_leaves_the_range(metric, whole_way):
    nothing, half, all_of_it = (metric.function(ways(share, 0, whole_way)) for share in (0.0, 0.5, 1.0))
    assert (all_of_it < half).all()
    assert (half < nothing).all()
    assert min(metric.function(ways(share, 1, whole_way)).min() for share in (-1.0, 1.0, 3.0)) >= metric.low


def test_the_page_of_metrics_says_what_they_declare():
    assert metrics_page.PAGE.read_text(encoding="utf-8") == metrics_page.page(), (
        "a metric has changed; run python tests/metrics_page.py"
    )
