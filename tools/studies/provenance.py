"""What made a table: command, commit, versions, seeds and times, as JSON beside the CSV."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "perturbrl",
    "torch",
    "torchrl",
    "lightning",
    "stable-baselines3",
    "sb3-contrib",
    "numpy",
    "scipy",
    "scikit-learn",
    "anndata",
    "scanpy",
)
REPOSITORY = Path(__file__).parents[2]


def provenance_path(out: Path) -> Path:
    """Where the provenance of a table lies: ``rows.csv`` has ``rows.provenance.json``."""
    return out.with_suffix(".provenance.json")


def write_provenance(out: Path, runs: Sequence[Mapping[str, Hashable]], n_missing: int) -> Path:
    """Say how ``out`` is being made; called before the first run and after the last.

    A study that was continued has one session for each start, so rows of different commits show.

    Args:
        out: the table.
        runs: every run that was asked for.
        n_missing: runs without a row yet; 0 ends the session.
    """
    path = provenance_path(out)
    sessions = json.loads(path.read_text())["sessions"] if path.is_file() else []
    if n_missing:
        sessions.append(_session(n_missing))
    else:
        sessions[-1]["finished"] = _now()
    settings = {key: sorted({run[key] for run in runs}, key=str) for key in runs[0]}
    content = {"table": out.name, "n_runs": len(runs), "settings": settings, "sessions": sessions}
    # Replaced in one step: a study killed here must not leave half a file.
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content, indent=2, default=str) + "\n")
    fresh.replace(path)
    return path


def _session(n_missing: int) -> dict[str, object]:
    return {
        "command": command(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "processors": os.cpu_count(),
        "runs": n_missing,
        "started": _now(),
        "finished": None,
    }


def command() -> str:
    """The command line, without the folders of this machine."""
    script = Path(sys.argv[0])
    name = (
        script.resolve().relative_to(REPOSITORY)
        if script.resolve().is_relative_to(REPOSITORY)
        else script.name
    )
    return shlex.join(["python", str(name), *map(_without_folder, sys.argv[1:])])


def _without_folder(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return option + equals + (Path(value).name if Path(value).is_absolute() else value)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
