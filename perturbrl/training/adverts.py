"""Lightning's advertisements, which tell a user of this package nothing."""

import logging
from typing import Final

_ADVERTISED: Final = ("try installing [litlogger]", "try installing [litmodels]")
_SAYS_THEM: Final = "lightning.pytorch.utilities.rank_zero"


class _NoAdverts(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(advert in message for advert in _ADVERTISED)


_NO_ADVERTS: Final = _NoAdverts()


def silence_adverts() -> None:
    """Let Lightning advertise no packages; whatever else it says is still said."""
    logging.getLogger(_SAYS_THEM).addFilter(_NO_ADVERTS)
