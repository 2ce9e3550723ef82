"""From a judged design to the figures of its report."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.evaluation.design import DesignEvaluation
from perturbrl.evaluation.simulation import Simulation
from perturbrl.evaluation.trajectories import pseudotime_path
from perturbrl.pl.cells import (
    plot_latent_map,
    plot_trajectory_distances,
    trajectory_distances,
)
from perturbrl.pl.designs import plot_designs
from perturbrl.pl.doses import plot_dose_schedule, plot_hits
from perturbrl.pl.genes import plot_delta
from perturbrl.pl.learning import plot_learning
from perturbrl.pl.style import Plot
from perturbrl.reporting.judged import Judged
from perturbrl.reporting.report_tables import designs_frame
from perturbrl.schema import Population


def to_numpy(values: Tensor) -> np.ndarray:
    """A tensor's values, off the device and off the graph."""
    return values.detach().cpu().numpy()


def design_figures(judged: Judged, evaluation: DesignEvaluation) -> list[Plot]:
    """Everything that a judged design can be drawn with."""
    simulation = evaluation.simulations["policy"]
    plots = [
        plot_designs(designs_frame(evaluation), "latent units"),
        *way_figures(judged, simulation, evaluation.target_cells, "Target cells that judge the design"),
    ]
    if judged.measured is not None:
        cells = judged.measured
        plots += [_trajectories(judged, cells, evaluation), _delta(judged, cells, evaluation.forecast)]
    return plots


def way_figures(judged: Judged, simulation: Simulation, target: Population, said: str) -> list[Plot]:
    """Where dosed cells go, among start and target cells.

    Args:
        judged: what is judged.
        simulation: what the design did.
        target: ``[cells, latent]`` cells to draw as the target.
        said: what they are, for the caption.
    """
    groups = {"start": simulation.start, "target": target, "dosed": simulation.final}
    cells = {name: to_numpy(states) for name, states in groups.items()}
    return [plot_latent_map(cells, to_numpy(simulation.path), said)]


def dose_figures(judged: Judged, simulation: Simulation, hits: pd.DataFrame) -> list[Plot]:
    """What is dosed, and when."""
    names = judged.problem.space.names
    return [plot_hits(hits), plot_dose_schedule(names, to_numpy(simulation.of_all(simulation.given.mean(0))))]


def learning_figure(curves: pd.DataFrame | None) -> list[Plot]:
    """The learning curves, where the run's table is at hand."""
    if curves is None or "return" not in curves:
        return []
    return [plot_learning(curves.dropna(subset=["return"]))]


def _delta(judged: Judged, cells: MeasuredCells, forecast: Simulation) -> Plot:
    twin = judged.problem.twin
    real = cells.expression(judged.target, "test").mean(0) - cells.expression(judged.source, "test").mean(0)
    predicted = twin.expression(forecast.final).mean(0) - twin.expression(forecast.start).mean(0)
    return plot_delta(cells.genes, to_numpy(real), to_numpy(predicted))


def _trajectories(judged: Judged, cells: MeasuredCells, evaluation: DesignEvaluation) -> Plot:
    start, target = evaluation.simulations["policy"].start, evaluation.target_cells
    time = _pseudotime(cells, judged.target)
    paths = {name: to_numpy(found.path) for name, found in evaluation.simulations.items()}
    real = to_numpy(target)
    if time is None:
        reference = np.stack([to_numpy(start.mean(0)), real.mean(0)])
        paths |= {
            "split_half_replicate": _ends(
                judged.problem.twin.place(judged.problem.twin.start_cells), judged.problem.goal_cells
            )
        }
        said = (
            "The file has no pseudotime, so nothing is known of the way between: the reference is the mean of held-out "
            "start cells followed by that of held-out target cells. The replicate takes the same two means from "
            "other cells."
        )
    else:
        steps = min(judged.problem.horizon + 1, len(target))
        reference = pseudotime_path(real, time, steps)
        said = f"Reference: {len(target)} held-out target cells in {steps} equal bins of their pseudotime."
    table = trajectory_distances(paths, reference, real, whole_way=time is not None)
    return plot_trajectory_distances(table, said)


def _ends(start: Population, goal: Population) -> Float[np.ndarray, "_ 2 latent"]:
    """Paths from the mean of the start to each goal cell; their mean is the way between the means."""
    return to_numpy(torch.stack((start.mean(0).expand_as(goal), goal), dim=1))


def _pseudotime(cells: MeasuredCells, target: str) -> Float[np.ndarray, " cells"] | None:
    """Pseudotime of the held-out target cells, where cells are ordered by it."""
    order = cells.judged_order(target, "test")
    return None if order is None or order.kind == "time" else order.values.numpy()
