"""What studies and benchmarks print is theirs alone."""

import logging
import warnings
from collections.abc import Sequence

from lightning import Callback, Trainer


def quiet() -> None:
    """One line per run is the runner's; Lightning's notes are not wanted beside it."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def quiet_trainer(
    max_epochs: int | None, callbacks: Sequence[Callback] = (), accelerator: str = "auto"
) -> Trainer:
    """A trainer that writes and prints nothing of its own."""
    return Trainer(
        max_epochs=max_epochs,
        accelerator=accelerator,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
