"""The pieces of the training benchmark do what its tables say; no timings here."""

import importlib

import numpy as np
import pytest
import torch
from linear_twin import normal

pytest.importorskip("sb3_contrib")
screen_task = importlib.import_module("benchmarks.screen_task")
stopwatch = importlib.import_module("benchmarks.stopwatch")
breakdown = importlib.import_module("benchmarks.breakdown")
our_training = importlib.import_module("benchmarks.our_training")


@pytest.mark.parametrize("horizon", [1, 15])
def test_both_sides_play_the_same_task(horizon: int) -> None:
    screen = screen_task.make_screen(horizon)
    module = our_training.make_module(screen, 0)
    our_training.quiet_trainer("cpu", 1).fit(module, screen_task.ScreenData(screen))
    ours, theirs = module.make_env(1), screen_task.ScreenEnv(screen, 0)
    seen, _ = theirs.reset()
    row = int(np.abs(theirs._cells - seen[:-1]).sum(1).argmin())
    state = ours.reset()
    state["cell_state"] = torch.as_tensor(screen.start[row : row + 1], dtype=torch.float32)
    state["goal_state"] = module.task.goal_state(state["cell_state"])
    for step in range(horizon):
        action = normal(1, 200, seed=step).clamp(-1, 1)
        state["action"] = action
        after = ours.step(state)["next"]
        seen, reward, terminated, truncated, _ = theirs.step(action[0].numpy())
        np.testing.assert_allclose(after["observation"][0], seen, atol=1e-4)
        assert float(after["reward"]) == pytest.approx(reward, abs=1e-5)
        assert (bool(after["terminated"]), bool(after["truncated"])) == (terminated, truncated)
        assert terminated == (step + 1 == horizon)
        state = after.exclude("reward").clone()


@pytest.mark.parametrize("horizon", [1, 15])
def test_the_way_runs_from_doing_nothing_to_the_best_doses(horizon: int) -> None:
    screen = screen_task.make_screen(horizon)
    assert screen.least_distance() == pytest.approx(0.0, abs=1e-6)
    assert screen.share_of_way(lambda seen: np.zeros((len(seen), 200), np.float32)) == 0.0
    total = np.linalg.lstsq(screen.effects.T, screen.shift, rcond=None)[0]
    best = np.repeat(total[None] / horizon, screen_task.EVALUATED, axis=0).astype(np.float32)
    assert np.abs(best).max() < 1
    assert screen.share_of_way(lambda seen: best) == pytest.approx(1.0, abs=1e-4)
    assert screen.share_of_way(lambda seen: best / 2) == pytest.approx(0.5, abs=1e-4)


def test_a_mark_is_found_between_two_judgements_and_an_unreached_one_is_a_lower_bound() -> None:
    race = stopwatch.Race(screen_task.make_screen(1), budget=60.0)
    race.curve += [(2.0, 0.4), (4.0, 0.8), (6.0, 0.96)]
    result = race.result()
    assert result["reached_90%"]
    assert result["seconds_to_90%"] == pytest.approx(4.0 + 2.0 * (0.9 - 0.8) / (0.96 - 0.8))
    assert not result["reached_99%"]
    assert result["seconds_to_99%"] == 60.0
    assert not race.is_over()
    race.curve.append((8.0, 0.995))
    assert race.is_over()


def test_operations_of_matrix_products_are_counted() -> None:
    layer = torch.nn.Linear(7, 5)
    with breakdown.MatmulFlops() as counter:
        layer(torch.ones(3, 7))
        torch.ones(2, 3) @ torch.ones(3, 4)
        torch.ones(2, 4).addmm_(torch.ones(2, 3), torch.ones(3, 4))
    assert counter.total == 2 * (3 * 7 * 5 + 2 * 3 * 4 + 2 * 3 * 4)
