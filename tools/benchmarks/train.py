"""Training on a linear gene screen: the paper authors' own stack beside ours, by the clock.

Each method trains in a process of its own, one after another, with the same threads. Marks are judged by the policy
without exploration; judging does not count. A method that does not reach a mark within its budget counts with the
budget, as a lower bound. stable-baselines3 and sb3-contrib run at their defaults (see peer_training.py); ours with the
options in our_training.py, which are not its defaults either: larger batches and minibatches, fewer epochs, a smaller
network and first standard deviation. One row is stable-baselines3's PPO with those settings, which is not among the
peers that the ratios are over, and one is ours with the peers' network. What is gained with the same minibatches and
epochs is measured apart (same work).
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.breakdown import REST, Parts, Whole, matmul_rate
from benchmarks.our_training import collection, make_module, quiet_trainer, run_ours, same_work
from benchmarks.peer_training import OUR_SETTINGS, PEERS, run_peer
from benchmarks.screen_task import ScreenData, make_screen

# Seconds that each method may train, by horizon; the notebooks' never learn, so theirs is twice that.
BUDGETS = {1: 15.0, 15: 38.0}
NOTEBOOK_FACTOR = 2
OURS = "ours"
CHANGES: dict[str, dict[str, Any]] = {
    OURS: {},
    "ours, two layers of 64": {"hidden_sizes": (64, 64)},
}
NOTEBOOK = [name for name, peer in PEERS.items() if peer.target_kl is not None]


@dataclass(frozen=True)
class Run:
    """One measurement in a process of its own."""

    name: str
    horizon: int
    budget: float
    threads: int
    device: str
    seed: int

    def here(self) -> dict[str, Any]:
        """Measure in this process."""
        torch.set_num_threads(self.threads)
        screen = make_screen(self.horizon, self.seed)
        if self.name in PEERS:
            return run_peer(self.name, screen, self.budget, self.seed, self.device)
        measurements: dict[str, Callable[[], dict[str, Any]]] = {
            "collection": lambda: collection(screen, self.device),
            "same work, minibatches of 64": lambda: same_work(screen, 2048, 64, 2, self.device),
            "same work, minibatches of 512": lambda: same_work(screen, 8192, 512, 2, self.device),
            "breakdown": lambda: breakdown(self),
        }
        if self.name in measurements:
            return measurements[self.name]()
        return run_ours(screen, self.budget, self.seed, self.device, **CHANGES[self.name])


def in_processes_of_their_own(threads: int) -> ProcessPoolExecutor:
    """One process after another, each for one measurement, from a server that has imported all of it before."""
    # Numerical libraries read the number of threads when they are loaded; the server looks for modules by PYTHONPATH.
    path = os.pathsep.join((str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])))
    os.environ |= {"OMP_NUM_THREADS": str(threads), "RL_WARNINGS": "0", "PYTHONPATH": path}
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1)


def breakdown(run: Run, iterations: int = 12) -> dict[str, Any]:
    """Seconds and matrix-product operations of each part of an iteration, and this machine's rate of the latter."""
    screen = make_screen(run.horizon, run.seed)

    def fit(parts: Parts, n: int) -> float:
        module, whole = make_module(screen, run.seed), Whole()
        trainer = quiet_trainer(run.device, n, whole)
        with parts.measured():
            trainer.fit(module, ScreenData(screen))
        return whole.seconds

    fit(Parts(), 2)
    timed, counted = Parts(), Parts(count=True)
    total = fit(timed, iterations)
    fit(counted, 3)
    timed.seconds[REST] = total - sum(timed.seconds.values())
    return {
        "seconds": {part: seconds / iterations for part, seconds in timed.seconds.items()},
        "flops": {part: flops / 3 for part, flops in counted.flops.items()},
        "matmul_rate": matmul_rate(run.device),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmark.py train", description=__doc__)
    parser.add_argument(
        "--patience", type=float, default=1.0, help="times the seconds that a method may train"
    )
    parser.add_argument("--threads", type=int, default=1, help="of every process")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--horizons", type=int, nargs="+", choices=BUDGETS, default=list(BUDGETS))
    arguments = parser.parse_args(argv)
    pool = in_processes_of_their_own(arguments.threads)

    def measure(name: str, horizon: int) -> dict[str, Any]:
        budget = arguments.patience * BUDGETS[horizon] * (NOTEBOOK_FACTOR if name in NOTEBOOK else 1)
        print(f"... {name}, horizon {horizon}", file=sys.stderr, flush=True)
        run = Run(name, horizon, budget, arguments.threads, arguments.device, arguments.seed)
        return pool.submit(run.here).result()

    console = Console(width=150)
    races = {h: {name: measure(name, h) for name in (*CHANGES, *PEERS)} for h in arguments.horizons}
    for horizon, race in races.items():
        console.print(race_table(horizon, race))
    rates = {h: measure("collection", h) for h in arguments.horizons}
    work = {size: measure(f"same work, minibatches of {size}", 1) for size in (64, 512)}
    console.print(rate_table(rates, work))
    for horizon in arguments.horizons:
        console.print(breakdown_table(horizon, measure("breakdown", horizon)))
    print(json.dumps(summary(races, rates, work)))


def summary(races: dict[int, Any], rates: dict[int, Any], work: dict[int, Any]) -> dict[str, Any]:
    """The ratios, each the worst over horizons and sizes; and all that they rest on."""
    corrected = [name for name in PEERS if name not in (*NOTEBOOK, OUR_SETTINGS)]
    return {
        "time_to_90_ratio": min(ratio(race, corrected) for race in races.values()),
        "time_to_90_ratio_notebook": min(ratio(race, NOTEBOOK) for race in races.values()),
        "time_to_90_ratio_our_settings": min(ratio(race, [OUR_SETTINGS]) for race in races.values()),
        "same_work_ratio": min(sizes["ratio"] for sizes in work.values()),
        "collect_ratio": min(rate["ratio"] for rate in rates.values()),
        "reached": {
            h: {name: result["reached_90%"] for name, result in race.items()} for h, race in races.items()
        },
        "races": races,
        "collection": rates,
        "same_work": work,
    }


def ratio(race: dict[str, Any], peers: Sequence[str]) -> float:
    """Seconds to 90 % of the best of some peers over ours."""
    return min(race[name]["seconds_to_90%"] for name in peers) / race[OURS]["seconds_to_90%"]


def race_table(horizon: int, race: dict[str, Any]) -> Table:
    columns = ("method", "s to 90 %", "s to 99 %", "furthest", "frames", "frames/s trained")
    table = Table(
        *columns, title=f"Horizon {horizon}: seconds to a share of the way from doing nothing to the optimum"
    )
    for name, result in race.items():
        marks = [
            f"{'' if result[f'reached_{mark}'] else '> '}{result[f'seconds_to_{mark}']:.1f}"
            for mark in ("90%", "99%")
        ]
        trained = result["frames_trained_per_s"]
        speed = f"{trained:,.0f}" if trained else "none finished"
        table.add_row(name, *marks, f"{result['best_share_of_way']:.3f}", f"{result['frames']:,}", speed)
    return table


def rate_table(rates: dict[int, Any], work: dict[int, Any]) -> Table:
    table = Table("", "peer", "ours", "ratio", title="Rates, in turns")
    for horizon, rate in rates.items():
        cells = (f"{rate['peer']:,.0f}", f"{rate['ours']:,.0f}", f"{rate['ratio']:.2f}")
        table.add_row(f"frames/s collected, horizon {horizon}", *cells)
    for size, seconds in work.items():
        cells = (f"{seconds['peer']:.2f} s", f"{seconds['ours']:.2f} s", f"{seconds['ratio']:.2f}")
        table.add_row(f"2 epochs in minibatches of {size}, actor and critic", *cells)
    return table


def breakdown_table(horizon: int, parts: dict[str, Any]) -> Table:
    rate, total = parts["matmul_rate"], sum(parts["seconds"].values())
    title = f"One iteration of ours, horizon {horizon}; a bare matrix product runs at {rate / 1e9:.0f} GFLOP/s here"
    table = Table(
        "part",
        "ms",
        "share",
        "MFLOP in matrix products",
        "ms at that rate",
        "of the part's time",
        title=title,
    )
    for part, seconds in parts["seconds"].items():
        flops = parts["flops"].get(part, 0)
        least = flops / rate
        table.add_row(
            part,
            f"{1e3 * seconds:.1f}",
            f"{seconds / total:.0%}",
            f"{flops / 1e6:,.0f}",
            f"{1e3 * least:.1f}",
            f"{least / seconds:.0%}",
        )
    return table
