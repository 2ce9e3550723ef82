"""Lightning's flags do what Lightning says; those that cannot name the option that does it here."""

import contextlib
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from lightning import Trainer
from smoke_run import SMOKE, build, fit_in, quiet_trainer

from perturbrl import cli
from perturbrl.cli import run
from perturbrl.errors import ConfigurationError

SAVE = "--trainer.logger.init_args.save_dir"
TENSORBOARD = "lightning.pytorch.loggers.TensorBoardLogger"


def _fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence with which the command ends."""
    monkeypatch.setattr(sys, "argv", ["perturbrl", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


REFUSED = {
    "--trainer.gradient_clip_val=1": r"model\.ppo\.max_grad_norm and model\.critic\.max_grad_norm",
    "--trainer.accumulate_grad_batches=2": r"model\.ppo\.minibatch_size",
    "--trainer.max_steps=3": r"use trainer\.max_epochs",
    "--trainer.precision=64-true": r"use 32-true or bf16-mixed",
    "--trainer.precision=bf16-true": r"use 32-true or bf16-mixed",
    "--trainer.limit_train_batches=0.5": r"limit_train_batches=1\.0",
    "--trainer.barebones=true": r"Logging can impact raw speed",
    "--trainer.callbacks+=StochasticWeightAveraging": r"1 `optimizer`",
    "--kept_checkpoints.every_n_iterations=0": r"every_n_iterations is 0; give at least 1",
}


@pytest.mark.parametrize("flag", REFUSED)
def test_what_cannot_be_honoured_ends_in_one_sentence(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--trainer.callbacks.swa_lrs=0.01"] if "StochasticWeight" in flag else []
    message = _fails(monkeypatch, capsys, "fit", f"--config={SMOKE}", f"{SAVE}={tmp_path}", flag, *more)
    assert message.startswith("perturbrl: error: ")
    assert re.search(REFUSED[flag], message), message


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 1.0},
        {"accumulate_grad_batches": 2},
        {"max_steps": 3},
    ],
)
def test_a_trainer_of_ones_own_is_told_the_same(options: dict[str, Any]) -> None:
    built = build()
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        quiet_trainer(2, **options).fit(built.model, built.data)


ITERATIONS = {
    (): 3,
    ("--trainer.fast_dev_run=true",): 1,
    ("--trainer.max_epochs=2", "--trainer.min_epochs=1"): 2,
    ("--trainer.max_epochs=-1", "--trainer.max_time=00:00:00:01"): None,
    ("--trainer.limit_train_batches=1",): 3,
    ("--trainer.overfit_batches=1",): 3,
    ("--trainer.enable_checkpointing=false",): 3,
    ("--trainer.enable_progress_bar=false",): 3,
    ("--trainer.enable_model_summary=true",): 3,
    ("--trainer.num_sanity_val_steps=2", "--trainer.check_val_every_n_epoch=2"): 3,
    ("--trainer.profiler=simple",): 3,
    ("--trainer.deterministic=true",): 3,
    ("--trainer.detect_anomaly=true",): 3,
    ("--trainer.precision=bf16-mixed",): 3,
    ("--trainer.devices=1", "--trainer.strategy=ddp"): 3,
    ("--trainer.reload_dataloaders_every_n_epochs=1",): 3,
    ("--trainer.use_distributed_sampler=false", "--trainer.inference_mode=false"): 3,
    ("--trainer.callbacks+=RichProgressBar",): 3,
    ("--trainer.callbacks+=LearningRateMonitor",): 3,
    (
        "--trainer.max_epochs=50",
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.init_args.monitor=return",
        "--trainer.callbacks.init_args.mode=max",
        "--trainer.callbacks.init_args.patience=1",
        "--trainer.callbacks.init_args.min_delta=100",
    ): 2,
    ("--trainer.barebones=true", "--trainer.logger=false", "--trainer.log_every_n_steps=null"): 3,
}


@pytest.mark.parametrize("flags", ITERATIONS, ids=lambda flags: " ".join(flags) or "none")
def test_a_flag_gives_the_number_of_iterations_it_should(
    flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainers: list[Trainer] = []
    fitted = Trainer.fit

    def watch(self: Trainer, *arguments: Any, **options: Any) -> None:
        trainers.append(self)
        fitted(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "fit", watch)
    run(["fit", f"--config={SMOKE}", f"{SAVE}={tmp_path}/runs", *flags])
    torch.use_deterministic_algorithms(False)
    (trainer,) = trainers
    expected = ITERATIONS[flags]
    assert trainer.current_epoch == expected or (expected is None and trainer.current_epoch >= 1)
    saved = list(tmp_path.glob("runs/smoke/version_0/checkpoints/last.ckpt"))
    without = {"fast_dev_run", "enable_checkpointing", "barebones"}
    assert bool(saved) == (not any(word in flag for flag in flags for word in without))
    assert ("EarlyStopping" not in str(flags)) or trainer.should_stop


def test_progress_is_one_line_per_iteration_or_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {}
    for shown in ("true", "false"):
        fit_in(tmp_path, "--progress.log_every_n_iterations=1", f"--trainer.enable_progress_bar={shown}")
        said = capsys.readouterr().err
        lines[shown] = [line for line in said.splitlines() if line.startswith("iteration ")]
    assert len(lines["true"]) == 3
    assert lines["false"] == []
    for part in ("return", "natural step accepted at KL", "kl_coef", "frames/s"):
        assert part in lines["true"][-1]


def test_both_loggers_by_configuration(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    loggers = tmp_path / "loggers.yaml"
    places = {"save_dir": str(tmp_path / "runs"), "name": "both"}
    classes = ("lightning.pytorch.loggers.CSVLogger", TENSORBOARD)
    entries = [{"class_path": path, "init_args": places} for path in classes]
    loggers.write_text(yaml.safe_dump({"trainer": {"logger": entries}}))
    fit = ["fit", f"--config={SMOKE}", f"--config={loggers}"]
    run(fit)
    folder = tmp_path / "runs" / "both" / "version_0"
    assert list(folder.glob("events.out.tfevents.*"))
    metrics = pd.read_csv(folder / "metrics.csv")
    assert {"return", "trust_region/kl", "trust_region/accepted", "ppo/kl", "ppo/kl_coef"} <= set(metrics)
    run([*fit, "--trainer.max_epochs=4", "--ckpt_path=last"])
    assert (tmp_path / "runs" / "both" / "version_1" / "checkpoints" / "last.ckpt").is_file()


def test_tensorboard_is_asked_for_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    arguments = ["fit", f"--config={SMOKE}", f"--trainer.logger={TENSORBOARD}", f"{SAVE}={tmp_path}"]
    assert "pip install 'perturbrl[tensorboard]'" in _fails(monkeypatch, capsys, *arguments)


def test_kept_checkpoints_stay_beside_last_and_best(tmp_path: Path) -> None:
    folder = fit_in(tmp_path, "--trainer.max_epochs=5", "--kept_checkpoints.every_n_iterations=2")
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert names == {"last.ckpt", "best.ckpt", "iteration_2.ckpt", "iteration_4.ckpt"}
    kept = torch.load(folder / "checkpoints" / "iteration_4.ckpt", weights_only=True)
    assert kept["epoch"] == 3


def test_without_a_logger_the_last_checkpoint_is_still_found(tmp_path: Path) -> None:
    plain = [f"--config={SMOKE}", "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}"]
    run(["fit", *plain])
    run(["test", *plain, "--ckpt_path=last"])
    assert (tmp_path / "report" / "report.html").is_file()
    with pytest.raises(ConfigurationError, match="already holds a run"):
        run(["fit", *plain])


def test_a_printed_configuration_is_one_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        run(["fit", f"--config={SMOKE}", f"{SAVE}={tmp_path}", "--model.ppo.epochs=2", "--print_config"])
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    assert yaml.safe_load(printed.read_text())["model"]["ppo"]["epochs"] == 2
    run(["fit", f"--config={printed}"])
    saved = yaml.safe_load((tmp_path / "smoke" / "version_0" / "config.yaml").read_text())
    assert saved["model"] == yaml.safe_load(printed.read_text())["model"]
