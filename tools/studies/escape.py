"""Does a natural-gradient step before PPO leave the basin that traps PPO alone?

Reprogramming tasks on Boolean networks whose optimum is known exactly: the D tasks and the ladders L lead through
a detour or past a nearer wrong attractor, the S tasks are easy and no method should differ there. Every method
gets the same frames, batches and networks, and minus the Hamming distance to the target after every action as
its reward. Success is the probability of being in the target attractor after the last action, computed exactly,
on a scale from uniformly random actions (0) to the optimum of dynamic programming (1).

Suites: core (20 minutes), deceptive (all D and L tasks), easy (the S tasks), steps (sweeps of every method's step
size), scaling (ladders of 2 to 10 rungs), ode (continuous doses on differential equations), full (all of them and
the outside implementations, which need the extra 'bench').
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from perturbrl.errors import ConfigurationError
from studies.escape_methods import METHODS, SWEEP_SEEDS, SWEEP_TASKS, SWEEPS
from studies.escape_report import print_tables, summary, write_figures, write_summary
from studies.escape_runs import one_run
from studies.escape_tables import Study
from studies.runner import Run, add_common_arguments, run_all

DECEPTIVE = ("D1", "D2", "D3", "D4", "D5", "D8", "D9", "D10", "D11", "L2", "L4", "L4t")
EASY = ("S1", "S2", "S3", "S4")
REFERENCES = ("no_op", "random", "greedy", "optimum")
LOOKAHEAD = ("lookahead_1", "lookahead_2", "lookahead_3")
FRAMES = 163_840


@dataclass(frozen=True)
class Suite:
    """Tasks times methods, and whether step sizes are swept."""

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    sweep: bool = False


MAIN = (
    "alternate",
    "trust_region_only",
    "warm_start_5",
    "ppo_only",
    "ppo_only_clipped",
    "ppo_only_entropy",
    "ppo_only_restarts",
    "ppo_only_helped",
)
SUITES = {
    "core": Suite(
        ("D1", "D10", "L2", "S1"),
        ("alternate", "trust_region_only", "warm_start_5", "ppo_only", *REFERENCES),
    ),
    "deceptive": Suite(DECEPTIVE, (*MAIN, *REFERENCES, *LOOKAHEAD), sweep=True),
    "easy": Suite(EASY, (*MAIN, *REFERENCES, *LOOKAHEAD)),
    "full": Suite((*DECEPTIVE, *EASY), tuple(METHODS), sweep=True),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, seeds=5, frames=FRAMES)
    parser.add_argument("--suite", choices=sorted(SUITES), default="core", help="which tasks and methods")
    parser.add_argument("--tasks", nargs="+", default=None, help="only these tasks of the suite, or ladders such as L6m4")
    parser.add_argument("--methods", nargs="+", default=None, help="only these methods, and the references")
    parser.add_argument("--figures", type=Path, default=None, help="folder for figures; default: beside the rows")


def run(arguments: argparse.Namespace) -> None:
    suite = SUITES[arguments.suite]
    tasks = tuple(arguments.tasks or suite.tasks)
    methods = _chosen(arguments.methods, suite)
    out = arguments.out or Path(tempfile.mkdtemp()) / "escape.csv"
    runs = list(settings(tasks, methods, arguments.seeds, sweep=suite.sweep))
    table = run_all(partial(one_run, arguments.frames), runs, out, arguments.jobs)
    study = Study(table)
    print_tables(study, Console(width=150))
    write_summary(study, out.with_name(f"{out.stem}_summary.csv"))
    write_figures(study, arguments.figures or out.parent)
    print(f"rows: {out}")
    print(json.dumps(summary(study) | {"suite": arguments.suite, "seeds": arguments.seeds}))


def _chosen(asked: Sequence[str] | None, suite: Suite) -> tuple[str, ...]:
    if asked is None:
        return suite.methods
    unknown = [name for name in asked if name not in METHODS]
    if unknown:
        raise ConfigurationError(f"there is no method {', '.join(unknown)}; choose among {', '.join(METHODS)}")
    return (*asked, *(name for name in REFERENCES if name not in asked))


def settings(tasks: Sequence[str], methods: Sequence[str], seeds: int, *, sweep: bool) -> Iterator[Run]:
    """Every run once, seed by seed, so that an interrupted study has as many seeds of each method."""
    for seed in range(seeds):
        for task in tasks:
            for method in methods:
                if seed == 0 or METHODS[method].kind != "exact":
                    yield {"task": task, "method": method, "step": "", "seed": seed}
    if not sweep:
        return
    for seed in range(min(seeds, SWEEP_SEEDS)):
        for task in (task for task in SWEEP_TASKS if task in tasks):
            for method, steps in SWEEPS.items():
                if method in methods:
                    yield from ({"task": task, "method": method, "step": s, "seed": seed} for s in steps)

