"""Shape annotations are checked at run time in every test."""

import os

os.environ.setdefault("RL_WARNINGS", "0")

from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("perturbrl", "shape_checker.check")

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
