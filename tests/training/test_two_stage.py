"""The module runs its schedules, learns, repeats itself, and comes back from a checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from places import CONFIGS
from smoke_run import build, quiet_trainer, weights

from perturbrl.cli import parse_config
from perturbrl.errors import CheckpointError, ConfigurationError
from perturbrl.evaluation.simulation import PolicyDesign, simulate
from perturbrl.planning.planners import BoundedLeastSquares
from perturbrl.reporting.callback import design_problem
from perturbrl.training.algorithm import TwoStage


@pytest.mark.parametrize(
    ("schedule", "natural", "ppo"),
    [
        ("alternate", [True, True, True], [True, True, True]),
        ("warm_start", [True, True, False], [False, False, True]),
        ("trust_region_only", [True, True, True], [False, False, False]),
        ("ppo_only", [False, False, False], [True, True, True]),
    ],
)
def test_a_schedule_runs_the_stages_it_names(schedule: str, natural: list[bool], ppo: list[bool]) -> None:
    built = build(f"--model.schedule={schedule}", "--model.trust_region_iterations=2")
    ran: list[tuple[bool, bool]] = []
    finish = built.model._log_iteration

    def watch(done) -> None:
        ran.append((done.natural_step is not None, done.ppo is not None))
        finish(done)

    built.model._log_iteration = watch
    quiet_trainer(3).fit(built.model, built.data)
    assert ran == list(zip(natural, ppo, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["alternate", "warm_start", "trust_region_only"])
def test_the_policy_reaches_the_closed_form_optimum(schedule: str) -> None:
    built = build(
        f"--model.schedule={schedule}",
        "--model.trust_region_iterations=20",
        "--model.rollout.n_cells=1024",
        "--model.rollout.horizon=1",
        "--data.target=GENE0000+GENE0003",
        "--data.min_dose=0",
        "--data.synthetic.n_combinations=15",
    )
    quiet_trainer(100).fit(built.model, built.data)
    problem = design_problem(built.model)
    optimum = BoundedLeastSquares()
    assert optimum.plan(problem)
    start = built.model.twin.start_cells
    goal = problem.goal_cells.mean(0)
    reached, best, nothing = (
        float((cells.mean(0) - goal).norm())
        for cells in (
            simulate(problem, PolicyDesign(built.model.actor), start).final,
            simulate(problem, optimum, start).final,
            start,
        )
    )
    assert (reached - best) / (nothing - best) < 0.15


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    results = []
    for seed in (1, 1, 2):
        built = build(f"--seed_everything={seed}")
        quiet_trainer(2).fit(built.model, built.data)
        results.append(weights(built))
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_every_iteration_is_logged_with_finite_values() -> None:
    built = build()
    trainer = quiet_trainer(2)
    trainer.fit(built.model, built.data)
    logged = trainer.callback_metrics
    for name in ("return", "trust_region/kl", "trust_region/accepted", "ppo/kl", "ppo/steps", "critic/error"):
        assert torch.isfinite(logged[name]), name
    assert logged["ppo/steps"] > 0


def test_a_checkpoint_is_plain_complete_and_restores_the_policy(tmp_path: Path) -> None:
    built = build()
    saver = ModelCheckpoint(tmp_path, filename="last")
    quiet_trainer(2, enable_checkpointing=True, callbacks=[saver]).fit(built.model, built.data)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in content["state_dict"].values())
    assert not any(value.isnan().any() for value in content["state_dict"].values())
    again = build()
    quiet_trainer(1).test(again.model, again.data, ckpt_path=tmp_path / "last.ckpt", verbose=False)
    assert np.array_equal(weights(again), weights(built))
    assert again.data.genes == built.data.genes
    assert again.model.require_space().names == built.model.require_space().names


def test_moments_of_observations_stand_still_within_an_iteration_and_at_test(tmp_path: Path) -> None:
    options = (
        "--model.policy.normalise_observations=true",
        "--model.schedule=ppo_only",
        "--model.ppo.epochs=0",
    )
    built = build(*options)
    saver = ModelCheckpoint(tmp_path, filename="last")
    quiet_trainer(3, enable_checkpointing=True, callbacks=[saver]).fit(built.model, built.data)
    assert built.model.last_iteration.ppo is not None
    assert built.model.last_iteration.ppo.kl == pytest.approx(0, abs=1e-6), (
        "the policy that collected changed"
    )
    moments = built.model.normaliser.state_dict()
    assert moments["count"] == 3 * 64 * 2
    again = build(*options)
    quiet_trainer(1).test(again.model, again.data, ckpt_path=tmp_path / "last.ckpt", verbose=False)
    for name, value in again.model.normaliser.state_dict().items():
        assert torch.equal(value, moments[name]), name


def test_a_policy_that_was_never_trained_is_not_judged() -> None:
    built = build()
    with pytest.raises(ConfigurationError, match="no trained policy"):
        quiet_trainer(1).test(built.model, built.data, verbose=False)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.4"}, tmp_path / "other.ckpt")
    built = build()
    with pytest.raises(CheckpointError, match="perturbrl did not write it"):
        quiet_trainer(1).test(built.model, built.data, ckpt_path=tmp_path / "other.ckpt", verbose=False)


def test_a_policy_is_not_shown_what_it_was_not_trained_to_see(tmp_path: Path) -> None:
    limited = ("--data.max_perturbations=1", "--model.rollout.horizon=2")
    built, saver = build(*limited), ModelCheckpoint(tmp_path, filename="last")
    quiet_trainer(1, enable_checkpointing=True, callbacks=[saver]).fit(built.model, built.data)
    once = build(*limited, "--model.rollout.horizon=1")
    with pytest.raises(
        CheckpointError, match=r"sees 17 numbers of a cell and would be shown 11; give the horizon"
    ):
        quiet_trainer(1).test(once.model, once.data, ckpt_path=tmp_path / "last.ckpt", verbose=False)
    once = build(*limited, "--model.rollout.horizon=1")
    with pytest.raises(CheckpointError, match="sees 17 numbers of a cell and would be shown 11"):
        quiet_trainer(2).fit(once.model, once.data, ckpt_path=tmp_path / "last.ckpt")


def test_missing_target_and_wrong_attractor_are_said() -> None:
    built = build("--data.target=null")
    with pytest.raises(ConfigurationError, match=r"data\.target is null"):
        quiet_trainer(1).fit(built.model, built.data)
    built = build("--data.synthetic=null")
    with pytest.raises(ConfigurationError, match=r"data\.path is null"):
        quiet_trainer(1).fit(built.model, built.data)


def test_limits_on_perturbations_reach_the_policy() -> None:
    built = build('--data.allowed_perturbations=["GENE0002","GENE0003"]', "--data.max_perturbations=1")
    quiet_trainer(2).fit(built.model, built.data)
    problem = design_problem(built.model)
    assert problem.space.names == ("GENE0002", "GENE0003")
    doses = simulate(problem, PolicyDesign(built.model.actor), built.model.twin.start_cells).doses
    assert int((doses != 0).any(1).sum(-1).max()) <= 1


@pytest.mark.slow
def test_choices_on_a_boolean_network_pass_through_both_stages() -> None:
    """D1 of the task suite: the way from monocyte to granulocyte leads uphill first."""
    genes = '["Gata2","Gata1","Fog1","EKLF","Fli1","SCL","Cebpa"]'
    twin = "perturbrl.twins.boolean.BooleanNetworkTwin"
    built = parse_config(
        [
            f"--config={CONFIGS / 'hematopoiesis.yaml'}",
            f'--model.twin={{"class_path": "{twin}", "init_args": {{"controllable": {genes}}}}}',
            "--data.target=granulocyte",
            "--data.max_perturbations=null",
            "--model.rollout.horizon=8",
            "--model.rollout.n_cells=256",
            "--model.task.init_args.cost_l1=0",
        ]
    )
    returns: list[float] = []
    finish = built.model._log_iteration

    def watch(done) -> None:
        returns.append(done.mean_return)
        finish(done)

    built.model._log_iteration = watch
    quiet_trainer(40).fit(built.model, built.data)
    assert np.median(returns[-10:]) > 0.9
    assert built.model.last_iteration.natural_step is not None
    assert built.model.last_iteration.ppo is not None


def test_restarts_need_attractors_and_one_goal() -> None:
    built = build("--model.rollout.restart_fraction=0.5")
    with pytest.raises(ConfigurationError, match=r"rollout.restart_fraction is 0.5, which needs a twin"):
        quiet_trainer(1).fit(built.model, built.data)


def test_the_return_is_that_of_cells_that_start_in_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [f"--config={CONFIGS / 'hematopoiesis.yaml'}", "--model.rollout.n_cells=64"]
    arguments += ["--model.rollout.restart_fraction=0.75", "--model.rollout.entropy_bonus=0.1"]
    built = parse_config(arguments)
    seen: list[tuple[float, float]] = []
    measure = TwoStage.mean_return

    def watch(self: TwoStage, rollout) -> float:
        returns = rollout["next", "reward"].sum(1)[:, 0]
        restarts = self.rollouts.env.restarts
        assert int(restarts.sum()) == 48
        value = measure(self, rollout)
        seen.append((value, float(returns[~restarts].mean())))
        return value

    monkeypatch.setattr(TwoStage, "mean_return", watch)
    quiet_trainer(2).fit(built.model, built.data)
    assert len(seen) == 2
    assert all(value == pytest.approx(expected, abs=1e-5) for value, expected in seen)
