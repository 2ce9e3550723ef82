"""Checkpoints that are whole or not there at all, and the sentence where one cannot be written or read."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from perturbrl.errors import CheckpointError

PARTIAL = ".partial"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint, flushes to the disk, then renames; reads without running any code.

    Lightning's own writes into the system's temporary folder and moves from there, which is a copy where that
    folder is on another disk, and does not flush: a kill or a power cut then leaves half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Replace the checkpoint at ``path`` by a new one; the old one is there until the new one is whole.

        Raises:
            CheckpointError: it cannot be written; what was at ``path`` is as before.
        """
        target = Path(path)
        partial = target.with_name(target.name + PARTIAL)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(checkpoint, partial)
            partial.replace(target)
            with suppress(OSError):  # some network disks cannot flush a folder, and the checkpoint is whole
                _flush_folder(target.parent)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(_cannot_write(target, error)) from error
        finally:
            with suppress(OSError):  # the error worth telling is the one before
                partial.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """The checkpoint's content.

        Raises:
            CheckpointError: it is not there, cut short, or holds what only running code could restore.
        """
        return read_checkpoint(Path(path), map_location)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    # The rename itself is on the disk only once its folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, error: Exception) -> str:
    # torch's writer hides the system's reason behind an error of its own.
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
    before = (
        f"the previous '{path.name}' there is whole: resume with --ckpt_path '{path}'"
        if path.is_file()
        else "no earlier one is there"
    )
    return (
        f"cannot write the checkpoint '{path}' ({reason}); {before}; make space, or give another folder with "
        "--trainer.logger.init_args.save_dir"
    )


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint, restored as plain values and tensors only.

    Raises:
        CheckpointError: it is not there, cut short, or holds what only running code could restore.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint at '{path}'; give the path of a .ckpt file, or 'last' or 'best'"
        )
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises whatever the damaged bytes lead to
        others = [f"'{other}'" for other in sorted(path.parent.glob("*.ckpt")) if other != path]
        remedy = (
            f"give another one: {', '.join(others)}" if others else "no other one lies beside it: fit again"
        )
        raise CheckpointError(
            f"the checkpoint '{path}' is damaged or not one of perturbrl "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); {remedy}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"the checkpoint '{path}' holds a {type(content).__name__}; fit again")
    return content


def find_checkpoint(kind: str, runs: Path) -> Path:
    """The last or best checkpoint of the newest run below ``runs`` that has one.

    Args:
        kind: ``last`` or ``best``.
        runs: folder with ``version_*`` (a logger's), or with ``checkpoints`` itself (without a logger).

    Raises:
        CheckpointError: there is none; starting afresh instead would look like resuming.
    """
    found = [*runs.glob(f"checkpoints/{kind}.ckpt"), *runs.glob(f"version_*/checkpoints/{kind}.ckpt")]
    if not found:
        raise CheckpointError(
            f"no run in '{runs}' has checkpoints/{kind}.ckpt, so none has ended an iteration yet; fit without "
            "--ckpt_path first, or give a path"
        )
    return max(found, key=_version_of)


def _version_of(checkpoint: Path) -> int:
    number = checkpoint.parent.parent.name.removeprefix("version_")
    return int(number) if number.isdigit() else -1
