"""One step of cells under an action, as environments and planners take it."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool
from torch import Tensor

from perturbrl.envs.base import Task
from perturbrl.schema import CellState, Dose, Members, PerCell, UsedMask, WholeState
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace


@dataclass(frozen=True, eq=False)
class Step:
    """What came of an action.

    Attributes:
        state: of the cells now.
        reward: of each.
        dose: given, in the columns of the space.
        used: perturbations received up to now.
    """

    state: WholeState
    reward: PerCell
    dose: Dose
    used: UsedMask


def advance(
    twin: DigitalTwin,
    task: Task,
    space: PerturbationSpace,
    state: WholeState,
    goal: CellState,
    used: UsedMask,
    action: Tensor,
    noise: Tensor,
    member: Members,
) -> Step:
    """Give cells what an action amounts to, and say what the task pays for it.

    Args:
        twin: how cells move.
        task: what they should do.
        space: what may be dosed.
        state: of the cells.
        goal: where each should be.
        used: perturbations received before.
        action: of each cell.
        noise: of the transition.
        member: of the ensemble that each lives in.
    """
    dose, now_used = space.project(action, used)
    following = twin.next_state(state, space.expand(dose), noise, member)
    reward = task.reward(twin.place(state), dose, twin.place(following), goal, now_used & ~used)
    if task.cost_uncertainty or task.cost_unmeasured:
        reward = reward - prices_beside(twin, task, space, state, following, now_used & ~used)
    return Step(following, reward, dose, now_used)


def prices_beside(
    twin: DigitalTwin,
    task: Task,
    space: PerturbationSpace,
    before: WholeState,
    after: WholeState,
    newly_used: UsedMask,
) -> PerCell:
    """What is taken off the reward for what the twin does not know: of places, and of perturbations.

    Args:
        twin: that tells.
        task: with the prices.
        space: what may be dosed.
        before: states of the cells before a step.
        after: and after it.
        newly_used: perturbations received for the first time.
    """
    price = before.new_zeros(len(before))
    if task.cost_uncertainty:
        grown = uncertainty_grown(twin, before, after)
        assert grown is not None
        price = price + task.uncertainty_price(grown)
    if task.cost_unmeasured:
        unmeasured = _unmeasured(tuple(twin.evidence)).to(before.device)[space.columns]
        price = price + task.cost_unmeasured * (newly_used & unmeasured).sum(1)
    return price


def uncertainty_grown(twin: DigitalTwin, before: WholeState, after: WholeState) -> PerCell | None:
    """By how much the standard deviation of each cell's place grew in a step; ``None`` where the twin does not tell."""
    known = twin.uncertainty(before), twin.uncertainty(after)
    return None if known[0] is None or known[1] is None else known[1] - known[0]


@lru_cache(maxsize=4)
def _unmeasured(evidence: tuple[str, ...]) -> Bool[Tensor, " perturbations"]:
    return torch.tensor([kind != "measured" for kind in evidence])
