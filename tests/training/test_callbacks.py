"""Lines, warnings and folders around the iterations."""

import io
import sys
from pathlib import Path
from warnings import catch_warnings, simplefilter

import pytest
from lightning.pytorch.loggers import CSVLogger
from smoke_run import build, quiet_trainer

from perturbrl.reporting.callback import learning_curves, run_folder, unused
from perturbrl.rl.outcomes import TrustRegionOutcome
from perturbrl.training.callbacks import IterationProgress, NoEmptyRun, StageWarnings

METRICS = {
    "return": 0.5,
    "trust_region/kl": 0.01,
    "trust_region/kl_exceeded": 1.0,
    "trust_region/accepted": 0.0,
    "ppo/kl": 0.02,
    "ppo/steps": 0.0,
    "ppo/kl_coef": 1.0,
    "frames_per_second": 12345.0,
}


def said_by(warnings: StageWarnings, metrics: dict[str, float], ppo_epochs: int = 4) -> list[str]:
    with catch_warnings(record=True) as caught:
        simplefilter("always")
        warnings.count(metrics, ppo_epochs)
    return [str(warning.message) for warning in caught]


def test_a_stage_that_does_nothing_is_said_once_and_again_after_it_did_something() -> None:
    warnings, busy = StageWarnings(patience=2), METRICS | {"trust_region/kl_exceeded": 0.0, "ppo/steps": 3.0}
    busy["trust_region/accepted"] = 1.0
    assert said_by(warnings, METRICS) == []
    natural, ppo = said_by(warnings, METRICS)
    assert "in 2 iterations in a row the natural step was rejected" in natural
    assert "in 2 iterations in a row stage 2 took no step" in ppo
    for metrics in (METRICS, busy, METRICS):
        assert said_by(warnings, metrics) == []
    assert len(said_by(warnings, METRICS)) == 2


@pytest.mark.parametrize(
    ("ppo_epochs", "cause"), [(4, "KL limit stops it"), (0, "model.ppo.epochs is 0; give at least 1")]
)
def test_why_stage_2_took_no_step_is_said(ppo_epochs: int, cause: str) -> None:
    found = said_by(StageWarnings(patience=1), METRICS, ppo_epochs)
    assert [cause in said for said in found if "stage 2" in said] == [True]


def test_stage_2_without_epochs_is_not_put_down_to_the_kl_limit() -> None:
    built = build("--model.ppo.epochs=0")
    with catch_warnings(record=True) as caught:
        simplefilter("always")
        quiet_trainer(1, callbacks=[StageWarnings(patience=1)]).fit(built.model, built.data)
    said = [str(warning.message) for warning in caught if "stage 2" in str(warning.message)]
    assert len(said) == 1
    assert "model.ppo.epochs is 0" in said[0]


def test_a_rejection_is_said_with_what_it_means() -> None:
    warnings = StageWarnings(patience=3)
    other = METRICS | {"trust_region/kl_exceeded": 0.0, "trust_region/no_improvement": 1.0}
    (_, said) = [*said_by(warnings, METRICS), *said_by(warnings, other), *said_by(warnings, METRICS)][::-1]
    for outcome, times in ((TrustRegionOutcome.KL_EXCEEDED, 2), (TrustRegionOutcome.NO_IMPROVEMENT, 1)):
        assert f"{outcome.value}, {times} times: {outcome.meaning}" in said


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    assert unused(tmp_path, "report").name == "report"
    (tmp_path / "report").mkdir()
    (tmp_path / "report_2").mkdir()
    assert unused(tmp_path, "report").name == "report_3"
    (tmp_path / "predictions.h5ad").touch()
    assert unused(tmp_path, "predictions", ".h5ad").name == "predictions_2.h5ad"


def test_a_checkpoint_belongs_to_the_run_above_its_folder(tmp_path: Path) -> None:
    assert run_folder(tmp_path / "version_3" / "checkpoints" / "last.ckpt") == tmp_path / "version_3"
    assert run_folder(tmp_path / "elsewhere" / "a.ckpt") == tmp_path / "elsewhere"


def test_a_resumed_run_remembers_the_iterations_before_it(tmp_path: Path) -> None:
    for number, epochs, parent in ((0, (0, 1, 2), None), (1, (2, 3), 0), (2, (3,), 1)):
        run = tmp_path / f"version_{number}"
        run.mkdir()
        rows = [f"{epoch},{epoch + 10 * number}.0" for epoch in epochs]
        (run / "metrics.csv").write_text("\n".join(["epoch,return", *rows]))
        before = None if parent is None else f"{tmp_path}/version_{parent}/checkpoints/last.ckpt"
        (run / "config.yaml").write_text(f"ckpt_path: {before or 'null'}")
    curves = learning_curves(tmp_path / "version_2")
    assert curves["epoch"].tolist() == [0, 1, 2, 3]
    assert curves["return"].tolist() == [0.0, 1.0, 12.0, 23.0]
    assert learning_curves(tmp_path) is None


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_narrow_terminal_shows_all_of_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    built = build()
    trainer = quiet_trainer(2, enable_progress_bar=True, callbacks=[IterationProgress()])
    trainer.fit(built.model, built.data)
    shown = " ".join(terminal.getvalue().split())
    assert "2/2" in shown
    for part in ("return", "KL", "accepted", "β", "frames/s"):
        assert part in shown
    assert "…" not in shown


def test_an_iteration_without_a_natural_step_shows_and_counts_none(capfd: pytest.CaptureFixture[str]) -> None:
    built = build(
        "--model.schedule=warm_start",
        "--model.trust_region_iterations=1",
        # No step is that short and brings something all the same, so the only one is rejected.
        "--model.trust_region.max_kl=1e-30",
        "--model.trust_region.line_search_max_iter=1",
    )
    callbacks = [IterationProgress(log_every_n_iterations=1), StageWarnings(patience=2)]
    with catch_warnings(record=True) as caught:
        simplefilter("always")
        quiet_trainer(3, enable_progress_bar=True, callbacks=callbacks).fit(built.model, built.data)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("iteration ")]
    assert ["natural step" in line for line in lines] == [True, False, False]
    assert not [warning for warning in caught if "in a row" in str(warning.message)]


def test_a_folder_that_holds_anything_is_left_where_a_fit_fails(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    loggers = [CSVLogger(runs, name=name) for name in ("empty", "used", "absent")]
    for logger in loggers[:2]:
        Path(logger.log_dir).mkdir(parents=True)
    kept = Path(loggers[1].log_dir) / "notes.txt"
    kept.write_text("mine")
    trainer = quiet_trainer(1)
    trainer.loggers = loggers
    NoEmptyRun().on_exception(trainer, build().model, RuntimeError())
    assert [path.name for path in runs.iterdir()] == ["used"]
    assert kept.read_text() == "mine"
    kept.unlink()
    NoEmptyRun().on_exception(trainer, build().model, RuntimeError())
    assert list(tmp_path.iterdir()) == []
