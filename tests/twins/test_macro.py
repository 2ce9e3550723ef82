"""The table gives what the exact chains say and what the simulation does."""

import numpy as np
import pytest
import torch
from torch import Generator

from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError
from perturbrl.networks.bnet import parse_bnet
from perturbrl.networks.boolean_network import BooleanNetwork
from perturbrl.networks.macro_mdp import macro_mdp
from perturbrl.twins.boolean import BooleanNetworkTwin
from perturbrl.twins.macro import MacroTwin


def doses(twin: MacroTwin, action: int, n_cells: int) -> torch.Tensor:
    used = torch.zeros(n_cells, twin.perturbations.n_perturbations, dtype=torch.bool)
    return twin.perturbations.project(torch.full((n_cells,), action), used)[0]


@pytest.fixture(scope="module")
def twin() -> MacroTwin:
    return MacroTwin("krumsiek11", ("Gata1", "Pu1", "Cebpa"), "granulocyte")


def test_the_table_is_the_decision_process(twin: MacroTwin) -> None:
    mdp = macro_mdp(twin.network, twin.perturbations.names)
    rows = {name: int(twin.rows(state)[0]) for name, state in twin.attractors().items()}
    for source, row in rows.items():
        by_attractor = torch.zeros(len(mdp.actions), len(mdp.attractors)).index_add(
            1, twin.node, twin.outcome[row]
        )
        np.testing.assert_allclose(by_attractor, mdp.outcome[mdp.node(source)], atol=1e-6)


def test_cells_end_where_the_simulated_ones_do(twin: MacroTwin) -> None:
    simulated = BooleanNetworkTwin("krumsiek11", twin.perturbations.names, "granulocyte")
    n, generator = 4000, Generator().manual_seed(0)
    for source in twin.attractors().values():
        start = source.expand(n, -1)
        for action in range(twin.perturbations.n_actions):
            dose = doses(twin, action, n)
            ends = [t.transition(start, dose, t.draw_noise(n, generator)) for t in (twin, simulated)]
            shares = [torch.bincount(twin.rows(end), minlength=len(twin.states)) / n for end in ends]
            assert (shares[0] - shares[1]).abs().max() <= 5 * (0.5 / n) ** 0.5


def test_a_cycle_goes_round() -> None:
    # b follows a, a flees b, for ever; c holds itself.
    parsed = parse_bnet("a, !b\nb, a\nc, c\n")
    net = BooleanNetwork("round", parsed.rules, parsed.markers)
    with pytest.raises(Exception, match="no steady state"):
        MacroTwin(net)
    held = BooleanNetwork("held", parse_bnet("a, !b & c\nb, a & c\nc, c\n").rules, {})
    twin = MacroTwin(held)
    cycling = twin.states[twin.states[:, 2] == 1]
    assert len(cycling) == 4
    n, generator = 4000, Generator().manual_seed(1)
    start = cycling[:1].expand(n, -1)
    end = twin.transition(start, doses(twin, 0, n), twin.draw_noise(n, generator))
    shares = torch.bincount(twin.rows(end), minlength=len(twin.states)).float() / n
    assert torch.allclose(shares[twin.rows(cycling)], torch.full((4,), 0.25), atol=0.05)


def test_what_the_table_does_not_hold_is_an_error(twin: MacroTwin) -> None:
    noise = twin.draw_noise(1)
    both = torch.tensor([[1.0, 1.0, 0.0]])
    with pytest.raises(ConfigurationError, match="2 genes are dosed at once"):
        twin.transition(twin.states[:1], both, noise)
    nowhere = 1 - twin.states[:1]
    with pytest.raises(ConfigurationError, match="1 of 1 cells are in no attractor"):
        twin.transition(nowhere, 0 * both, noise)


def test_it_serves_as_an_environment(twin: MacroTwin) -> None:
    task = ReachCellState(goal="centroid", success="radius")
    task.aim(twin.start_cells, twin.attractors()["erythrocyte"])
    env = CellStateEnv(twin, task, horizon=3, n_cells=8)
    states = []
    for _ in range(2):
        env.set_seed(0)
        torch.manual_seed(0)  # the random actions of a rollout without a policy
        states.append(env.rollout(3)["cell_state"])
    assert torch.equal(*states)
