"""Shape annotations are checked at run time in every test, and no test leaves settings of the process behind."""

import logging
import os
from collections.abc import Iterator

os.environ.setdefault("RL_WARNINGS", "0")

import jaxtyping
import pytest
import shape_checker
import torch
from hypothesis import settings

jaxtyping.jaxtyped = shape_checker.jaxtyped
jaxtyping.install_import_hook("perturbrl", "shape_checker.jaxtyped")

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

_QUIETED = ("lightning.pytorch", "lightning.fabric")


@pytest.fixture(autouse=True)
def settings_of_the_process() -> Iterator[None]:
    """Undo what the next test in the process would take over.

    Studies quiet Lightning, and numba's first parallel kernel (in scanpy, in pdex) raises the thread count of torch.
    """
    levels, threads = {name: logging.getLogger(name).level for name in _QUIETED}, torch.get_num_threads()
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
