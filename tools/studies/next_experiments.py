"""Which pairs to measure next: strong interactions of growth among pairs of Norman's 113 genes, found in batches.

Each search starts from all singles and 50 random pairs, and measures 20 pairs at a time by what it has measured up to
then. Sought are the 100 largest deviations from the curve of pairs over their singles' sum, a parabola fitted to all
pairs as genetic interactions are scored, and beside it a line. Told are the pairs measured until 50 and until 90 of
them are found, and until predictions correlate by 0.6 with the interactions that are not measured yet. Choices and
predictions are those of ``perturbrl.next_experiments``. What a search does not reach counts as all pairs.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from typing import Final, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from perturbrl.data.outcomes import read_outcomes
from perturbrl.errors import DataError
from perturbrl.planning.outcome_search import (
    STRATEGIES,
    Expected,
    OutcomeSearch,
    PairPanel,
    Strategy,
    choose,
)
from perturbrl.responses.prior_files import read_priors
from studies.response_splits import add_data_argument
from studies.runner import Row, Run, add_common_arguments, run_all

SINGLES: Final = "norman2019_gi_single_fitness.csv"
PAIRS: Final = "norman2019_gi_pair_fitness.csv.gz"
GENE_SETS: Final = ("prior/reactome_pathways.gmt", "prior/go_bp_subset.gmt.gz", "prior/hallmark.gmt")
N_STRONGEST: Final = 100
N_FIRST: Final = 50
BATCH: Final = 20
FOUND: Final = (50, 90)
CORRELATION: Final = 0.6
OURS: Final[Strategy] = "strong interactions"
LEARNER: Final[Strategy] = "learn"
RANDOM: Final[Strategy] = "random"
MAIN: Final[Expected] = "parabola"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_argument(parser)
    parser.add_argument(
        "--expected",
        nargs="+",
        choices=get_args(Expected),
        default=[MAIN],
        help="curves that deviations count from",
    )
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    add_common_arguments(parser, seeds=20)


def run(arguments: argparse.Namespace) -> None:
    started, folder = perf_counter(), arguments.data.resolve()
    runs: list[Run] = [
        {"expected": expected, "strategy": strategy, "seed": seed}
        for seed in range(arguments.seeds)
        for expected in arguments.expected
        for strategy in arguments.strategies
    ]
    out = arguments.out or Path(tempfile.mkdtemp()) / "next_experiments.csv"
    table = run_all(partial(one_search, folder), runs, out, arguments.jobs)
    print(table.groupby(["expected", "strategy"]).mean(numeric_only=True).round(1).to_string())
    print(f"rows: {out}")
    print(json.dumps(summary(table) | {"seconds": round(perf_counter() - started)}))


def one_search(folder: Path, setting: Run) -> Row:
    """Pairs measured until each aim is reached."""
    started = perf_counter()
    strategy, seed = _strategy(setting["strategy"]), int(str(setting["seed"]))
    panel, values = _panel(folder, "line" if setting["expected"] == "line" else "parabola")
    reached = _Search(panel, values, strategy, seed).reached()
    return {f"pairs_{aim}": reached.get(aim, len(values)) for aim in _AIMS} | {
        "pairs": len(values),
        "seconds": round(perf_counter() - started, 1),
    }


_AIMS: Final = (*map(str, FOUND), "fit")


def _strategy(name: object) -> Strategy:
    return next(one for one in STRATEGIES if one == name)


@lru_cache
def _panel(folder: Path, expected: Expected) -> tuple[PairPanel, Float[np.ndarray, " pairs"]]:
    """Every measured pair is one that could have been measured."""
    paths = [folder / SINGLES, folder / PAIRS]
    if absent := [path.name for path in paths if not path.is_file()]:
        raise DataError(
            f"'{folder}' has no {' and no '.join(absent)}; give the folder of the data with --data"
        )
    outcomes = read_outcomes(paths)
    names = sorted({name for label in outcomes.pairs for name in label.names})
    place = {name: i for i, name in enumerate(names)}
    pairs = np.array([[place[name] for name in label.names] for label in outcomes.pairs])
    singles = np.array([outcomes.singles[name] for name in names])
    priors = read_priors([folder / path for path in GENE_SETS])
    panel = PairPanel(tuple(names), pairs, singles, priors, expected)
    return panel, np.array(list(outcomes.pairs.values()))


class _Search:
    """One search; what is not measured yet only judges it."""

    def __init__(
        self, panel: PairPanel, values: Float[np.ndarray, " pairs"], strategy: Strategy, seed: int
    ) -> None:
        self._values, self._strategy = values, strategy
        self._truth = panel.deviations(values)
        self._strong = strongest(self._truth)
        self._search = OutcomeSearch(panel, N_STRONGEST, seed)
        self._rng = np.random.default_rng(seed)
        self._measured: dict[int, float] = {}
        self._reached: dict[str, int] = {}

    def reached(self) -> Mapping[str, int]:
        """Pairs measured until each aim; an aim that is not this strategy's own is not waited for."""
        self._measure(self._rng.permutation(len(self._values))[:N_FIRST])
        while len(self._measured) < len(self._values) and self._is_waiting:
            beliefs = self._search.believe(self._measured)
            if float(np.corrcoef(beliefs.mean, self._truth[beliefs.open])[0, 1]) >= CORRELATION:
                self._reached.setdefault("fit", len(self._measured))
                if self._strategy == RANDOM:
                    return self._at_random
            chosen = choose(beliefs, self._strategy, BATCH, np.ones(len(beliefs.open)), self._rng)
            self._measure(beliefs.open[chosen])
        return self._reached

    @property
    def _is_waiting(self) -> bool:
        aims = ("fit",) if self._strategy == LEARNER else tuple(map(str, FOUND))
        return not all(aim in self._reached for aim in aims)

    @property
    def _at_random(self) -> dict[str, int]:
        """The rest in random order, which needs no predictions."""
        rest = self._rng.permutation([row for row in range(len(self._values)) if row not in self._measured])
        for start in range(0, len(rest), BATCH):
            self._measure(rest[start : start + BATCH])
        return self._reached

    def _measure(self, rows: np.ndarray) -> None:
        self._measured |= {int(row): float(self._values[row]) for row in rows}
        n_found = int(self._strong[list(self._measured)].sum())
        for aim in FOUND:
            if n_found >= aim:
                self._reached.setdefault(str(aim), len(self._measured))


def strongest(deviations: Float[np.ndarray, " pairs"]) -> Bool[np.ndarray, " pairs"]:
    """The pairs that are sought."""
    found = np.zeros(len(deviations), dtype=bool)
    found[np.argsort(-np.abs(deviations), kind="stable")[:N_STRONGEST]] = True
    return found


def summary(table: pd.DataFrame) -> Row:
    """Means over seeds, how many times as many pairs random choice measures, and the same of the other curves."""
    found: Row = {}
    for expected, rows in table.groupby("expected", sort=False):
        means = rows.groupby("strategy")[[f"pairs_{aim}" for aim in _AIMS]].mean()
        own = {"pairs": means.round(1).to_dict("index"), **_ratios(means)}
        found |= own if expected == MAIN else {str(expected): own}
    return found | {"seeds": int(table["seed"].nunique())}


def _ratios(means: pd.DataFrame) -> Row:
    """Beside our own search; predictions are the aim of the strategy that learns."""
    compared = {"50": OURS, "90": OURS, "fit": LEARNER}
    return {
        f"ratio_to_random_{aim}": round(float(means[f"pairs_{aim}"][RANDOM] / means[f"pairs_{aim}"][one]), 3)
        for aim, one in compared.items()
        if {RANDOM, one} <= set(means.index)
    }
