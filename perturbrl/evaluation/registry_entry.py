"""What every metric declares about itself."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, Literal, TypeVar

Judged = TypeVar("Judged")
Direction = Literal["larger", "smaller", "neither"]


@dataclass(frozen=True)
class Metric(Generic[Judged]):
    """One metric: how it is called, what it means, what values it can have, and how it is computed.

    Attributes:
        name: in files and data frames.
        title: head of its column in a table.
        meaning: what a reader has to know, in sentences.
        formula: in symbols; x̂ is predicted, x measured, c control, m the training mean, δ = x − c.
        better: which direction is better; ``neither`` where it must not be ranked by.
        no_op: what a prediction or design that does nothing scores; ``None`` where that depends on the data.
        source: where it was published, with its DOI, or whose implementation it follows.
        function: of a validated input, see the subclass or the table that uses it.
        low: smallest possible value.
        high: largest possible value.
    """

    name: str
    title: str
    meaning: str
    formula: str
    better: Direction
    no_op: float | None
    source: str
    function: Callable[[Judged], Any]
    low: float = 0.0
    high: float = inf

    def within(self, value: float) -> float:
        """``value`` cut to the range, for the ends of an interval."""
        return min(max(value, self.low), self.high)

    def loss(self, value: float) -> float:
        """A number that is smaller for a better value; the same for all where neither direction is better."""
        return {"larger": -value, "smaller": value, "neither": 0.0}[self.better]
