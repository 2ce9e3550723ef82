"""Two processes do what one does: same parameters on both, and the same as one process on all cells."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from smoke_run import CONFIGS, SMOKE, fit_in


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    one = fit_in(tmp_path / "one", "--trainer.max_epochs=5")
    command = [
        sys.executable,
        "-m",
        "perturbrl.cli",
        "fit",
        f"--config={SMOKE}",
        f"--config={CONFIGS / 'ddp.yaml'}",
    ]
    options = [f"--trainer.logger.init_args.save_dir={tmp_path / 'two'}", "--trainer.max_epochs=5"]
    subprocess.run([*command, *options], check=True, timeout=240, capture_output=True)
    two = tmp_path / "two" / "smoke" / "version_0"
    ends = [torch.load(r / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for r in (one, two)]
    for name, value in ends[0].items():
        torch.testing.assert_close(
            ends[1][name], value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_cells_that_processes_cannot_share_are_refused(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "perturbrl.cli",
        "fit",
        f"--config={SMOKE}",
        f"--config={CONFIGS / 'ddp.yaml'}",
    ]
    options = [f"--trainer.logger.init_args.save_dir={tmp_path}", "--model.rollout.n_cells=65"]
    done = subprocess.run([*command, *options], timeout=240, capture_output=True, text=True)
    assert done.returncode == 2
    assert "rollout.n_cells is 65, which 2 processes cannot share" in done.stderr
