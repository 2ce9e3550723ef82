"""How a step size or a radius falls over a run."""

from math import cos, pi
from typing import Literal

from perturbrl.errors import ConfigurationError

Annealing = Literal["constant", "linear", "cosine"]


def annealed(largest: float, annealing: Annealing, iteration: int, iterations: int | None) -> float:
    """The value in one iteration: from ``largest`` in the first towards 0 after the last, never 0 itself.

    Args:
        largest: the value of the first iteration.
        annealing: ``constant``, a straight line, or half a cosine (Loshchilov 2017, equation 5).
        iteration: number of the iteration, from 0.
        iterations: iterations of the whole run; ``None`` or -1 is a run without an end.

    Raises:
        ConfigurationError: the value should fall over a run that has no end.
    """
    if annealing == "constant":
        return largest
    if iterations is None or iterations < 1:
        raise ConfigurationError(
            f"a {annealing} annealing needs the number of iterations, but trainer.max_epochs is {iterations}; "
            "give it, or anneal nothing"
        )
    done = min(iteration, iterations - 1) / iterations
    return largest * (1 - done if annealing == "linear" else (1 + cos(pi * done)) / 2)
