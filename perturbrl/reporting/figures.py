"""From a judged design to the figures of its report."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

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
from perturbrl.pl.landscape import plot_landscape, wandering_states
from perturbrl.pl.learning import plot_learning
from perturbrl.pl.style import Plot
from perturbrl.reporting.report_tables import designs_frame
from perturbrl.schema import PSEUDOTIME_OBS, Population
from perturbrl.training.two_stage import TwoStageModule


def to_numpy(values: Tensor) -> np.ndarray:
    """A tensor's values, off the device and off the graph."""
    return values.detach().cpu().numpy()


def design_figures(module: TwoStageModule, evaluation: DesignEvaluation, forecast: Simulation) -> list[Plot]:
    """Everything that a judged design can be drawn with; ``forecast`` is what it does to training cells."""
    simulation = evaluation.simulations["policy"]
    plots = [
        plot_designs(designs_frame(evaluation), "latent units"),
        *way_figures(module, simulation, evaluation.target_cells, "Target cells that judge the design"),
    ]
    if module.data.has_cells:
        plots += [_trajectories(module, evaluation), _delta(module, forecast)]
    return plots


def way_figures(module: TwoStageModule, simulation: Simulation, target: Population, said: str) -> list[Plot]:
    """Where dosed cells go: among start and target cells, and over a network's landscape.

    Args:
        module: the trained module.
        simulation: what the design did.
        target: ``[cells, latent]`` cells to draw as the target.
        said: what they are, for the caption.
    """
    groups = {"start": simulation.start, "target": target, "dosed": simulation.final}
    cells = {name: to_numpy(states) for name, states in groups.items()}
    plots = [plot_latent_map(cells, to_numpy(simulation.path), said)]
    if not module.data.has_cells and len(module.twin.attractors()) > 1:
        plots.append(_landscape(module, simulation))
    return plots


def dose_figures(module: TwoStageModule, simulation: Simulation, hits: pd.DataFrame) -> list[Plot]:
    """What is dosed, and when."""
    names = module.require_space().names
    return [plot_hits(hits), plot_dose_schedule(names, to_numpy(simulation.doses.mean(0)))]


def learning_figure(curves: pd.DataFrame | None) -> list[Plot]:
    """The learning curves, where the run's table is at hand."""
    if curves is None or "return" not in curves:
        return []
    return [plot_learning(curves.dropna(subset=["return"]))]


def _landscape(module: TwoStageModule, simulation: Simulation) -> Plot:
    attractors = {name: to_numpy(state) for name, state in module.twin.attractors().items()}
    states = wandering_states(module.twin, seed=module.seed)
    return plot_landscape(states, attractors, to_numpy(simulation.path), target=module.data.target)


def _delta(module: TwoStageModule, forecast: Simulation) -> Plot:
    data, twin = module.data, module.twin
    assert data.target is not None
    real = data.expression(data.target, "test").mean(0) - data.expression(data.source, "test").mean(0)
    predicted = twin.expression(forecast.final).mean(0) - twin.expression(forecast.start).mean(0)
    return plot_delta(data.genes, to_numpy(real), to_numpy(predicted))


def _trajectories(module: TwoStageModule, evaluation: DesignEvaluation) -> Plot:
    start, target = evaluation.simulations["policy"].start, evaluation.target_cells
    time = _pseudotime(module)
    paths = {name: to_numpy(found.path) for name, found in evaluation.simulations.items()}
    real = to_numpy(target)
    if time is None:
        reference = np.stack([to_numpy(start.mean(0)), real.mean(0)])
        paths |= {"split_half_replicate": _ends(module.twin.start_cells, module.goal_cells)}
        said = (
            "The file has no pseudotime, so nothing is known of the way between: the reference is the mean of held-out "
            "start cells followed by that of held-out target cells. The replicate takes the same two means from "
            "other cells."
        )
    else:
        steps = min(module.rollout.horizon + 1, len(target))
        reference = pseudotime_path(real, time, steps)
        said = f"Reference: {len(target)} held-out target cells in {steps} equal bins of their pseudotime."
    table = trajectory_distances(paths, reference, real, whole_way=time is not None)
    return plot_trajectory_distances(table, said)


def _ends(start: Population, goal: Population) -> Float[np.ndarray, "_ 2 latent"]:
    """Paths from the mean of the start to each goal cell; their mean is the way between the means."""
    return to_numpy(torch.stack((start.mean(0).expand_as(goal), goal), dim=1))


def _pseudotime(module: TwoStageModule) -> Float[np.ndarray, " cells"] | None:
    """Pseudotime of the held-out target cells, where the file has it for all of them."""
    data = module.data
    assert data.dataset is not None
    obs = data.dataset.adata.obs
    rows = data.rows(str(data.target), "test")
    for key in PSEUDOTIME_OBS:
        if key in obs and np.isfinite(times := obs[key].to_numpy(dtype=np.float64)[rows]).all():
            return times
    return None
