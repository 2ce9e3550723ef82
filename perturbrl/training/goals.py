"""Where episodes start and what they aim at: measured cells, or cells that rest in a network's attractors."""

from collections.abc import Sequence

import torch
from torch import Generator

from perturbrl.data.populations import Condition, conditions_in, nearest_names
from perturbrl.errors import ConfigurationError, listed
from perturbrl.schema import CellState, Population
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.saved_data import PRIOR_FILES
from perturbrl.twins.base import DigitalTwin, EpisodeCells, relax

ATTRACTOR_CELLS = 256


def start_and_goal(twin: DigitalTwin, data: PerturbationDataModule, generator: Generator) -> EpisodeCells:
    """The cells of an episode; where cells were measured, the twin is fitted to the training cells first.

    Raises:
        ConfigurationError: there is no target, or one that a twin with episodes of its own would not aim at, or the
            twin learns from cells and there are none, or prior knowledge is given that it would not heed.
        LeakageError: the twin would learn from cells that tell of the target, or of what else is held out.
    """
    _require_heeded(twin, data)
    if data.has_cells:
        twin.encoder = data.encoder
        cells = data.training_cells()
        data.require_untold(cells.labels)
        own = twin.fit(cells, data.encoder).episodes()
        return _measured(data, _target(data)) if own is None else _untargeted(twin, data, own)
    if twin.needs_data:
        raise ConfigurationError(
            f"{type(twin).__name__} learns from cells but data.path is null; give data.path a file"
        )
    # The same noise for both, so that they differ in nothing but the attractor.
    states, state = _start_and_goal_states(twin, data.source, _target(data)), generator.get_state()
    start = _resting(twin, states[0], generator)
    goal = _resting(twin, states[1], generator.set_state(state))
    # Nothing was fitted on either, so the start cells are their own reference.
    return _all_used(start, goal, start)


def _require_heeded(twin: DigitalTwin, data: PerturbationDataModule) -> None:
    given = [f"data.{name}" for name in PRIOR_FILES if getattr(data, name)]
    if given and not twin.heeds_priors:
        raise ConfigurationError(
            f"{listed(given)} {'is' if len(given) == 1 else 'are'} given, and {type(twin).__name__} learns nothing "
            "from prior knowledge; leave it out, or use ResponseTwin (configs/gene_screen.yaml)"
        )


def _target(data: PerturbationDataModule) -> str:
    if data.target is None:
        raise ConfigurationError("data.target is null; name the perturbation or attractor cells should reach")
    return data.target


def _measured(data: PerturbationDataModule, target: str) -> EpisodeCells:
    start, goal = data.cells(data.source, "train"), data.cells(target, "goal")
    if not data.learn_target:
        return _all_used(start, goal, data.reference_cells())
    # Genes, encoder and twin have seen the goal, so start cells they have seen are their equals.
    return _all_used(start, goal, start)._replace(others=data.other_types())


def _all_used(start: CellState, goal: Population, reference: Population) -> EpisodeCells:
    """Episodes whose policy is used whatever it does."""
    return EpisodeCells(start, goal, reference, start[:0], start[:0], torch.empty(0, dtype=torch.long))


def _untargeted(twin: DigitalTwin, data: PerturbationDataModule, own: EpisodeCells) -> EpisodeCells:
    if data.target is not None:
        raise ConfigurationError(
            f"data.target is '{data.target}', and {type(twin).__name__} is trained on all perturbations; leave the "
            "target out, and hold perturbations out by data.split"
        )
    return own


@torch.no_grad()
def _resting(twin: DigitalTwin, states: Population, generator: Generator) -> CellState:
    """Cells at rest in attractors, in each about equally often."""
    member = twin.draw_members(ATTRACTOR_CELLS, generator)
    place = torch.arange(ATTRACTOR_CELLS, device=states.device) % len(states)
    return relax(twin, states[place], member, generator)


def _start_and_goal_states(twin: DigitalTwin, source: str, target: str) -> tuple[Population, Population]:
    start, goal = _attractors(twin, source), _attractors(twin, target)
    both = sorted(start.keys() & goal.keys())
    if both and source != target:
        raise ConfigurationError(
            f"source '{source}' and target '{target}' both mean {listed(both, 5)}; choose states that exclude "
            "each other"
        )
    return torch.cat(list(start.values())), torch.cat(list(goal.values()))


def _attractors(twin: DigitalTwin, text: str) -> dict[str, CellState]:
    """The attractor of that name, or those that have a partial state."""
    attractors = twin.attractors()
    if text in attractors:
        return {text: attractors[text]}
    wanted = conditions_in(text)
    found = {name: state for name, state in attractors.items() if wanted and _has(twin, state, wanted)}
    if not found:
        what = f"attractor with {text}" if wanted else f"attractor '{text}'"
        raise ConfigurationError(
            f"the network has no {what}; choose data.source and data.target among {', '.join(attractors)}"
        )
    return found


def _has(twin: DigitalTwin, state: CellState, wanted: Sequence[Condition]) -> bool:
    """Whether an attractor's genes are on and off as wanted."""
    genes = list(twin.gene_names)
    for gene, value in wanted:
        if gene not in genes:
            raise ConfigurationError(f"the network has no gene '{gene}'; {nearest_names(gene, genes)}")
        if value not in ("0", "1"):
            raise ConfigurationError(f"'{gene}={value}' is no state of a gene; write 0 (off) or 1 (on)")
    return all(bool((state[:, genes.index(gene)] > 0.5).all()) == (value == "1") for gene, value in wanted)
