"""What a landscape can show: the way over it, where cells go with and without the design, and beside real cells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd
import torch

from perturbrl.data.populations import conditions_in
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.errors import DataError, PerturbRLError
from perturbrl.evaluation.simulation import Simulation, simulate
from perturbrl.evaluation.undosed_ways import UndosedWays, fates, undosed_ways
from perturbrl.pl.landscape import plot_landscape, travelled_states, wandering_states
from perturbrl.pl.style import Plot
from perturbrl.pl.undosed_ways import plot_fates, plot_undosed_components, plot_undosed_order
from perturbrl.planning.planners import NoOpDesign
from perturbrl.reporting.figures import to_numpy
from perturbrl.reporting.judged import POLICY, Judged
from perturbrl.reporting.landscape_tables import component_table, fate_table, order_table
from perturbrl.reporting.report_tables import OTHER_HALF, Table
from perturbrl.schema import CELL_TYPE_OBS, CONTROL_LABEL


@dataclass(frozen=True)
class LandscapeView:
    """What is shown of a landscape.

    Attributes:
        plots: figures.
        tables: tables, some under the names of figures.
        numbers: what ``metrics.json`` says of it.
        left_out: reasons why something is missing.
    """

    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    numbers: Mapping[str, object] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def __add__(self, other: "LandscapeView") -> "LandscapeView":
        return LandscapeView(
            self.plots + other.plots,
            self.tables + other.tables,
            {**self.numbers, **other.numbers},
            self.left_out + other.left_out,
        )


def landscape_view(judged: Judged, simulations: Mapping[str, Simulation], *, held_out: bool) -> LandscapeView:
    """What a twin with attractors can be drawn with, and the reasons why something is missing.

    Args:
        judged: what is judged.
        simulations: what designs did, the policy's among them; without ``no_op``, it is simulated here.
        held_out: whether the measured cells have a part that judges.
    """
    cells = judged.measured
    if cells is not None and not judged.problem.twin.attractors():
        return LandscapeView(
            left_out=("Quasi-potential landscape: the twin was learned from cells and has no attractors.",)
        )
    view = _seen("Quasi-potential landscape", lambda: _landscape(judged, simulations[POLICY]))
    if cells is not None:
        view += _seen("Fates", lambda: _fates(judged, simulations))
    if cells is not None and held_out:
        view += _seen("Undosed cells beside real cells", lambda: _undosed(judged, cells))
    return view


def _seen(what: str, look: Callable[[], LandscapeView]) -> LandscapeView:
    try:
        return look()
    except PerturbRLError as error:
        return LandscapeView(left_out=(f"{what}: {error}.",))


def _landscape(judged: Judged, simulation: Simulation) -> LandscapeView:
    """The landscape that the simulation is of: one learned from the half of the cells that judges, if there is one."""
    judge = judged.judges.get(OTHER_HALF)
    twin, seed = (judged.problem if judge is None else judge).twin, judged.problem.seed
    attractors = {name: to_numpy(state) for name, state in twin.attractors().items()}
    states = (
        wandering_states(twin, seed=seed)
        if judged.measured is None
        else travelled_states(twin, _known(twin.typical_cells()).latent, seed=seed)
    )
    path = torch.cat((simulation.path, simulation.final[:, None]), dim=1)
    of = "" if judge is None else "The landscape is the one learned from the half of the cells that judges."
    return LandscapeView(
        (plot_landscape(states, attractors, to_numpy(path), target=_attractor(judged), said=of),)
    )


def _known(cells: EncodedCells | None) -> EncodedCells:
    if cells is None:
        raise DataError("the twin keeps none of the cells that it was learned from")
    return cells


def _attractor(judged: Judged) -> str:
    """The target's attractor: a network's by its name, that of cells by their type."""
    return dict(conditions_in(judged.target)).get(CELL_TYPE_OBS, judged.target)


def _fates(judged: Judged, simulations: Mapping[str, Simulation]) -> LandscapeView:
    dosed = simulations[POLICY]
    left_alone = simulations.get(NoOpDesign.name)
    if left_alone is None:
        nothing = NoOpDesign()
        nothing.plan(judged.problem)
        left_alone = simulate(judged.problem, nothing, dosed.start)
    ends = {POLICY: dosed.final, NoOpDesign.name: left_alone.final}
    cells = judged.measured
    of = (
        _known(judged.problem.twin.typical_cells())
        if cells is None or cells.split is None
        else cells.training()
    )
    table, said = fates(ends, of), f"{len(dosed.start)} cells of {judged.source}."
    return LandscapeView((plot_fates(table, said),), (fate_table(table, said),), {"fates": _records(table)})


def _undosed(judged: Judged, cells: MeasuredCells) -> LandscapeView:
    training = cells.training()
    unperturbed = training.of_rows(training.rows_of(CONTROL_LABEL))
    ways = undosed_ways(judged.problem.twin, unperturbed, cells.held_out(), judged.problem.seed)
    plots = (
        plot_undosed_order(ways),
        plot_undosed_components(ways, "dtw"),
        plot_undosed_components(ways, "wasserstein"),
    )
    return LandscapeView(plots, (order_table(ways), component_table(ways)), {"undosed": _in_numbers(ways)})


def _in_numbers(ways: UndosedWays) -> dict[str, object]:
    tables = {"by_time": ways.by_time, "by_component": ways.by_component}
    return {"said": ways.said} | {name: _records(table) for name, table in tables.items()}


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
