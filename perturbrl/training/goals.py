"""Where episodes start and what they aim at: measured cells, or cells that rest in a network's attractors."""

from typing import NamedTuple

import torch
from torch import Generator

from perturbrl.errors import ConfigurationError
from perturbrl.schema import CellState, Population
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.twins.base import DigitalTwin, relax

ATTRACTOR_CELLS = 256


class EpisodeCells(NamedTuple):
    """Where episodes start and what they aim at; never cells that judge.

    Attributes:
        start: training cells of the source; a network's cells at rest.
        goal: target cells, which nothing was fitted on.
        reference: those of start that the encoder was not fitted on either, to tell the populations apart by.
    """

    start: CellState
    goal: Population
    reference: Population


def start_and_goal(twin: DigitalTwin, data: PerturbationDataModule, generator: Generator) -> EpisodeCells:
    """The cells of an episode; where cells were measured, the twin is fitted to the training cells first.

    Raises:
        ConfigurationError: there is no target, or the twin learns from cells and there are none.
        LeakageError: the twin would learn from cells that tell of the target, or of what else is held out.
    """
    if data.target is None:
        raise ConfigurationError("data.target is null; name the perturbation or attractor cells should reach")
    if data.has_cells:
        twin.encoder = data.encoder
        cells = data.training_cells()
        data.require_untold(cells.labels)
        twin.fit(cells, data.encoder)
        start, goal = data.cells(data.source, "train"), data.cells(data.target, "goal")
        return EpisodeCells(start, goal, data.reference_cells())
    if twin.needs_data:
        raise ConfigurationError(
            f"{type(twin).__name__} learns from cells but data.path is null; give data.path a file"
        )
    # The same noise for both, so that they differ in nothing but the attractor.
    state = generator.get_state()
    start = _resting(twin, data.source, generator)
    # Nothing was fitted on either, so the start cells are their own reference.
    return EpisodeCells(start, _resting(twin, data.target, generator.set_state(state)), start)


@torch.no_grad()
def _resting(twin: DigitalTwin, name: str, generator: Generator) -> CellState:
    attractors = twin.attractors()
    if name not in attractors:
        raise ConfigurationError(
            f"the network has no attractor '{name}'; choose data.source and data.target among "
            f"{', '.join(attractors)}"
        )
    member = twin.draw_members(ATTRACTOR_CELLS, generator)
    return relax(twin, attractors[name].expand(ATTRACTOR_CELLS, -1), member, generator)
