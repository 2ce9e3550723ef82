"""What a policy that chooses among perturbations knows of each: where it brings cells alone, and on what evidence."""

import math
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from perturbrl.envs.base import Task
from perturbrl.envs.steps import prices_beside, uncertainty_grown
from perturbrl.rl.policies import GaussianMLP
from perturbrl.rl.scored_choice import ChoiceScores
from perturbrl.schema import CellState
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace

EVIDENCE: Final = ("combined", "transferred", "prior")
PerChoice = Float[Tensor, " some"]
_CELLS: Final = 32
_ROWS: Final = 1 << 16
_NUMBERS: Final = 1 << 24


def n_features(latent_dim: int) -> int:
    """Features of each choice: shift, its square length, uncertainty, dose, whether it is one, and evidence."""
    return latent_dim + 4 + len(EVIDENCE)


@dataclass(frozen=True, eq=False)
class ChoiceTable:
    """What is known of each choice, "none" the first.

    Attributes:
        shifts: ``[choices, latent]`` mean over start cells of where it brings them alone, in one step.
        spread: ``[choices]`` growth of the standard deviation of a cell's place; 0 where the twin does not tell.
        prices: ``[choices]`` what the task charges.
        doses: ``[choices]`` size of the dose, in units of the largest.
        evidence: ``[choices, kinds]`` 1 where the effect rests on this kind in place of a measurement.
    """

    shifts: Float[Tensor, "choices latent"]
    spread: Float[Tensor, " choices"]
    prices: Float[Tensor, " choices"]
    doses: Float[Tensor, " choices"]
    evidence: Float[Tensor, "choices kinds"]

    @classmethod
    @torch.no_grad()
    def of(cls, twin: DigitalTwin, task: Task, menu: PerturbationSpace, seed: int) -> "ChoiceTable":
        """Try every choice alone on the twin, in the same start cells, members and noise.

        Args:
            twin: with its start cells.
            task: aimed at the goal.
            menu: what may be chosen.
            seed: of cells, members and noise.
        """
        trial = _Trial(twin, task, menu, seed)
        rows = max(1, min(_ROWS // trial.n_cells, _NUMBERS // (menu.twin_columns * trial.n_cells)))
        choices = torch.arange(menu.n_actions, device=menu.low.device)
        parts = [trial.outcome(some) for some in choices.split(rows)]
        shifts, spread, prices, doses = (torch.cat(of_part) for of_part in zip(*parts, strict=True))
        return cls(shifts - shifts[:1], spread - spread[0], prices - prices[0], doses, _evidence(twin, menu))

    def promising(self, way: Float[Tensor, "cells latent"], n: int) -> Int[Tensor, " kept"]:
        """Numbers of the ``n`` choices that bring the mean cell nearest: at first, and after the one and two best.

        What leads nowhere alone may complete what was begun.

        Args:
            way: from start cells to their goals.
            n: how many are kept, "none" not among them.
        """
        left, kept = way.mean(0), torch.zeros(len(self.shifts), dtype=torch.bool, device=way.device)
        open_ = ~kept
        open_[0] = False
        for share in (n // 2, n // 4, n - n // 2 - n // 4):
            gain = -(left - self.shifts).norm(dim=1) / way.norm(dim=1).mean() - self.prices
            gain = gain.masked_fill(~open_, -torch.inf)
            best = gain.topk(min(share, int(open_.sum()))).indices
            kept[best], open_[best] = True, False
            left = left - self.shifts[best[0]] if len(best) else left
        return kept.nonzero()[:, 0]

    def fill(self, scores: ChoiceScores, way: Float[Tensor, "cells latent"], exploration: float) -> None:
        """Give a policy what it scores by.

        Args:
            scores: of the policy.
            way: from start cells to their goals.
            exploration: share of what the best choice gains that exploring gives up at first.
        """
        unit = way.norm(dim=1).mean()
        shifts = self.shifts / unit
        of_choice = (shifts.square().sum(1), self.spread / unit, self.doses, (self.doses > 0).to(shifts))
        scores.unit.copy_(unit)
        scores.shifts.copy_(shifts)
        scores.prices.copy_(self.prices)
        scores.features.copy_(torch.cat((shifts, torch.stack(of_choice, 1), self.evidence), 1))
        unused = torch.zeros(len(way), scores.n_perturbations, dtype=torch.bool, device=way.device)
        scores.sharpness.copy_(sharpness(scores.gains(way, unused), exploration))

    @torch.no_grad()
    def limit(self, gaussian: GaussianMLP, way: Float[Tensor, "cells latent"], exploration: float) -> None:
        """Lower the first deviations of doses until exploring leads no further than ``exploration`` ways.

        Equal deviations lead the further, the more perturbations there are: of 2,000, thirteen ways beyond the goal.

        Args:
            gaussian: network of the policy.
            way: from start cells to their goals.
            exploration: in ways to go.
        """
        blocks = self.shifts[1:].norm(dim=1) / self.doses[1:].clamp_min(1e-12)
        length = blocks.view(-1, len(gaussian.log_std)).amax(0)
        deviation = gaussian.action_scale * gaussian.log_std.detach().exp()
        led = float((length * deviation).norm() / way.norm(dim=1).mean())
        if led > exploration:
            gaussian.log_std.sub_(math.log(led / exploration))


def sharpness(gains: Float[Tensor, "cells choices"], exploration: float) -> Float[Tensor, ""]:
    """The factor of the logits at which exploring gives up this share of what the best choice gains.

    So exploration is measured by where it brings cells, and is the same for five choices and for thousands.
    """
    best = gains.amax(1).mean()
    low, high = gains.new_tensor(0.0), gains.new_tensor(1e6)
    if not best > 0:
        return torch.ones_like(best)
    for _ in range(60):
        middle = (low * high).sqrt() if low > 0 else high / 2
        expected = ((middle * gains).softmax(1) * gains).sum(1).mean()
        low, high = (middle, high) if expected < (1 - exploration) * best else (low, middle)
    return high


class _Trial:
    """Start cells in which every choice is tried."""

    def __init__(self, twin: DigitalTwin, task: Task, menu: PerturbationSpace, seed: int) -> None:
        self.twin, self.task, self.menu = twin, task, menu
        self.n_cells = max(1, min(_CELLS, _ROWS // menu.n_actions))
        generator = Generator(device=twin.start_cells.device).manual_seed(seed)
        self.state = twin.initial_state(self.n_cells, generator)
        self.member = twin.draw_members(self.n_cells, generator)
        self.noise = twin.draw_noise(self.n_cells, generator)
        self.goal = task.goal_state(twin.place(self.state))

    def outcome(
        self, choices: Int[Tensor, " some"]
    ) -> tuple[Float[Tensor, "some latent"], PerChoice, PerChoice, PerChoice]:
        """Mean displacement, mean growth of the uncertainty, price, and size of the dose."""
        n = len(choices)
        state, goal = (x.repeat(n, 1) for x in (self.state, self.goal))
        noise = self.noise.repeat(n, *(1 for _ in self.noise.shape[1:]))
        unused = torch.zeros(
            n * self.n_cells, self.menu.n_perturbations, dtype=torch.bool, device=state.device
        )
        dose, used = self.menu.project(choices.repeat_interleave(self.n_cells), unused)
        after = self.twin.next_state(state, self.menu.expand(dose), noise, self.member.repeat(n))
        place, grown = self.twin.place(state), uncertainty_grown(self.twin, state, after)
        # What a dose costs that moves nothing.
        price = prices_beside(self.twin, self.task, self.menu, state, after, used)
        price = price - self.task.reward(place, dose, place, goal, used)
        spread = torch.zeros_like(price) if grown is None else grown
        moved = (self.twin.place(after) - place).view(n, self.n_cells, -1).mean(1)
        size = dose.abs().sum(1)[:: self.n_cells]
        return moved, spread.view(n, -1).mean(1), price.view(n, -1).mean(1), size


def _evidence(twin: DigitalTwin, menu: PerturbationSpace) -> Float[Tensor, "choices kinds"]:
    """What each choice's effect rests on, where the twin tells."""
    told = [twin.evidence[i] for i in menu.columns.tolist()] if twin.evidence else [""] * menu.n_perturbations
    of_each = torch.tensor(
        [[float(one == kind) for kind in EVIDENCE] for one in told], device=menu.low.device
    )
    blocks = (menu.n_actions - 1) // menu.n_perturbations
    return torch.cat((torch.zeros_like(of_each[:1]), of_each.repeat(blocks, 1)))


def way_to_goal(twin: DigitalTwin, task: Task) -> CellState:
    """From the start cells to their goals."""
    place = twin.place(twin.start_cells)
    return task.goal_state(place) - place
