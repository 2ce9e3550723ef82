"""A checkpoint is whole or not there, and what goes wrong with one is said in a sentence."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from smoke_run import SMOKE, fit_in

from perturbrl import cli
from perturbrl.cli import run
from perturbrl.errors import CheckpointError
from perturbrl.training import checkpoints
from perturbrl.training.checkpoints import AtomicCheckpointIO, find_checkpoint, read_checkpoint

OLD, NEW = {"weight": torch.zeros(3)}, {"weight": torch.ones(3)}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(OLD, path)
    return path


def test_what_is_written_is_read_and_nothing_else_is_left(written: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(NEW, written)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(written)["weight"], NEW["weight"])
    assert [path.name for path in written.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_write_that_fails_half_way_leaves_the_old_one(
    written: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(content, file) -> None:
        file.write(b"half of it")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoints.torch, "save", fail)
    with pytest.raises(CheckpointError, match=rf"{os.strerror(number)}.*previous 'last.ckpt' there is whole"):
        AtomicCheckpointIO().save_checkpoint(NEW, written)
    monkeypatch.undo()
    assert torch.equal(read_checkpoint(written)["weight"], OLD["weight"])
    assert [path.name for path in written.parent.iterdir()] == ["last.ckpt"]


def test_a_kill_between_writing_and_renaming_leaves_the_old_one(written: Path) -> None:
    code = f"""
import os, torch
from pathlib import Path
from perturbrl.training.checkpoints import AtomicCheckpointIO
Path.replace = lambda self, target: os.kill(os.getpid(), 9)
AtomicCheckpointIO().save_checkpoint({{"weight": torch.ones(3)}}, {str(written)!r})
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == -9
    assert torch.equal(read_checkpoint(written)["weight"], OLD["weight"])
    AtomicCheckpointIO().save_checkpoint(NEW, written)
    assert [path.name for path in written.parent.iterdir()] == ["last.ckpt"]


def test_a_damaged_checkpoint_names_the_others(written: Path) -> None:
    best = written.with_name("best.ckpt")
    AtomicCheckpointIO().save_checkpoint(OLD, best)
    written.write_bytes(written.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"last.ckpt' is damaged.*give another one: '.*best.ckpt'"):
        read_checkpoint(written)
    best.unlink()
    with pytest.raises(CheckpointError, match="no other one lies beside it"):
        read_checkpoint(written)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"callable": os.system}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="damaged or not one of perturbrl"):
        read_checkpoint(tmp_path / "evil.ckpt")


def test_the_newest_run_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    for version in (2, 10, 9):
        path = tmp_path / f"version_{version}" / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / "version_11").mkdir()
    assert find_checkpoint("last", tmp_path).parents[1].name == "version_10"
    with pytest.raises(CheckpointError, match=r"has checkpoints/best\.ckpt"):
        find_checkpoint("best", tmp_path)


@contextmanager
def _largest_file(n_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["perturbrl", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_no_room_for_a_checkpoint_ends_in_a_sentence_and_the_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files stands in for a full disk: the write fails after some bytes."""
    first = fit_in(tmp_path, "--trainer.max_epochs=2")
    size = (first / "checkpoints" / "last.ckpt").stat().st_size
    assert (first / "config.yaml").stat().st_size < size // 2
    fit = ["fit", f"--config={SMOKE}", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    fit += ["--trainer.max_epochs=4", "--ckpt_path=last"]
    with _largest_file(size // 2):
        code = _main(monkeypatch, *fit)
    said = capsys.readouterr().err
    assert code == 2
    assert "Traceback" not in said
    message = said.strip().splitlines()[-1]
    assert message.startswith("perturbrl: error: cannot write the checkpoint")
    assert os.strerror(errno.EFBIG) in message
    run(fit)
    done = read_checkpoint(tmp_path / "smoke" / "version_2" / "checkpoints" / "last.ckpt")
    assert done["epoch"] == 3


def test_a_folder_that_cannot_be_written_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path, *args, **kwargs) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "makedirs", refuse)
    code = _main(
        monkeypatch, "fit", f"--config={SMOKE}", f"--trainer.logger.init_args.save_dir={tmp_path / 'runs'}"
    )
    said = capsys.readouterr().err
    assert code == 2
    assert "Traceback" not in said
    assert "Read-only file system" in said.strip().splitlines()[-1]


def test_a_truncated_last_checkpoint_is_said_and_best_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = fit_in(tmp_path, "--trainer.max_epochs=2") / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    fit = ["fit", f"--config={SMOKE}", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    assert _main(monkeypatch, *fit, "--trainer.max_epochs=3", "--ckpt_path=last") == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "last.ckpt' is damaged" in message
    assert "best.ckpt" in message
    second = fit_in(tmp_path, "--trainer.max_epochs=3", "--ckpt_path=best")
    assert read_checkpoint(second / "checkpoints" / "last.ckpt")["epoch"] == 2
