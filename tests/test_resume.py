"""A run that was stopped and resumed ends bit for bit like one that never was."""

from pathlib import Path

import pytest
import torch
from smoke_run import SMOKE, fit_in

from perturbrl.cli import run


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_resuming_changes_nothing(tmp_path: Path) -> None:
    whole = fit_in(tmp_path / "whole", "--trainer.max_epochs=5")
    fit_in(tmp_path / "halves", "--trainer.max_epochs=2")
    second = fit_in(tmp_path / "halves", "--trainer.max_epochs=5", "--ckpt_path=last")
    assert second.name == "version_1"
    ends = [torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (whole, second)]
    assert ends[0]["epoch"] == ends[1]["epoch"] == 4
    assert _same(ends[0]["state_dict"], ends[1]["state_dict"])
    assert ends[0]["perturbrl"] == ends[1]["perturbrl"]


def test_resuming_what_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from perturbrl.errors import CheckpointError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"no run in 'runs.smoke' has checkpoints"):
        run(["fit", f"--config={SMOKE}", "--ckpt_path=last"])
    assert not (tmp_path / "runs").exists()
