"""The processes that share a batch: which one this is, and how they sum up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor, distributed


def _alone(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Processes:
    """The processes that share a batch, each of which has rows of its own.

    All of them take the same decisions because they take them from the same sums.

    Attributes:
        sum: adds a tensor up over all of them and gives each of them the same bits; it may do so in place.
        rank: number of this one, from 0.
        count: how many there are.
    """

    sum: Callable[[Tensor], Tensor] = _alone
    rank: int = 0
    count: int = 1

    @classmethod
    def of_torch(cls) -> "Processes":
        """The default group of ``torch.distributed``, which must have been initialised."""
        return cls(_all_reduce, distributed.get_rank(), distributed.get_world_size())


def _all_reduce(value: Tensor) -> Tensor:
    distributed.all_reduce(value)
    return value


ALONE: Final = Processes()
