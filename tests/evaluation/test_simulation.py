import torch
from judged_designs import EFFECTS, NOTHING, PAIR, Fixed, held_out, problem_of
from linear_twin import linear_twin

from perturbrl.envs.tasks import ReachCellState
from perturbrl.evaluation.simulation import simulate


def test_a_simulated_design_moves_cells_by_its_doses():
    start, _ = held_out()
    result = simulate(problem_of(horizon=2), Fixed("pair", PAIR), start)
    assert result.path.shape == (50, 3, 4)
    assert torch.allclose(result.final, start + EFFECTS[0] + EFFECTS[1], atol=1e-5)
    assert torch.allclose(result.path[:, 1], result.final)
    assert torch.equal(result.doses[:, 0], torch.tensor(PAIR).expand(50, -1))
    assert not result.doses[:, 1].any()
    assert result.success.float().mean() > 0.9


def test_cells_relax_before_they_are_judged():
    class Decaying(type(linear_twin(EFFECTS))):
        relaxation_steps = 3

        def transition(self, state, dose, noise):
            return 0.5 * super().transition(state, dose, noise)

    problem = problem_of()
    problem.twin.__class__ = Decaying
    result = simulate(problem, Fixed("none", NOTHING), torch.ones(3, 4))
    assert torch.allclose(result.path[:, -1], torch.full((3, 4), 0.5))
    assert torch.allclose(result.final, torch.full((3, 4), 0.5**4))


def test_a_cell_whose_episode_ended_early_is_left_alone():
    class UntilFar(ReachCellState):
        def is_terminal(self, state, goal):
            return state[:, 0] > 100

    class Always(Fixed):
        def action(self, observed, step):
            return self.dose.expand(observed.batch_size[0], -1)

    start = torch.zeros(2, 4)
    start[1, 0] = 200.0
    result = simulate(problem_of(horizon=3, task=UntilFar()), Always("pair", PAIR), start)
    assert (result.doses[0] != 0).any(1).sum() == 3
    assert (result.doses[1] != 0).any(1).sum() == 1
    assert torch.equal(result.path[1, 1], result.path[1, 3])
    assert torch.allclose(result.final[0], 3 * (EFFECTS[0] + EFFECTS[1]), atol=1e-4)


def test_simulating_twice_gives_the_same():
    problem, (start, _) = problem_of(noise_scale=0.3), held_out()
    first, again = (simulate(problem, Fixed("pair", PAIR), start) for _ in range(2))
    assert torch.equal(first.final, again.final)
