import logging

import pytest
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero

from perturbrl.training.adverts import silence_adverts


@pytest.fixture
def said() -> list[str]:
    """What Lightning says from now on; filters are gone afterwards."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, listener = logging.getLogger(rank_zero.__name__), Listener()
    filters, logger.filters = logger.filters, []
    logger.addHandler(listener)
    yield lines
    logger.removeHandler(listener)
    logger.filters = filters


def construct() -> None:
    Trainer(logger=False, enable_model_summary=False)
    rank_zero.rank_zero_info("💡 Tip: try installing [litmodels](https://pypi.org/project/litmodels/)")
    rank_zero.rank_zero_info("`Trainer.fit` stopped")


def test_lightning_advertises_nothing_and_says_all_else(said: list[str]) -> None:
    construct()
    assert any("litlogger" in line for line in said)  # or there is nothing to silence any more
    everything = list(said)
    said.clear()
    silence_adverts()
    silence_adverts()
    construct()
    assert said == [line for line in everything if "Tip:" not in line]
    assert "`Trainer.fit` stopped" in said
