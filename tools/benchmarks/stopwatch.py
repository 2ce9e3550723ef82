"""A clock that stands still while a policy is judged."""

from time import perf_counter
from typing import Final

import torch

from benchmarks.screen_task import Policy, Screen

MARKS: Final = (0.9, 0.99)


class Race:
    """Seconds until a policy has come a certain share of the way; the clock starts with the object.

    The moment is interpolated linearly between the two judgements around it, for every method alike, because a policy
    that is updated rarely would otherwise be charged for the rest of its iteration.
    """

    def __init__(self, screen: Screen, budget: float) -> None:
        self._screen, self._budget = screen, budget
        self._judging, self._started = 0.0, perf_counter()
        self.curve = [(0.0, 0.0)]

    def start(self) -> None:
        """Start the clock anew."""
        self._judging, self._started = 0.0, perf_counter()

    def seconds(self) -> float:
        """Seconds without those spent on judging."""
        return perf_counter() - self._started - self._judging

    def is_over(self, share: float = 1.0) -> bool:
        """Whether the last mark was reached, or this share of the budget is used up."""
        return self.curve[-1][1] >= MARKS[-1] or self.seconds() >= share * self._budget

    def judge(self, policy: Policy) -> None:
        """Measure how far the policy comes without exploring."""
        now = self.seconds()
        begin = perf_counter()
        self.curve.append((now, self._screen.share_of_way(policy)))
        self._judging += perf_counter() - begin

    def result(self) -> dict[str, object]:
        """Seconds to each mark; where it was not reached, the budget, as a lower bound."""
        result: dict[str, object] = {"best_share_of_way": max(share for _, share in self.curve)}
        for mark in MARKS:
            reached = self._moment(mark)
            result[f"reached_{mark:.0%}"] = reached is not None
            result[f"seconds_to_{mark:.0%}"] = (
                max(self.seconds(), self._budget) if reached is None else reached
            )
        return result

    def _moment(self, mark: float) -> float | None:
        for (before, low), (after, high) in zip(self.curve, self.curve[1:], strict=False):
            if high >= mark:
                return (
                    before + (after - before) * max(0.0, mark - low) / (high - low) if low < mark else after
                )
        return None


def finish() -> None:
    """Wait for an accelerator, so that what it does is charged to who asked for it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
