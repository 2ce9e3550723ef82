"""A batch of next experiments beside what other ways to choose would be worth."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from perturbrl.errors import ConfigurationError

Goal = Literal["responses", "target", "interactions"]
GOALS: Final[tuple[Goal, ...]] = ("responses", "target", "interactions")
N_RANDOM: Final = 50
COLUMNS: Final = (*("name", "evidence", "expected", "low", "high", "gain", "needed", "cost", "reason"),)

Batch = Int[np.ndarray, " chosen"]


@dataclass(frozen=True, eq=False, repr=False)
class PlannedExperiments:
    """What to measure next.

    Attributes:
        goal: what for.
        table: one row per experiment, the first choice first: ``name``, ``evidence`` it rests on, ``expected``
            effect with its 90 % interval ``low`` to ``high``, ``gain`` beside those before it, ``needed`` cells or
            repeats (NaN where no number shows so small an effect), ``cost``, and the ``reason`` in words.
        compared: ``strategy``, ``worth`` of its batch by the same beliefs, ``low`` and ``high`` of random batches
            (90 % of them), and ``cost``.
        candidates: all candidates: ``name``, ``expected``, ``sd``, ``chosen``.
        answer: the result in a sentence or two.
        meaning: what columns hold here, by name.
        notes: what should make a reader careful, in sentences.
    """

    goal: Goal
    table: pd.DataFrame
    compared: pd.DataFrame
    candidates: pd.DataFrame
    answer: str
    meaning: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def require_n(n: int, n_candidates: int) -> None:
    """Refuse more experiments than there are, or none.

    Raises:
        ConfigurationError: how many there are.
    """
    if n < 1:
        raise ConfigurationError(f"n is {n}, and a batch has at least one experiment; give n of 1 or more")
    if n > n_candidates:
        raise ConfigurationError(
            f"n is {n} and there are only {n_candidates} candidates; ask for at most {n_candidates}, or name more "
            "with candidates"
        )


def compared_batches(
    ours: tuple[str, Batch],
    scores: Sequence[tuple[str, Float[np.ndarray, " candidates"]]],
    worth: Callable[[Batch], float],
    costs: Float[np.ndarray, " candidates"],
    seed: int,
) -> pd.DataFrame:
    """What the batch of each way to choose is expected to be worth.

    Args:
        ours: name and batch.
        scores: of other ways, which take the largest.
        worth: of a batch.
        costs: of candidates.
        seed: of random batches.
    """
    n = len(ours[1])
    batches = [ours, *((name, np.argsort(-score, kind="stable")[:n]) for name, score in scores)]
    rows = [(name, worth(batch), np.nan, np.nan, float(costs[batch].sum())) for name, batch in batches]
    drawn = list(_random_batches(len(costs), n, seed))
    worths = np.array([worth(batch) for batch in drawn])
    low, high = np.quantile(worths, (0.05, 0.95)).tolist()
    cost = float(np.mean([costs[batch].sum() for batch in drawn]))
    rows.append(("random", float(worths.mean()), low, high, cost))
    return pd.DataFrame(rows, columns=["strategy", "worth", "low", "high", "cost"])


def _random_batches(n_candidates: int, n: int, seed: int) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    for _ in range(N_RANDOM):
        yield rng.permutation(n_candidates)[:n]
