"""Shape annotations are checked at run time in every test."""

import os

os.environ.setdefault("RL_WARNINGS", "0")

from jaxtyping import install_import_hook

install_import_hook("perturbrl", "shape_checker.check")
