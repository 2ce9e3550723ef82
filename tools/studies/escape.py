"""Does a natural-gradient step before PPO leave the basin that traps PPO alone?

Reprogramming tasks on Boolean networks whose optimum is known exactly: the D tasks and the ladders L lead through
a detour or past a nearer wrong attractor, the S tasks are easy and no method should differ there. Trained methods
get the same frames and batches, and minus the Hamming distance to the target after every action as their reward;
exact references know the decision process, and searching ones may simulate as much as they like. Success is the
probability of being in the target attractor after the last action, on a scale from uniformly random actions (0) to
the optimum of dynamic programming (1); that of policies trained here is computed, not sampled.

Suites: core, deceptive (all D and L tasks; what fails without help also gets 16 times the frames), easy (the S tasks),
steps (sweeps of every method's step size), scaling (ladders of 2 to 10 rungs, paid for the end only), ode (continuous
doses on stochastic differential equations), full (all of them, every ablation and the outside implementations, which
need the extra 'bench').
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from perturbrl.errors import ConfigurationError
from studies.escape_figures import write_figures
from studies.escape_methods import (
    BASE,
    FIRST_SEED,
    HORIZON,
    METHODS,
    N_CELLS,
    SWEEP_SEEDS,
    SWEEP_TASKS,
    SWEEPS,
    TUNED_PPO,
    VERSIONS,
    Method,
    Version,
)
from studies.escape_report import print_tables, summary, write_summary, write_sweep
from studies.escape_runs import one_run
from studies.escape_tables import Study
from studies.runner import Run, add_common_arguments, run_all

DECEPTIVE = ("D1", "D2", "D3", "D4", "D5", "D8", "D9", "D10", "D11", "L2", "L4", "L4t")
EASY = ("S1", "S2", "S3", "S4")
LADDERS = ("L2m4", "L3m4", "L4m4", "L5m4", "L6m4", "L8m4", "L10m4")
UNSOLVED = ("L4", "L4t")
CONTINUOUS = ("D1", "D10", "L4", "L4t", "S1")
REFERENCES = ("no_op", "random", "greedy", "optimum")
LOOKAHEAD = ("lookahead_1", "lookahead_2", "lookahead_3")
MAIN = (
    "alternate",
    "alternate_unhelped",
    "trust_region_only",
    "warm_start_5",
    "ppo_only",
    "ppo_only_clipped",
    "ppo_only_helped",
)
ABLATIONS = (
    "alternate_entropy",
    "alternate_restarts",
    "ppo_only_clipped_helped",
    "ppo_only_entropy",
    "ppo_only_helped_annealed",
    "ppo_only_restarts",
)
BY_LENGTH = ("alternate", "trust_region_only", "ppo_only_helped", "alternate_entropy", "ppo_only")
FEW_SEEDS = 5


@dataclass(frozen=True)
class Suite:
    """Tasks times methods.

    Attributes:
        tasks: names for ``reprogramming_task``.
        methods: names in ``METHODS``.
        version: name in ``VERSIONS``.
        sweep: whether step sizes are swept, too.
        most_seeds: seeds at most, whatever ``--seeds`` says.
    """

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    version: str = "boolean"
    sweep: bool = False
    most_seeds: int = 10_000


_DECEPTIVE = (
    Suite(DECEPTIVE, (*MAIN, *REFERENCES, *LOOKAHEAD)),
    Suite(SWEEP_TASKS, (), sweep=True, most_seeds=SWEEP_SEEDS),
    Suite(SWEEP_TASKS, ABLATIONS, most_seeds=FEW_SEEDS),
    Suite(UNSOLVED, (*TUNED_PPO, "alternate_unhelped", *REFERENCES), "patient", most_seeds=FEW_SEEDS),
)
_EASY = Suite(EASY, (*MAIN, *REFERENCES, *LOOKAHEAD))
_SCALING = Suite(LADDERS, (*BY_LENGTH, *REFERENCES), "scaling", most_seeds=3)
_ODE = Suite(
    CONTINUOUS,
    ("alternate", "trust_region_only", "ppo_only", "ppo_only_helped", "no_op", "random", "replay", "cem"),
    "ode",
    most_seeds=FEW_SEEDS,
)
_REST = tuple(name for name in METHODS if name not in (*MAIN, *REFERENCES, *LOOKAHEAD, *ABLATIONS, "replay"))
SUITES: dict[str, tuple[Suite, ...]] = {
    "core": (
        Suite(
            ("D1", "D10", "L2", "S1"),
            (
                "alternate",
                "trust_region_only",
                "warm_start_5",
                "ppo_only",
                "ppo_only_helped",
                "alternate_unhelped",
                *REFERENCES,
            ),
        ),
    ),
    "deceptive": _DECEPTIVE,
    "easy": (_EASY,),
    "steps": (Suite(SWEEP_TASKS, REFERENCES, sweep=True, most_seeds=SWEEP_SEEDS),),
    "scaling": (_SCALING,),
    "ode": (_ODE,),
    "full": (
        *_DECEPTIVE,
        _EASY,
        _SCALING,
        _ODE,
        Suite(DECEPTIVE, _REST, most_seeds=FEW_SEEDS),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, seeds=5)
    parser.add_argument("--suite", choices=sorted(SUITES), default="core", help="which tasks and methods")
    parser.add_argument("--tasks", nargs="+", default=None, help="only these tasks of the suite")
    parser.add_argument("--methods", nargs="+", default=None, help="only these methods of the suite")
    parser.add_argument(
        "--figures", type=Path, default=None, help="folder for figures; default: beside the rows"
    )


def run(arguments: argparse.Namespace) -> None:
    runs = list(dict.fromkeys(tuple(run.items()) for run in settings(arguments)))
    if not runs:
        raise ConfigurationError(
            f"--tasks {arguments.tasks} and --methods {arguments.methods} leave nothing of suite "
            f"'{arguments.suite}'; name some of its tasks and methods"
        )
    out = arguments.out or Path(tempfile.mkdtemp()) / "escape.csv"
    table = run_all(one_run, [dict(run) for run in runs], out, arguments.jobs)
    studies = {str(version): Study(rows) for version, rows in table.groupby("version", sort=False)}
    for version, study in studies.items():
        print_tables(study, version, Console(width=170))
        write_summary(study, out.with_name(f"{out.stem}_{version}.csv"))
        if not study.sweep.empty:
            write_sweep(study, out.with_name(f"{out.stem}_{version}_steps.csv"))
    write_figures(studies, arguments.figures or out.parent)
    print(f"rows: {out}")
    print(json.dumps(summary(studies) | {"suite": arguments.suite, "seeds": arguments.seeds}))


def settings(arguments: argparse.Namespace) -> Iterator[Run]:
    """Every run, seed by seed, so that an interrupted study has as many seeds of each method."""
    for seed in range(arguments.seeds):
        for suite in SUITES[arguments.suite]:
            if seed < suite.most_seeds:
                yield from _of_seed(suite, seed, arguments)


def _of_seed(suite: Suite, seed: int, arguments: argparse.Namespace) -> Iterator[Run]:
    tasks, methods = arguments.tasks, arguments.methods
    budget = arguments.frames or VERSIONS[suite.version].frames
    for task in suite.tasks if tasks is None else [t for t in suite.tasks if t in tasks]:

        def setting(method: str, step: float | str, seed: int, task: str = task) -> Run:
            return {
                "version": suite.version,
                "task": task,
                "method": method,
                "step": step,
                "budget": budget,
                "settings": fingerprint(METHODS[method], VERSIONS[suite.version]),
                "seed": seed,
            }

        for method in suite.methods:
            exact = METHODS[method].kind == "exact"
            if seed == 0 if exact else (methods is None or method in methods):
                yield setting(method, "", FIRST_SEED + seed)
        if suite.sweep:
            for method in (m for m in SWEEPS if methods is None or m in methods):
                yield from (setting(method, step, seed) for step in SWEEPS[method])


def fingerprint(method: Method, version: Version) -> str:
    """Of everything that a method's rows depend on, so that rows of other settings are never taken for its own."""
    return hashlib.sha256(repr((method, version, BASE, N_CELLS, HORIZON)).encode()).hexdigest()[:8]
