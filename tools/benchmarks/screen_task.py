"""The linear gene-screen task of the training benchmark, for both sides: as a gymnasium environment and as our data.

Cells start around 0 in 58 latent dimensions; 200 perturbations shift them by random vectors of length 1, in doses from
-1 to 1; the goal is a shift that a few full doses make. The best total dose is a bounded least-squares problem.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import gymnasium
import numpy as np
import torch
from jaxtyping import Float

from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.embeddings.measured import Part
from perturbrl.envs.base import Task
from perturbrl.envs.tasks import ReachCellState
from perturbrl.planning.optimum import optimal_dose
from perturbrl.schema import CONTROL_LABEL, CellState, Expression
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.twins.gene_effect import GeneEffectTwin
from perturbrl.twins.perturbations import PerturbationSpace

LATENT, PERTURBATIONS, START_CELLS, EVALUATED = 58, 200, 512, 256
TARGET: Final = "TARGET"

Array = Float[np.ndarray, "..."]
Policy = Callable[[Float[np.ndarray, "cells obs"]], Float[np.ndarray, "cells actions"]]


@dataclass(frozen=True)
class Screen:
    """The task's numbers.

    Attributes:
        effects: ``[perturbations, latent]`` shift of a full dose.
        start: ``[cells, latent]`` states that episodes start from.
        shift: ``[latent]`` what separates a cell from its goal at the start.
        mean: ``[latent]`` by which an observed state is centred.
        spread: ``[latent]`` by which it is divided.
        horizon: steps of an episode.
    """

    effects: Array
    start: Array
    shift: Array
    mean: Array
    spread: Array
    horizon: int

    @property
    def distance(self) -> float:
        """Distance to the goal at the start, which all cells share."""
        return float(np.linalg.norm(self.shift))

    def observed(self) -> tuple[Array, Array]:
        """Start cells as a policy sees them (but for the time), and what a full dose changes in that view."""
        way = np.broadcast_to(self.shift / self.distance, self.start.shape)
        cells = np.concatenate(((self.start - self.mean) / self.spread, way), axis=1)
        moves = np.concatenate((self.effects / self.spread, -self.effects / self.distance), axis=1)
        return cells.astype(np.float32), moves.astype(np.float32)

    def least_distance(self) -> float:
        """Distance that the best doses leave, in units of the distance at the start."""
        space = PerturbationSpace(_names(len(self.effects)), -1.0, 1.0, min_dose=0.0)
        effects, shift = torch.as_tensor(self.effects), torch.as_tensor(self.shift)
        dose = optimal_dose(effects, shift, space, self.horizon)
        assert dose is not None
        return float(np.linalg.norm(self.shift - dose @ self.effects)) / self.distance

    def share_of_way(self, policy: Policy) -> float:
        """How far a policy without exploration takes cells, from 0 (doing nothing) to 1 (the best doses)."""
        cells, moves = self.observed()
        cells = cells[:EVALUATED].copy()
        for step in range(self.horizon):
            time_left = np.full((len(cells), 1), 1.0 - step / self.horizon, np.float32)
            action = policy(np.concatenate((cells, time_left), axis=1))
            cells += np.clip(action, -1.0, 1.0) @ moves
        left = float(np.linalg.norm(cells[:, self.shift.shape[0] :], axis=1).mean())
        return (1.0 - left) / (1.0 - self.least_distance())


def make_screen(horizon: int, seed: int = 0, n_active: int = 10) -> Screen:
    """A task whose goal full doses of ``n_active`` perturbations reach in one step, in directions of their own."""
    random = np.random.default_rng(seed)
    effects = random.normal(size=(PERTURBATIONS, LATENT))
    effects /= np.linalg.norm(effects, axis=1, keepdims=True)
    start = random.normal(size=(START_CELLS, LATENT))
    signs = random.choice([-1.0, 1.0], n_active)
    shift = signs @ effects[random.choice(PERTURBATIONS, n_active, replace=False)]
    both = np.concatenate((start, start + shift))
    return Screen(effects / horizon, start, shift, start.mean(0), both.std(0), horizon)


class ScreenEnv(gymnasium.Env):
    """One cell as a gymnasium environment, with one matrix product per step.

    A state is kept as it is observed, so that a step adds the dose's move to it and the distance is a norm of its
    second half. stable-baselines3 clips actions to the action space before it hands them over.
    """

    def __init__(self, screen: Screen, seed: int) -> None:
        self._cells, self._moves = screen.observed()
        self._horizon = screen.horizon
        self._latent = screen.shift.shape[0]
        width = 2 * self._latent + 1
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(screen.effects),), np.float32)
        self._random = np.random.default_rng(seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict]:
        if seed is not None:
            self._random = np.random.default_rng(seed)
        observation = np.empty(2 * self._latent + 1, np.float32)
        observation[:-1] = self._cells[self._random.integers(len(self._cells))]
        observation[-1] = 1.0
        self._now, self._steps, self._left = observation, 0, 1.0
        return observation, {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict]:
        self._steps += 1
        observation = self._now.copy()
        observation[:-1] += action @ self._moves
        observation[-1] = 1.0 - self._steps / self._horizon
        way = observation[self._latent : -1]
        left = float(way @ way) ** 0.5
        reward, self._left, self._now = self._left - left, left, observation
        return observation, reward, self._steps >= self._horizon, False, {}


class SameState(Encoder):
    """What is measured is the cell state."""

    latent_dim = LATENT

    def fit(self, expression: Expression) -> Self:
        return self

    def encode(self, expression: Expression) -> CellState:
        return expression

    def decode(self, state: CellState) -> Expression:
        return state


class ScreenData(PerturbationDataModule):
    """The same task as cells of a screen that are measured in latent space without noise."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(target=TARGET, encoder=SameState(), min_dose=0.0)
        self.screen = screen

    @property
    def has_cells(self) -> bool:
        return True

    def setup(self, stage: str) -> None:
        """There is nothing to read."""

    def training_cells(self) -> EncodedCells:
        start = torch.as_tensor(self.screen.start, dtype=torch.float32)
        effects = torch.as_tensor(self.screen.effects, dtype=torch.float32)
        names = _names(len(effects))
        latent = torch.cat((start, start.mean(0) + effects))
        return EncodedCells(latent, latent, (CONTROL_LABEL,) * len(start) + names, names[: latent.shape[1]])

    def reference_cells(self) -> CellState:
        return self.cells(CONTROL_LABEL, "reference")

    def require_untold(self, labels: Sequence[str]) -> None:
        """Nothing is held out: cells are without noise."""

    def cells(self, label: str, part: Part) -> CellState:
        start = torch.as_tensor(self.screen.start, dtype=torch.float32)
        return (
            start
            if label == CONTROL_LABEL
            else start + torch.as_tensor(self.screen.shift, dtype=torch.float32)
        )


def our_twin() -> GeneEffectTwin:
    return GeneEffectTwin(min_dose_value=-1.0)


def our_task() -> Task:
    return ReachCellState()


def _names(n: int) -> tuple[str, ...]:
    return tuple(f"G{i:03d}" for i in range(n))
