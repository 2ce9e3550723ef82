"""A module goes with the cells it was fitted to, and a checkpoint with the configuration it was made with."""

from pathlib import Path

import pytest
from smoke_run import build, quiet_trainer

from perturbrl.errors import CheckpointError, ConfigurationError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one iteration of the smoke configuration."""
    built, path = build(), tmp_path_factory.mktemp("run") / "last.ckpt"
    trainer = quiet_trainer(1)
    trainer.fit(built.model, built.data)
    trainer.save_checkpoint(path)
    return path


def test_a_module_is_not_trained_on_towards_the_target_of_other_cells() -> None:
    first, second = build(), build("--data.target=GENE0001")
    quiet_trainer(1).fit(first.model, first.data)
    with pytest.raises(ConfigurationError, match=r"towards 'GENE0000'.*make a new one"):
        quiet_trainer(1).fit(first.model, second.data)


def test_a_module_is_not_judged_on_cells_that_it_was_not_fitted_to() -> None:
    first, second = build(), build("--data.target=GENE0001")
    quiet_trainer(1).fit(first.model, first.data)
    for judge in ("test", "predict"):
        with pytest.raises(ConfigurationError, match=r"on other cells"):
            getattr(quiet_trainer(1), judge)(first.model, second.data)


def test_training_may_go_on_with_the_same_cells() -> None:
    built = build()
    quiet_trainer(1).fit(built.model, built.data)
    quiet_trainer(1).fit(built.model, built.data)
    quiet_trainer(1).test(built.model, built.data, verbose=False)


@pytest.mark.parametrize("stage", ["fit", "test"])
@pytest.mark.parametrize(
    "option", ["--model.policy.hidden_sizes=[3]", "--model.policy.normalise_observations=true"]
)
def test_a_checkpoint_of_other_networks_is_refused(checkpoint: Path, stage: str, option: str) -> None:
    built = build(option)
    with pytest.raises(CheckpointError, match=r"other networks.*model\.policy"):
        getattr(quiet_trainer(2), stage)(built.model, built.data, ckpt_path=checkpoint)


def test_a_run_is_not_resumed_towards_another_target(checkpoint: Path) -> None:
    built = build("--data.target=GENE0002")
    with pytest.raises(CheckpointError, match=r"target 'GENE0000' where the configuration has 'GENE0002'"):
        quiet_trainer(2).fit(built.model, built.data, ckpt_path=checkpoint)


def test_a_run_is_not_resumed_with_other_perturbations(tmp_path: Path) -> None:
    one, other = (f'--data.allowed_perturbations=["GENE0002","GENE000{i}"]' for i in (3, 4))
    built, trainer, path = build(one), quiet_trainer(1), tmp_path / "last.ckpt"
    trainer.fit(built.model, built.data)
    trainer.save_checkpoint(path)
    built = build(other)
    with pytest.raises(
        CheckpointError, match=r"perturbations 'GENE0003' where the configuration has 'GENE0004'"
    ):
        quiet_trainer(2).fit(built.model, built.data, ckpt_path=path)


def test_a_checkpoint_of_a_twin_is_not_one_of_an_environment(checkpoint: Path) -> None:
    built = build("--model.env=plain_envs.Drift", "--data.synthetic=null")
    with pytest.raises(CheckpointError, match=r"model\.env"):
        quiet_trainer(2).fit(built.model, built.data, ckpt_path=checkpoint)


def test_a_module_that_was_fitted_to_other_cells_becomes_that_of_the_checkpoint(checkpoint: Path) -> None:
    used, other = build("--data.target=GENE0001"), build()
    quiet_trainer(1).fit(used.model, used.data)
    quiet_trainer(1).test(used.model, other.data, ckpt_path=checkpoint, verbose=False)
    assert "GENE0001" in used.model.require_space().names
    assert "GENE0000" not in used.model.require_space().names
    assert used.model.twin.encoder is other.data.encoder


def test_options_that_belong_to_what_was_trained_are_said_not_to_be_heeded(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build(
        *("--data.target=GENE0004+GENE0002", "--data.source=GENE0003", "--data.max_perturbations=2"),
        '--data.allowed_perturbations=["GENE0001"]',
    )
    with caplog.at_level("INFO"):
        quiet_trainer(1).test(built.model, built.data, ckpt_path=checkpoint, verbose=False)
    said = [line for line in caplog.messages if "is not heeded" in line]
    assert [line.split(" is not")[0] for line in said] == [
        "data.allowed_perturbations 'GENE0001'",
        "data.max_perturbations '2'",
        "data.source 'GENE0003'",
        "data.target 'GENE0002+GENE0004'",
    ]
    assert "trained with none, which holds here, too" in said[1]
    assert "trained with 'control', which" in said[2]
    assert "trained with 'GENE0000', which" in said[3]
    assert (built.data.source, built.data.target) == ("control", "GENE0000")


def test_the_same_options_need_no_word(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    for options in ((), ("--data.target=null",)):
        built = build(*options)
        with caplog.at_level("INFO"):
            quiet_trainer(1).test(built.model, built.data, ckpt_path=checkpoint, verbose=False)
    assert "heeded" not in caplog.text


def test_candidates_chosen_from_what_is_allowed_are_no_other_limits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = (
        '--data.allowed_perturbations=["GENE0001", "GENE0002", "GENE0003"]',
        "--model.n_candidates=2",
    )
    fitted = build(*options)
    trainer = quiet_trainer(1)
    trainer.fit(fitted.model, fitted.data)
    trainer.save_checkpoint(tmp_path / "chosen.ckpt")
    again = build(*options)
    with caplog.at_level("INFO"):
        quiet_trainer(1).test(again.model, again.data, ckpt_path=tmp_path / "chosen.ckpt", verbose=False)
    assert len(again.model.require_space().names) == 2
    assert "heeded" not in caplog.text
