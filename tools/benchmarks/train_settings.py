"""Settings of our side of the training benchmark that one of the peer's rows shares."""

from typing import Final

FRAMES: Final = 16_384
MINIBATCH: Final = 4096
LOG_STD: Final = -1.5
NETWORK: Final = (4,)
