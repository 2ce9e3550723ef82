"""Random minibatches that are the same sets of rows however many processes share them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from perturbrl.rl.processes import ALONE, Processes


@dataclass(frozen=True)
class Minibatches:
    """Random minibatches over the rows of all processes.

    Minibatch j of all processes together is the same set of rows however the rows are spread over processes,
    and every process counts the same number of minibatches; its own share of one may be empty.

    Args:
        n_rows: rows of this process, and of every other one.
        size: rows of one minibatch, over all processes.
        processes: whose rows follow each other in the order of their ranks.
    """

    n_rows: int
    size: int
    processes: Processes = ALONE

    @property
    def total_rows(self) -> int:
        """Rows of all processes."""
        return self.n_rows * self.processes.count

    @property
    def per_epoch(self) -> int:
        """Minibatches of one epoch."""
        return -(-self.total_rows // self.size)

    def epoch(self, generator: Generator) -> Iterator[tuple[Int[Tensor, " rows"], int]]:
        """This process's rows of each minibatch of one epoch, and the minibatch's size over all processes."""
        order = torch.randperm(self.total_rows, generator=generator, device=generator.device)
        for chunk in order.split(self.size):
            mine = chunk
            if self.processes.count > 1:
                mine = chunk - self.n_rows * self.processes.rank
                mine = mine[(mine >= 0) & (mine < self.n_rows)]
            yield mine, len(chunk)
