"""The twin in which cells start where a response model expects them, and an agent moves them on."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from perturbrl.data.labels import CONTROL
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.errors import ConfigurationError
from perturbrl.responses.base import EVIDENCE
from perturbrl.responses.inner_split import (
    Foretold,
    InnerSplit,
    foretold,
    measured_conditions,
    only,
    rows_by_condition,
)
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.moments import Moments
from perturbrl.responses.training_cells import Condition, TrainingCells
from perturbrl.schema import CellState, Dose, Expression, GeneVector, Population
from perturbrl.twins.base import DigitalTwin, EpisodeCells
from perturbrl.twins.perturbations import PerturbationSpace

MOST_START_CELLS: Final = 50_000
FEWEST_PER_CONDITION: Final = 16
# Of more, krigings of half of them foretell the others.
MANY_CONDITIONS: Final = 1000
SUMMARY_COLUMNS: Final = 3 + len(EVIDENCE)
Directions = Literal["expected", "components", "dimensions"]
_DRAWS: Final = 32  # of a prediction, to see how uncertain it is in cell states


class ResidualTwin(DigitalTwin):
    """z' = z + displacement(dose), where z began at kriging's prediction for one condition.

    An episode belongs to one condition (what was done, in which context). It starts in a control cell of the context,
    moved by the shift that kriging expects; doses move it on. What is to be learned is what kriging leaves over. Every
    training condition is foretold by a kriging that did not see it (``responses.inner_split``); a part of them is held
    back, to decide with.

    A state's columns are, in the encoder's dimensions, the cell itself, which alone is moved, the middle of its
    population at the start, the expected shift and its standard deviation; then a summary of what kriging says
    (``SUMMARY_COLUMNS``: sizes of shift and deviation, whether it is a combination, kind of evidence); and last the
    number of the condition, from 0, negative where it is not one of training. All but the cell itself are equal in all
    cells of a condition.

    Args:
        directions: what doses are. ``expected``: two, along the expected shift, and away from the middle of the
            population; ``components``: the same two in each dimension of the encoder apart; ``dimensions``: the
            dimensions themselves.
        reach: the displacement at dose 1: of ``dimensions`` in units of the root mean square, over training conditions,
            of what kriging leaves over; of the others in units of the expected shift, and of the distance from the
            middle.
        deciding_fraction: share of the training perturbations (of the contexts, where one perturbation was measured)
            that decide whether what was learned is used.
        n_folds: krigings that foretell the others; 2 of more than 1,000 conditions, of which half tell enough.
        cells_per_condition: control and measured cells of each condition, at most.
        seed: of the inner split.

    Attributes:
        response: kriging of all training cells, known after ``fit``.

    Raises:
        ConfigurationError: an option is out of range.
    """

    needs_data = heeds_priors = True
    response: Kriging
    scale: Float[Tensor, " own"]
    bases: Float[Tensor, "contexts genes"]
    controls: Float[Tensor, "contexts cells own"]

    def __init__(
        self,
        directions: Directions = "expected",
        reach: float = 1.0,
        deciding_fraction: float = 0.34,
        n_folds: int = 5,
        cells_per_condition: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _require(reach > 0, "reach", reach, "a positive number")
        _require(0 <= deciding_fraction < 1, "deciding_fraction", deciding_fraction, "a share in [0, 1)")
        _require(n_folds >= 2, "n_folds", n_folds, "at least 2")
        _require(cells_per_condition >= 2, "cells_per_condition", cells_per_condition, "at least 2")
        self.directions, self.reach = directions, reach
        self.deciding_fraction, self.n_folds = deciding_fraction, n_folds
        self.cells_per_condition, self.seed = cells_per_condition, seed
        self.contexts: tuple[str, ...] = ()
        self.register_buffer("scale", torch.empty(0))
        self.register_buffer("controls", torch.empty(0, 0, 0))
        self.register_buffer("bases", torch.empty(0, 0))
        self._episodes: EpisodeCells | None = None

    # -- fitting -----------------------------------------------------------------------------------------

    def fit(self, cells: EncodedCells, encoder: Encoder) -> Self:
        """Fit kriging to all training cells, and to parts of them to foretell the others.

        Raises:
            DataError: see ``Kriging`` and ``foretold``.
        """
        self.encoder = encoder
        training = TrainingCells(cells.expression, cells.labels, cells.genes, cells.contexts)
        self.response = Kriging(cells.priors).fit(training)
        self._take_controls(cells, rows_by_condition(training))
        self.latent_dim = 4 * encoder.latent_dim + SUMMARY_COLUMNS + 1
        self.perturbations = self._displacements(encoder.latent_dim)
        parts = InnerSplit.of(measured_conditions(training), self.deciding_fraction, self.seed)
        model = partial(Kriging, cells.priors)
        n_folds = self.n_folds if len(parts.learned) <= MANY_CONDITIONS else 2
        learned = foretold(training, parts.learned, model, n_folds=n_folds, seed=self.seed)
        start, goal = self._start_and_goal(learned, cells, training, learned=True)
        self.start_from(start)
        self.set_buffers(scale=self._left_over(start, goal))
        deciding = start[:0], goal[:0]
        if parts.deciding:
            told = Foretold.by(model().fit(only(training, parts.learned)), parts.deciding)
            deciding = self._start_and_goal(told, cells, training, learned=False)
        self._episodes = EpisodeCells(start, goal, start[:0], *deciding, torch.tensor(parts.units).long())
        return self

    def episodes(self) -> EpisodeCells | None:
        """Training conditions, foretold and measured, those that decide apart; ``None`` before ``fit``."""
        return self._episodes

    def _take_controls(self, cells: EncodedCells, rows: Mapping[Condition, np.ndarray]) -> None:
        """As many control cells of every context, some of them several times where there are fewer."""
        self.contexts = self.response.contexts
        own = [torch.as_tensor(rows[CONTROL, context]) for context in self.contexts]
        self.set_buffers(
            bases=torch.stack([cells.expression[found].mean(0) for found in own]),
            controls=torch.stack([_some(cells.latent[found], self.cells_per_condition) for found in own]),
        )

    def _start_and_goal(
        self, told: Foretold, cells: EncodedCells, training: TrainingCells, *, learned: bool
    ) -> tuple[Population, Population]:
        """Control cells as foretold for each condition, and as many measured ones with the same columns beside."""
        each = MOST_START_CELLS // len(told.conditions)
        n_cells = min(self.cells_per_condition, max(FEWEST_PER_CONDITION, each))
        start = self.states(told, n_cells, learned=learned)
        rows, own = rows_by_condition(training), cells.latent.shape[1]
        beside = start.view(len(told.conditions), -1, self.latent_dim)[..., own:]
        measured = [_some(cells.latent[rows[condition]], beside.shape[1]) for condition in told.conditions]
        return start, torch.cat((torch.stack(measured).to(beside), beside), dim=-1).flatten(0, 1)

    def _left_over(self, start: Population, goal: Population) -> Float[Tensor, " own"]:
        """Root mean square over conditions of the difference of means, in each dimension of the encoder."""
        number = start[:, -1].long()
        count = number.bincount()[:, None]
        difference = (goal - start)[:, : self.controls.shape[-1]]
        mean = difference.new_zeros(len(count), difference.shape[1]).index_add(0, number, difference) / count
        return mean.square().mean(0).sqrt()

    # -- states ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def states(self, told: Foretold, n_cells: int, *, learned: bool = False) -> CellState:
        """``n_cells`` control cells for each condition, moved as foretold, condition by condition.

        Args:
            told: what is expected.
            n_cells: at most ``cells_per_condition``.
            learned: whether episodes of training are about these, in this order; others have negative numbers.
        """
        place = [self.contexts.index(context) for _, context in told.conditions]
        shift, sd = (
            torch.stack(found) for found in zip(*map(self._in_states, place, told.mean, told.sd), strict=True)
        )
        controls = self.controls[place]
        middle = controls.mean(1) + shift
        number = torch.arange(len(place)).to(shift)[:, None]
        number = number if learned else -1 - number
        beside = torch.cat((middle, shift, sd, _summary(told, shift, sd), number), dim=1)
        own = _some(controls.transpose(0, 1), n_cells).transpose(0, 1) + shift[:, None]
        return torch.cat((own, beside[:, None].expand(-1, n_cells, -1)), dim=-1).flatten(0, 1)

    def _in_states(
        self, place: int, mean: GeneVector, sd: GeneVector
    ) -> tuple[Float[Tensor, " own"], Float[Tensor, " own"]]:
        """What a shift of the mean amounts to in the encoder's dimensions, and how uncertain it is in each."""
        base, encoder = self.bases[place], self.encoder
        assert encoder is not None
        expected = base + torch.as_tensor(mean).to(base)
        draws = torch.randn(_DRAWS, len(base), generator=Generator().manual_seed(0)).to(base)
        drawn = expected + draws * torch.as_tensor(sd).to(base)
        states = encoder.encode(torch.cat((base[None], expected[None], drawn)))
        return states[1] - states[0], states[2:].std(0)

    def foretell(self, conditions: Sequence[Condition]) -> Foretold:
        """What kriging of all training cells says of conditions."""
        return Foretold.by(self.response, conditions)

    # -- moving ------------------------------------------------------------------------------------------

    def transition(self, state: CellState, dose: Dose, noise: Tensor) -> CellState:
        """One displacement (see ``DigitalTwin``)."""
        own = self.scale.shape[0]
        moved = state[:, :own] + self.reach * self._displacement(state[:, : 3 * own], dose)
        return torch.cat((moved, state[:, own:]), dim=1)

    def _displacement(self, state: CellState, dose: Dose) -> Float[Tensor, "cells own"]:
        if self.directions == "dimensions":
            return self.scale * dose
        cell, middle, shift = state.chunk(3, dim=1)
        along, apart = dose.chunk(2, dim=1)
        return along * shift + apart * (cell - middle)

    def draw_noise(self, n_cells: int, generator: Generator | None = None) -> Tensor:
        """None at all."""
        return self.start_cells.new_empty(n_cells, 0)

    def expression(self, state: CellState) -> Expression:
        """Expression of the cells' own columns (see ``DigitalTwin``)."""
        return super().expression(state[:, : self.scale.shape[0]])

    def _displacements(self, n_dimensions: int) -> PerturbationSpace:
        """What doses are called, from -1 to 1."""
        each = [f"dimension {i + 1}" for i in range(n_dimensions)]
        both = ("along the expected shift", "away from the middle")
        names = {
            "expected": both,
            "components": [f"{way}, {one}" for way in both for one in each],
            "dimensions": each,
        }
        return PerturbationSpace(names[self.directions], -1.0, 1.0, min_dose=0.0)

    # -- checkpoints -------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """See ``DigitalTwin``; with what kriging is fitted to again."""
        kriging = {
            "moments": self.response.moments.to_dict(),
            "priors": [prior.to_dict() for prior in self.response.priors],
        }
        return super().describe() | {"contexts": list(self.contexts), "kriging": kriging}

    def restore(self, description: dict[str, Any]) -> None:
        """See ``DigitalTwin``."""
        super().restore(description)
        self.perturbations = self._displacements((description["latent_dim"] - SUMMARY_COLUMNS - 1) // 4)
        self.contexts = tuple(description["contexts"])
        kriging = description["kriging"]
        priors = [PriorKnowledge.from_dict(prior) for prior in kriging["priors"]]
        self.response = Kriging(priors).fit_moments(Moments.from_dict(kriging["moments"]))


def _summary(
    told: Foretold, shift: Float[Tensor, "conditions own"], sd: Float[Tensor, "conditions own"]
) -> Float[Tensor, "conditions summary"]:
    sizes = torch.stack((shift.norm(dim=1), sd.norm(dim=1)), dim=1).log1p()
    joint = torch.tensor([[float(label.is_combination)] for label, _ in told.conditions]).to(shift)
    kinds = [list(EVIDENCE).index(evidence) for evidence in told.evidence]
    return torch.cat((sizes, joint, torch.eye(len(EVIDENCE))[kinds].to(shift)), dim=1)


def _some(cells: Float[Tensor, " cells *more"], n_wanted: int) -> Float[Tensor, " wanted *more"]:
    """Cells spread evenly over all, several times where there are fewer, around the mean of all.

    Without that the same error in the mean of the chosen control cells would be in every condition, to be learned.
    """
    chosen = cells[torch.arange(n_wanted) * len(cells) // n_wanted]
    return chosen + (cells.mean(0) - chosen.mean(0))


def _require(condition: bool, option: str, value: float, meaning: str) -> None:
    if not condition:
        raise ConfigurationError(f"the twin's {option} is {value:g}; give {meaning}")
