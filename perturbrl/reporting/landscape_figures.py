"""Figures of a landscape: the way over it, and where cells go with and without the design."""

from collections.abc import Callable, Mapping

import torch

from perturbrl.data.populations import conditions_in
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.errors import PerturbRLError
from perturbrl.evaluation.simulation import Simulation, simulate
from perturbrl.evaluation.undosed_ways import fates, undosed_ways
from perturbrl.pl.landscape import plot_landscape, travelled_states, wandering_states
from perturbrl.pl.style import Plot
from perturbrl.pl.undosed_ways import plot_fates, plot_undosed_components, plot_undosed_order
from perturbrl.planning.planners import NoOpDesign
from perturbrl.reporting.figures import to_numpy
from perturbrl.reporting.judged import POLICY, Judged
from perturbrl.schema import CELL_TYPE_OBS

Figures = tuple[list[Plot], tuple[str, ...]]


def landscape_figures(judged: Judged, simulations: Mapping[str, Simulation], *, held_out: bool) -> Figures:
    """What a twin with attractors can be drawn with, and the reasons why something is missing.

    Args:
        judged: what is judged.
        simulations: what designs did, the policy's among them; without ``no_op``, it is simulated here.
        held_out: whether the measured cells have a part that judges.
    """
    cells = judged.measured
    if cells is not None and not judged.problem.twin.attractors():
        return [], ("Quasi-potential landscape: the twin was learned from cells and has no attractors.",)
    found = [_drawn("Quasi-potential landscape", lambda: [_landscape(judged, simulations[POLICY])])]
    if cells is not None:
        found.append(_drawn("Fates", lambda: [_fates(judged, cells, simulations)]))
    if cells is not None and held_out:
        found.append(_drawn("Undosed cells beside real cells", lambda: _undosed(judged, cells)))
    return [plot for plots, _ in found for plot in plots], tuple(
        why for _, reasons in found for why in reasons
    )


def _drawn(what: str, draw: Callable[[], list[Plot]]) -> Figures:
    try:
        return draw(), ()
    except PerturbRLError as error:
        return [], (f"{what}: {error}.",)


def _landscape(judged: Judged, simulation: Simulation) -> Plot:
    twin, seed = judged.problem.twin, judged.problem.seed
    attractors = {name: to_numpy(state) for name, state in twin.attractors().items()}
    states = (
        wandering_states(twin, seed=seed)
        if judged.measured is None
        else travelled_states(twin, judged.measured.training().latent, seed=seed)
    )
    path = torch.cat((simulation.path, simulation.final[:, None]), dim=1)
    return plot_landscape(states, attractors, to_numpy(path), target=_attractor(judged))


def _attractor(judged: Judged) -> str:
    """The target's attractor: a network's by its name, that of cells by their type."""
    return dict(conditions_in(judged.target)).get(CELL_TYPE_OBS, judged.target)


def _fates(judged: Judged, cells: MeasuredCells, simulations: Mapping[str, Simulation]) -> Plot:
    dosed = simulations[POLICY]
    left_alone = simulations.get(NoOpDesign.name)
    if left_alone is None:
        nothing = NoOpDesign()
        nothing.plan(judged.problem)
        left_alone = simulate(judged.problem, nothing, dosed.start)
    ends = {POLICY: dosed.final, NoOpDesign.name: left_alone.final}
    return plot_fates(fates(ends, cells.training()), f"{len(dosed.start)} cells of {judged.source}.")


def _undosed(judged: Judged, cells: MeasuredCells) -> list[Plot]:
    twin = judged.problem.twin
    ways = undosed_ways(twin, cells.training(), cells.held_out(), judged.problem.seed)
    return [plot_undosed_order(ways), plot_undosed_components(ways)]
