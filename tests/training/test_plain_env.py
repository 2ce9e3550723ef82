"""A TorchRL environment without twin and task trains through the same command."""

from pathlib import Path

import pytest
from plain_envs import Drift, choices, nothing, unbatched
from smoke_run import build, fit_in, quiet_trainer
from torchrl.envs.utils import check_env_specs

from perturbrl.cli import run
from perturbrl.errors import ConfigurationError
from perturbrl.training.plain_env import action_box, build_env, observation_width

OWN = [
    "--model.rollout.horizon=3",
    "--model.rollout.n_cells=256",
    "--model.policy.normalise_observations=true",
    "--data.synthetic=null",
]


@pytest.mark.parametrize("env", ["plain_envs.Drift", "plain_envs.choices"])
def test_it_learns_and_is_judged_without_exploration(
    tmp_path: Path, env: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Doing nothing costs 0.75 per episode; the best action costs nothing."""
    folder = fit_in(tmp_path, f"--model.env={env}", *OWN, "--trainer.max_epochs=25")
    checkpoint = folder / "checkpoints" / "last.ckpt"
    capsys.readouterr()
    run(["test", f"--config={folder / 'config.yaml'}", f"--ckpt_path={checkpoint}"])
    assert "return" in capsys.readouterr().out
    trained, trainer = build(f"--model.env={env}", *OWN), quiet_trainer(1)
    trainer.test(trained.model, trained.data, ckpt_path=checkpoint, verbose=False)
    assert -0.1 < float(trainer.callback_metrics["return"]) <= 0.0
    assert not (folder / "report").exists()


def test_a_policy_that_was_never_trained_is_not_judged() -> None:
    built = build("--model.env=plain_envs.Drift", *OWN)
    with pytest.raises(ConfigurationError, match="there is no trained policy"):
        quiet_trainer(1).test(built.model, built.data, verbose=False)


def test_the_examples_are_what_torchrl_takes_for_environments() -> None:
    for env in (Drift(4), choices(4)):
        check_env_specs(env)


def test_a_second_fit_resumes_from_the_first(tmp_path: Path) -> None:
    fit_in(tmp_path, "--model.env=plain_envs.Drift", *OWN, "--trainer.max_epochs=2")
    second = fit_in(
        tmp_path, "--model.env=plain_envs.Drift", *OWN, "--trainer.max_epochs=3", "--ckpt_path=last"
    )
    assert (second / "checkpoints" / "last.ckpt").is_file()
    with pytest.raises(ConfigurationError, match="predict applies a design to cells"):
        run(
            [
                "predict",
                f"--config={second / 'config.yaml'}",
                f"--ckpt_path={second / 'checkpoints' / 'last.ckpt'}",
            ]
        )


def test_its_actions_and_observations_are_read_from_its_specs() -> None:
    box = action_box(build_env(Drift, 5))
    assert (box.discrete, box.low.tolist(), box.high.tolist()) == (False, [-1.0], [1.0])
    assert action_box(build_env(choices, 5)).n_actions == 3
    assert observation_width(Drift(2)) == 1


def test_what_cannot_be_used_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"batch size \(1,\) when asked for 5"):
        build_env(unbatched, 5)
    with pytest.raises(ConfigurationError, match="returned a NoneType"):
        build_env(nothing, 5)
