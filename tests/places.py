"""Where the repository and what lies beside it are found, said once."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
CONFIGS, TOOLS, README = ROOT / "configs", ROOT / "tools", ROOT / "README.md"
DATA = Path(os.environ.get("PERTURBRL_DATA", ROOT.parent / "shared" / "data"))
MODELS = Path(os.environ.get("PERTURBRL_MODELS", ROOT.parent / "shared" / "models"))


def measured_file(name: str) -> Path:
    """A file of the real data, for tests marked ``realdata``; skips the test where it is absent."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {DATA}; set PERTURBRL_DATA to the folder that holds it")
    return path
