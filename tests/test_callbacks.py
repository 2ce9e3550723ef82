"""Lines, warnings and folders around the iterations."""

from pathlib import Path

import pytest

from perturbrl.training.callbacks import StageWarnings, run_folder, unused

METRICS = {
    "return": 0.5,
    "trust_region/kl": 0.01,
    "trust_region/outcome": 1.0,
    "ppo/kl": 0.02,
    "ppo/steps": 0.0,
    "ppo/kl_coef": 1.0,
    "frames_per_second": 12345.0,
}


def test_a_stage_that_does_nothing_is_said_once() -> None:
    warnings = StageWarnings(patience=2)
    warnings.count(METRICS)
    with pytest.warns(UserWarning, match="natural step was rejected"):
        warnings.count(METRICS)
    busy = METRICS | {"trust_region/outcome": 0.0, "ppo/steps": 3.0}
    warnings.count(busy)
    assert warnings._idle == {"natural": 0, "ppo": 0}


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
