"""Settings of our side of the training benchmark; one of the peer's rows shares some of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

MINIBATCH: Final = 4096
NETWORK: Final = (4,)


@dataclass(frozen=True)
class Settings:
    """What was chosen for a horizon, by some 100 trials on screens of seeds 1 to 4; the race runs on another one.

    Attributes:
        frames: of an iteration.
        log_std: logarithm of the first standard deviation.
        max_kl: first radius, in nats; it falls to 0.
        iterations: over which it falls.
        critic_epochs: of the critic.
    """

    frames: int
    log_std: float
    max_kl: float
    iterations: int
    critic_epochs: int


SETTINGS: Final[Mapping[int, Settings]] = MappingProxyType(
    {1: Settings(8192, -2.0, 4.0, 16, 4), 15: Settings(16_384, -1.5, 5.0, 13, 8)}
)
