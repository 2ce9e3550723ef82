"""What a policy does on a network's macro actions, computed instead of sampled."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from tensordict import TensorDict
from torch import Tensor
from torch.distributions import Categorical
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.envs.base import Task
from perturbrl.envs.observation import ObservationFunction
from perturbrl.errors import ConfigurationError
from perturbrl.schema import CellState
from perturbrl.twins.macro import MacroTwin

ActionTable = Float[Tensor, "time states actions"]


@dataclass(frozen=True)
class ExactResult:
    """Where cells end up under a policy, and what it takes.

    Attributes:
        success: probability of being in a goal state after the last action.
        interventions: expected number of clamps before a cell first arrives, among the cells that do; nan if
            none does.
    """

    success: float
    interventions: float


class PolicyChain:
    """The Markov chain of a categorical policy on a ``MacroTwin``: exact where an episode is a sample of it.

    Args:
        twin: starts from its ``start_cells``, all equally likely.
        task: aimed; says what the policy sees.
        goal: ``[1, latent]`` the goal of all cells, a state of an attractor.
        horizon: actions per episode.

    Attributes:
        observation: ``[time, states, observation]`` what a policy sees at every time in every state.

    Raises:
        ConfigurationError: what follows depends on what a cell has received before, which no state of the chain
            says.
    """

    def __init__(self, twin: MacroTwin, task: Task, goal: CellState, horizon: int) -> None:
        self.outcome = twin.outcome.double()
        self.horizon = horizon
        self.goal = int(twin.rows(goal)[0])
        n_states = len(twin.states)
        start = twin.rows(twin.start_cells)
        self.start = torch.bincount(start, minlength=n_states).double() / len(start)
        observe = ObservationFunction(task, twin.perturbations, horizon)
        if observe.remembers:
            raise ConfigurationError(
                "the chain's states do not say what a cell has received before, on which a limit or a price per "
                "perturbation depends; judge by simulation, or take off the limit and the price"
            )
        unused = torch.zeros(
            n_states, twin.perturbations.n_perturbations, dtype=torch.bool, device=goal.device
        )
        count = torch.zeros(n_states, 1, dtype=torch.int64, device=goal.device)
        everywhere = goal.expand(n_states, -1)
        self.observation = torch.stack(
            [observe(twin.states, everywhere, unused, count + time) for time in range(horizon)]
        )

    @torch.no_grad()
    def probabilities(self, actor: ProbabilisticActor) -> ActionTable:
        """The policy's action probabilities at every time and state."""
        batch = TensorDict({schema.OBSERVATION: self.observation}, batch_size=self.observation.shape[:2])
        dist = actor.get_dist(batch)
        assert isinstance(dist, Categorical)
        return dist.probs.double()

    def judge(self, actor: ProbabilisticActor, *, explore: bool = True) -> ExactResult:
        """The result of sampling from the policy, or (``explore=False``) of its most probable actions."""
        table = self.probabilities(actor)
        return self.judge_table(table if explore else _hardened(table))

    def judge_actions(self, actions: Int[Tensor, "time states"]) -> ExactResult:
        """The result of a deterministic policy."""
        return self.judge_table(torch.nn.functional.one_hot(actions, self.outcome.shape[1]).double())

    def judge_table(self, table: ActionTable) -> ExactResult:
        """The result of a policy given as probabilities."""
        everyone, first = self.start, _FirstArrival(self.start, self.goal)
        for probability in table:
            moves = torch.einsum("sa,sat->st", probability, self.outcome)
            everyone = everyone @ moves
            first.step(moves, torch.einsum("sa,sat->st", probability[:, 1:], self.outcome[:, 1:]))
        return ExactResult(float(everyone[self.goal]), first.clamps_given_arrival())


class _FirstArrival:
    """Cells that have not arrived yet, the clamps they have received, and the clamps of those that have."""

    def __init__(self, start: Float[Tensor, " states"], goal: int) -> None:
        self.goal = goal
        self.mass = start.clone()
        self.mass[goal] = 0.0
        self.clamps = torch.zeros_like(start)
        self.arrived, self.spent = float(start[goal]), 0.0

    def step(self, moves: Float[Tensor, "states states"], clamping: Float[Tensor, "states states"]) -> None:
        """One action: where it leads, and the part of that which a clamp brings about."""
        self.clamps = self.clamps @ moves + self.mass @ clamping
        self.mass = self.mass @ moves
        self.arrived += float(self.mass[self.goal])
        self.spent += float(self.clamps[self.goal])
        self.mass[self.goal] = self.clamps[self.goal] = 0.0

    def clamps_given_arrival(self) -> float:
        return self.spent / self.arrived if self.arrived > 0 else float("nan")


def _hardened(table: ActionTable) -> ActionTable:
    return torch.nn.functional.one_hot(table.argmax(-1), table.shape[-1]).double()
