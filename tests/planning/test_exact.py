"""The exact result of a policy is what simulating it says, and what dynamic programming promises."""

import numpy as np
import pytest
import torch
from torch import Generator

from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.simulation import PolicyDesign, simulate
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.planning.exact import PolicyChain
from perturbrl.rl.policies import categorical_actor
from perturbrl.rl.rollouts import draw_action
from perturbrl.twins.task_suite import ReprogrammingTask, reprogramming_task

HORIZON = 6


def chain_of(task: ReprogrammingTask) -> PolicyChain:
    twin = task.macro_twin()
    aimed = ReachCellState(goal="centroid", success="radius", success_radius=0.01)
    goal = twin.attractors()[task.target]
    aimed.aim(twin.start_cells, goal)
    return PolicyChain(twin, aimed, goal, HORIZON)


@pytest.mark.parametrize("name", ["D1", "L2", "S4"])
def test_the_optimal_policy_has_the_optimal_value(name: str) -> None:
    task = reprogramming_task(name)
    chain, mdp = chain_of(task), task.mdp
    policy = torch.from_numpy(mdp.optimal_policy(task.target, HORIZON)[::-1].copy())
    result = chain.judge_actions(policy[:, task.macro_twin().node])
    best = mdp.optimal_values(task.target, HORIZON)[-1, mdp.node(task.source)]
    assert result.success == pytest.approx(best, abs=1e-6)


def test_interventions_are_counted_up_to_the_first_arrival() -> None:
    task = reprogramming_task("L2")
    twin, mdp = task.macro_twin(), task.mdp
    chain = chain_of(task)
    policy = torch.from_numpy(mdp.optimal_policy(task.target, HORIZON)[::-1].copy())[:, twin.node]
    assert chain.judge_actions(policy).interventions == pytest.approx(2.0)
    # Waiting first costs time and no clamp; clamping on after arrival is not counted.
    waiting = torch.cat((torch.zeros_like(policy[:2]), policy[2:]))
    assert chain.judge_actions(waiting).interventions == pytest.approx(2.0)
    assert np.isnan(chain.judge_actions(torch.zeros_like(policy)).interventions)


def test_a_sampled_policy_is_judged_as_its_episodes_turn_out() -> None:
    task = reprogramming_task("D5")
    twin = task.macro_twin()
    chain = chain_of(task)
    aimed = ReachCellState(goal="centroid", success="radius", success_radius=0.01)
    aimed.aim(twin.start_cells, twin.attractors()[task.target])
    torch.manual_seed(0)
    actor = categorical_actor(aimed.observation_dim + 1, twin.perturbations.n_actions, (16,))
    for parameter in actor.parameters():
        parameter.data.mul_(8.0)
    n, generator = 20_000, Generator().manual_seed(1)
    env = CellStateEnv(twin, aimed, horizon=HORIZON, n_cells=n)
    env.set_seed(2)

    def explore(tensordict):
        return tensordict.set("action", draw_action(actor.get_dist(tensordict), generator, 0, n))

    with torch.no_grad():
        end = env.rollout(HORIZON, explore)["next", "cell_state"][:, -1]
    share = float(aimed.is_success(end, twin.attractors()[task.target].expand_as(end)).float().mean())
    exact = chain.judge(actor).success
    assert share == pytest.approx(exact, abs=4 * (exact * (1 - exact) / n) ** 0.5 + 1e-6)
    problem = DesignProblem(twin, aimed, twin.perturbations, HORIZON, twin.attractors()[task.target])
    likeliest = simulate(problem, PolicyDesign(actor), twin.start_cells.expand(2000, -1)).success
    assert float(likeliest.float().mean()) == pytest.approx(
        chain.judge(actor, explore=False).success, abs=0.05
    )


def test_a_price_per_perturbation_is_refused() -> None:
    task = reprogramming_task("S4")
    twin = task.macro_twin()
    aimed = ReachCellState(goal="centroid", success="radius", cost_per_perturbation=0.1)
    aimed.aim(twin.start_cells, twin.attractors()[task.target])
    with pytest.raises(ConfigurationError, match="states do not say what a cell has received before"):
        PolicyChain(twin, aimed, twin.attractors()[task.target], HORIZON)
