"""A run that was stopped, killed or had no room left resumes, and ends bit for bit like one that never was."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from smoke_run import SMOKE, fit_in

from perturbrl.cli import run
from perturbrl.errors import CheckpointError

ITERATIONS = 60
# Twenty, as a slow check by hand: PERTURBRL_KILLS=20 python -m pytest tests/training/test_resume.py -k killed
KILLS = int(os.environ.get("PERTURBRL_KILLS", "3"))


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _last(run_folder: Path) -> dict:
    return torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.slow
def test_resuming_changes_nothing(tmp_path: Path) -> None:
    options = ["--model.policy.normalise_observations=true"]
    whole = fit_in(tmp_path / "whole", "--trainer.max_epochs=5", *options)
    first = fit_in(tmp_path / "halves", "--trainer.max_epochs=2", *options)
    second = fit_in(tmp_path / "halves", "--trainer.max_epochs=5", "--ckpt_path=last", *options)
    assert second.name == "version_1"
    ends = [_last(folder) for folder in (whole, second)]
    assert ends[0]["epoch"] == ends[1]["epoch"] == 4
    assert _same(ends[0]["state_dict"], ends[1]["state_dict"])
    assert ends[0]["perturbrl"] == ends[1]["perturbrl"]
    parent = yaml.safe_load((second / "config.yaml").read_text())["ckpt_path"]
    assert Path(parent) == (first / "checkpoints" / "last.ckpt").resolve()


@pytest.mark.slow
def test_a_resumed_run_takes_its_own_options(tmp_path: Path) -> None:
    fit_in(tmp_path, "--trainer.max_epochs=1", "--model.trust_region.cg_damping=2")
    resumed = fit_in(
        tmp_path, "--trainer.max_epochs=2", "--ckpt_path=last", "--model.trust_region.cg_damping=7"
    )
    (group,) = _last(resumed)["optimizer_states"][0]["param_groups"]
    assert group["cg_damping"] == 7


def test_resuming_what_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"no run in 'runs.smoke' has checkpoints"):
        run(["fit", f"--config={SMOKE}", "--ckpt_path=last"])
    assert not (tmp_path / "runs").exists()


def _start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "perturbrl.cli", "fit", f"--config={SMOKE}"]
    command += [f"--trainer.logger.init_args.save_dir={folder}", f"--trainer.max_epochs={ITERATIONS}"]
    command += ["--progress.log_every_n_iterations=1", *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _killed_after(process: subprocess.Popen[str], iteration: int, seconds: float) -> int:
    """Kill the process group some time after an iteration; how many iterations it said it had done."""
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said += re.findall(r"^iteration (\d+)/", line)
        if said and int(said[-1]) >= iteration:
            break
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    said += re.findall(r"^iteration (\d+)/", process.stderr.read(), re.M)
    process.wait()
    return int(said[-1])


def _saved(runs: Path) -> int:
    """Iterations done in the newest checkpoint."""
    found = list(runs.glob("smoke/version_*/checkpoints/last.ckpt"))
    newest = max(found, key=lambda path: int(path.parents[1].name.removeprefix("version_")), default=None)
    return 0 if newest is None else torch.load(newest, weights_only=True)["epoch"] + 1


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    # In a process of its own, too: other tests of this one may have changed how torch rounds (threads, flags).
    undisturbed = _start(tmp_path / "whole")
    _, said_whole = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, said_whole
    drawn, options = random.Random(os.environ.get("PERTURBRL_KILL_SEED", "0")), list[str]()
    moments = sorted(drawn.sample(range(1, ITERATIONS - 5), KILLS))
    for iteration in moments:
        said = _killed_after(_start(killed, *options), iteration, drawn.uniform(0.0, 0.05))
        assert said - _saved(killed) in (0, 1), "at most one iteration is redone"
        options = ["--ckpt_path=last"] if _saved(killed) else []
    done = _saved(killed)
    assert moments[-1] - 1 <= done < ITERATIONS
    last = _start(killed, *options)
    _, said_last = last.communicate(timeout=300)
    assert last.returncode == 0, said_last
    assert re.search(rf"^iteration {done + 1}/", said_last, re.M)
    a, b = _last(tmp_path / "whole" / "smoke" / "version_0"), _last(killed / "smoke" / f"version_{KILLS}")
    assert a["epoch"] == b["epoch"] == ITERATIONS - 1
    assert _same(a["state_dict"], b["state_dict"])
    assert a["perturbrl"] == b["perturbrl"]
