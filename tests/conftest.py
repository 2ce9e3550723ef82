"""Shape annotations are checked at run time in every test."""

import os

os.environ.setdefault("RL_WARNINGS", "0")

import jaxtyping
import shape_checker
from hypothesis import settings

jaxtyping.jaxtyped = shape_checker.jaxtyped
jaxtyping.install_import_hook("perturbrl", "shape_checker.jaxtyped")

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
