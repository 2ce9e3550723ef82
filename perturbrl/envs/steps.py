"""One step of cells under an action, as environments and planners take it."""

from dataclasses import dataclass

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
    if task.cost_uncertainty:
        before, after = twin.uncertainty(state), twin.uncertainty(following)
        assert before is not None
        assert after is not None
        reward = reward - task.uncertainty_price(after - before)
    return Step(following, reward, dose, now_used)
