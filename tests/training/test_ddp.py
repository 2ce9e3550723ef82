"""Two processes do what one does: same parameters on both, and the same as one process on all cells."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from places import CONFIGS, TESTS
from smoke_run import SMOKE, fit_in

from perturbrl.cli import run
from perturbrl.training.iteration import outcome_in

CLI = [sys.executable, "-m", "perturbrl.cli"]
RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "RANK", "WORLD_SIZE")
BOTH = [f"--config={SMOKE}", f"--config={CONFIGS / 'ddp.yaml'}"]


def _recording(folder: Path) -> list[str]:
    return ["--trainer.callbacks+=rank_record.RankRecord", f"--trainer.callbacks.init_args.folder={folder}"]


def _environment() -> dict[str, str]:
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Lightning leaves the port of a run that this process began, which may still be taken, to all that follow.
    own = {name: value for name, value in os.environ.items() if name not in RENDEZVOUS}
    return own | {"PYTHONPATH": os.pathsep.join(paths), "GLOO_SOCKET_IFNAME": "lo"}


def _launch(*command: str) -> None:
    done = subprocess.run(command, timeout=400, capture_output=True, text=True, env=_environment())
    assert done.returncode == 0, done.stderr[-3000:]


def _fit_on_one_and_two(folder: Path, config: str, *options: str) -> list[list[dict[str, Any]]]:
    """The records of one process, which is this one, and of two."""
    base, both = f"--config={config}", f"--config={CONFIGS / 'ddp.yaml'}"
    own = [[f"--trainer.logger.init_args.save_dir={folder / n}", *_recording(folder / n)] for n in ("1", "2")]
    run(["fit", base, *options, *own[0]])
    _launch(*CLI, "fit", base, both, *options, *own[1])
    return [_records(folder / "1", 1), _records(folder / "2", 2)]


def _records(folder: Path, n_ranks: int) -> list[dict[str, Any]]:
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(n_ranks)]


def _assert_equal_bits(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in one["parameters"].items():
        assert torch.equal(value.view(torch.int32), other["parameters"][name].view(torch.int32)), name
    assert one["decisions"] == other["decisions"]


def _assert_close(alone: dict[str, Any], shared: dict[str, Any]) -> None:
    for name, value in alone["parameters"].items():
        torch.testing.assert_close(
            shared["parameters"][name], value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One process on 1,024 cells: its run folder and its record."""
    folder = tmp_path_factory.mktemp("alone")
    run_folder = fit_in(folder, *_recording(folder / "record"), *FIVE)
    return run_folder, _records(folder / "record", 1)[0]


FIVE = (
    "--trainer.max_epochs=5",
    "--model.rollout.n_cells=1024",
    "--model.policy.normalise_observations=true",
)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path, alone: tuple[Path, dict[str, Any]]) -> None:
    record = tmp_path / "record"
    save = f"--trainer.logger.init_args.save_dir={tmp_path}"
    _launch(*CLI, "fit", *BOTH, save, *_recording(record), *FIVE)
    first, second = _records(record, 2)
    _assert_equal_bits(first, second)
    assert len(first["decisions"]) == 5
    cells = torch.cat((first["cells"], second["cells"]))
    assert len(first["cells"]) == len(second["cells"]) == 512
    assert not torch.equal(first["cells"], second["cells"])
    assert torch.equal(cells, alone[1]["cells"])
    _assert_close(alone[1], first)
    outcomes = [[outcome_in(d) for d in r["decisions"]] for r in (alone[1], first)]
    assert outcomes[0] == outcomes[1]


@pytest.mark.slow
def test_an_ensemble_ends_alike_on_two_processes(tmp_path: Path) -> None:
    # 512 cells are no multiple of 3 members, nor are the 256 of each process.
    (alone,), (first, second) = _fit_on_one_and_two(
        tmp_path,
        str(CONFIGS / "hematopoiesis.yaml"),
        *("--model.twin.init_args.n_members=3", "--model.twin.init_args.steps_per_action=5"),
        *("--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--model.policy.hidden_sizes=[16]"),
    )
    _assert_equal_bits(first, second)
    _assert_close(alone, first)
    assert torch.equal(torch.cat((first["cells"], second["cells"])), alone["cells"])


@pytest.mark.slow
def test_predicting_responses_ends_alike_on_two_processes(tmp_path: Path) -> None:
    (alone,), (first, second) = _fit_on_one_and_two(
        tmp_path,
        str(CONFIGS / "response.yaml"),
        *("--data.synthetic.n_perturbations=8", "--data.synthetic.n_genes=60", "--data.encoder.latent_dim=4"),
        *("--model.rollout.n_cells=128", "--model.twin.cells_per_condition=16", "--trainer.max_epochs=2"),
        "--trainer.accelerator=cpu",
    )
    _assert_equal_bits(first, second)
    _assert_close(alone, first)


@pytest.mark.slow
def test_two_nodes_equal_one(tmp_path: Path, alone: tuple[Path, dict[str, Any]]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    record = tmp_path / "record"
    launches = []
    for node in (0, 1):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
        command += [f"--node_rank={node}", "--master_addr=127.0.0.1", f"--master_port={port}"]
        command += ["-m", "perturbrl.cli", "fit", *BOTH, "--trainer.devices=1", "--trainer.num_nodes=2"]
        command += [f"--trainer.logger.init_args.save_dir={tmp_path}", *_recording(record), *FIVE]
        launches.append(subprocess.Popen(command, env=_environment(), stderr=subprocess.PIPE, text=True))
    for launch in launches:
        _, said = launch.communicate(timeout=400)
        assert launch.returncode == 0, said[-3000:]
    first, second = _records(record, 2)
    _assert_equal_bits(first, second)
    _assert_close(alone[1], first)
    assert [path.name for path in (tmp_path / "smoke").iterdir()] == ["version_0"]


@pytest.mark.slow
def test_two_processes_judge_and_apply_as_one_does(alone: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = alone
    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    configuration = f"--config={folder / 'config.yaml'}"
    processes = f"--config={CONFIGS / 'ddp.yaml'}"
    run(["test", configuration, checkpoint])
    for command in ("test", "predict"):
        _launch(*CLI, command, configuration, processes, checkpoint)
    metrics = [json.loads((folder / name / "metrics.json").read_text()) for name in ("report", "report_2")]
    assert metrics[0] == metrics[1]
    assert (folder / "report_3" / "report.html").is_file()
    assert (folder / "predictions_3.h5ad").is_file()
    assert not (folder / "report_4").exists()


def test_cells_that_processes_cannot_share_are_refused(tmp_path: Path) -> None:
    options = [f"--trainer.logger.init_args.save_dir={tmp_path}", "--model.rollout.n_cells=65"]
    done = subprocess.run([*CLI, "fit", *BOTH, *options], timeout=240, capture_output=True, text=True)
    assert done.returncode == 2
    assert "rollout.n_cells is 65, which 2 processes cannot share" in done.stderr
