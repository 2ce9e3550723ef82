"""Kriging at 100, 1,000 and 10,000 perturbations of 2,000 genes: seconds, peak memory, and the error of its short cuts.

A screen is simulated: modules of perturbations share an effect, gene sets tell the modules with mistakes, every
perturbation has an effect of its own, and 5 to 15 cells of each are measured. As many perturbations that were not
measured are asked for, and every tenth that was. Each size runs in a process of its own, whose peak holds the cells and
all libraries too. Where other work shares the cores, seconds of the processor tell what seconds hide. The error is that
of the equations through inducing conditions against the exact ones, for mean and standard deviation, as a share of the
exact ones' length. Emission of predicted cells comes next, and last ``perturbrl fit`` with ``configs/response.yaml``,
which reads a file, fits kriging again without perturbations that it then foretells, and trains the policy.
``--data FOLDER`` adds Papalexi 2021 with all genes.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

import numpy as np
import torch
from anndata import read_h5ad
from scipy.sparse import csr_matrix

from benchmarks.emission import EMITTED, emission, peak_gib
from benchmarks.response_command import COMMAND_SIZES, fit_command, write_screen
from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import Condition, TrainingCells

SIZES: Final = (100, 1_000, 10_000)
EXACT_SIZE: Final = 3_000
N_GENES: Final = 2_000
PAPALEXI: Final = "papalexi2021_thp1_eccite.h5ad"
_IN_A_MODULE: Final = 20
_MISTAKES: Final = 0.2


def simulated(n_perturbations: int, n_genes: int, seed: int = 0) -> tuple[TrainingCells, PriorKnowledge]:
    """Cells of a screen, and sets that tell which perturbations are alike, unmeasured ones among them."""
    rng = np.random.default_rng(seed)
    n_modules = max(2, 2 * n_perturbations // _IN_A_MODULE)
    module = rng.integers(n_modules, size=2 * n_perturbations)
    profiles = (0.3 * rng.normal(size=(n_modules, 30)) @ rng.normal(size=(30, n_genes)) / 30**0.5).astype(
        np.float32
    )
    own = rng.normal(size=(n_perturbations, 30)).astype(np.float32)
    mixing = (0.1 * rng.normal(size=(30, n_genes))).astype(np.float32) / np.float32(30**0.5)
    counts = np.concatenate([[500], rng.integers(5, 16, size=n_perturbations)])
    expression = torch.empty(int(counts.sum()), n_genes)
    generator = torch.Generator().manual_seed(seed)
    ends = np.cumsum(counts)
    expression.normal_(0.0, 0.4, generator=generator)
    for i in range(n_perturbations):
        expression[ends[i] : ends[i + 1]] += torch.from_numpy(profiles[module[i]] + own[i] @ mixing)
    names = [f"p{i}" for i in range(2 * n_perturbations)]
    labels = np.repeat(np.array(["control", *names[:n_perturbations]], dtype=object), counts).tolist()
    told = np.where(rng.random(len(module)) < _MISTAKES, rng.integers(n_modules, size=len(module)), module)
    features = csr_matrix((np.ones(len(told)), (np.arange(len(told)), told)), shape=(len(told), n_modules))
    cells = TrainingCells(expression, labels, [f"g{i}" for i in range(n_genes)])
    return cells, PriorKnowledge("modules", tuple(names), features)


def questions(n_perturbations: int) -> list[Condition]:
    """Every perturbation that was not measured, and every tenth that was."""
    asked = [*range(n_perturbations, 2 * n_perturbations), *range(0, n_perturbations, 10)]
    return [(Label.parse(f"p{i}"), "") for i in asked]


def measure(n_perturbations: int, n_genes: int) -> dict[str, float]:
    """Seconds and the peak of this process."""
    cells, prior = simulated(n_perturbations, n_genes)
    asked = questions(n_perturbations)
    begin, worked = perf_counter(), process_time()
    model = Kriging([prior]).fit(cells)
    fitted, worked_to_fit = perf_counter(), process_time()
    model.predict(asked)
    return {
        "seconds_fit": fitted - begin,
        "seconds_predict": perf_counter() - fitted,
        "processor_seconds_fit": worked_to_fit - worked,
        "processor_seconds_predict": process_time() - worked_to_fit,
        "peak_gib": peak_gib(),
        "n_cells": len(cells.labels),
    }


def error_against_exact(n_perturbations: int, n_genes: int) -> dict[str, float]:
    """Of the equations through inducing conditions."""
    cells, prior = simulated(n_perturbations, n_genes)
    asked = questions(n_perturbations)
    exact, short = (
        Kriging([prior], exact_rows=most).fit(cells).predict(asked) for most in (n_perturbations, 0)
    )
    unmeasured = np.arange(len(asked)) < n_perturbations
    return {
        "n_perturbations": n_perturbations,
        "mean_unmeasured": _off(short.mean[unmeasured], exact.mean[unmeasured]),
        "mean_measured": _off(short.mean[~unmeasured], exact.mean[~unmeasured]),
        "sd": _off(short.sd, exact.sd),
    }


def papalexi(path: Path) -> dict[str, float]:
    """Seconds of a call on a whole published screen, reading included, and the peak of this process."""
    from perturbrl.api import respond  # with the libraries that a user of the command line loads, too

    begin = perf_counter()
    respond(read_h5ad(path), ["STAT1", "JAK2", "STAT1+JAK2", "IRF1+STAT2"])
    return {"seconds": perf_counter() - begin, "peak_gib": peak_gib()}


def command(n_perturbations: int, n_genes: int) -> dict[str, float]:
    """``perturbrl fit`` on a simulated screen of ten cells a perturbation."""
    with tempfile.TemporaryDirectory() as folder:
        written = _alone(write_screen, Path(folder), n_perturbations, n_genes)
        return _alone(fit_command, Path(folder)) | written


def _off(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _alone(function: Callable[..., dict[str, float]], *arguments: object) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main(argv: Sequence[str] | None = None) -> None:
    """Run every size and print one line of JSON at the end."""
    parser = argparse.ArgumentParser(
        prog="responses", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--data", type=Path, help="folder of published data, for Papalexi 2021")
    options = parser.parse_args(argv)
    sizes, exact_size, n_genes = ((20, 60), 60, 50) if options.quick else (SIZES, EXACT_SIZE, N_GENES)
    result: dict[str, object] = {"threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))}
    for size in sizes:
        result[str(size)] = found = _alone(measure, size, n_genes)
        print(
            f"{size:6d} perturbations: fit {found['seconds_fit']:6.1f} s ({found['processor_seconds_fit']:.1f} of the "
            f"processor), predict {found['seconds_predict']:6.1f} s ({found['processor_seconds_predict']:.1f}), peak "
            f"{found['peak_gib']:.2f} GiB",
            flush=True,
        )
    result["error_against_exact"] = error = _alone(error_against_exact, exact_size, n_genes)
    print(f"error against the exact equations: {error}", flush=True)
    result["emission"] = made = [_alone(emission, n // 100 if options.quick else n, n_genes) for n in EMITTED]
    for found in made:
        print(
            f"{found['cells']:6.0f} emitted cells: {found['seconds']:.1f} s, peak {found['peak_gib']:.2f} GiB",
            flush=True,
        )
    result["command"] = fitted = {}
    for size in (20, 60) if options.quick else COMMAND_SIZES:
        fitted[str(size)] = found = command(size, n_genes)
        print(
            f"{size:6d} perturbations, perturbrl fit: {found['seconds']:6.1f} s ({found['processor_seconds']:.1f} of "
            f"the processor), peak {found['peak_gib']:.2f} GiB",
            flush=True,
        )
    if options.data is not None:
        result["papalexi"] = found = _alone(papalexi, options.data / PAPALEXI)
        print(f"Papalexi 2021: {found['seconds']:.1f} s, peak {found['peak_gib']:.2f} GiB", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
