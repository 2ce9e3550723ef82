"""Where the repository and what lies beside it are found, said once."""

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
CONFIGS, TOOLS, README = ROOT / "configs", ROOT / "tools", ROOT / "README.md"
DATA = Path(os.environ.get("PERTURBRL_DATA", ROOT.parent / "shared" / "data"))
MODELS = Path(os.environ.get("PERTURBRL_MODELS", ROOT.parent / "shared" / "models"))
