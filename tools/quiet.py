"""What studies and benchmarks print is theirs alone."""

import logging
import warnings


def quiet() -> None:
    """One line per run is the runner's; Lightning's notes are not wanted beside it."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
