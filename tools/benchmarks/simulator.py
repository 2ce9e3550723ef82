"""Speed of the regulatory-network twin beside BoolODE's equations under scipy and beside ``scanpy.tl.sim``.

Rates are cell-gene-steps per second; a step is one evaluation of the right-hand side for all genes of a cell.
BoolODE (Pratapa et al. 2020, Nat. Methods 17:147): dx = m f(p) - l_x x, dp = r x - l_p p per gene, f the sum
of the true rows of the rule's truth table over the partition function of its regulators' Hill terms. It is
stated twice: as written there (every Hill term where it occurs, numpy scalars) and tuned by hand (each term
once, Python floats), so that the plain statement's slowness is no excuse.
"""

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from perturbrl.networks.bnet import parse_bnet
from perturbrl.networks.boolean_network import BooleanNetwork, load_network
from perturbrl.networks.hill_cubes import HillCubes
from perturbrl.networks.hill_dynamics import HillDynamics

NETWORK = "krumsiek11"
ROUNDS = 5


def boolode_right_hand_side(network: BooleanNetwork, tuned: bool) -> Callable:
    """dy/dt of one cell, y = mRNA then protein levels, with BoolODE's default parameters."""
    genes = network.genes
    unpack = ", ".join([f"x{i}" for i in range(len(genes))] + [f"p{i}" for i in range(len(genes))])
    lines = ["def right_hand_side(y, t):", f"    {unpack} = {'y.tolist()' if tuned else 'y'}"]
    if tuned:
        lines += [f"    h{i} = (p{i} / 10.0) ** 10" for i in range(len(genes))]
    rates = []
    for i, rule in enumerate(network.rules.values()):
        index = [genes.index(name) for name in rule.regulators]
        hill = [f"h{j}" if tuned else f"(p{j} / 10.0) ** 10" for j in index]
        rows = [[h for b, h in enumerate(hill) if s >> b & 1] for s in np.flatnonzero(rule.truth_table)]
        production = " + ".join(" * ".join(row) or "1.0" for row in rows) or "0.0"
        partition = " * ".join(f"(1.0 + {h})" for h in hill) or "1.0"
        rates.append(f"20.0 * ({production}) / ({partition}) - 10.0 * x{i}")
    rates += [f"10.0 * x{i} - p{i}" for i in range(len(genes))]
    scope: dict = {}
    exec("\n".join([*lines, f"    return [{', '.join(rates)}]"]), scope)
    return scope["right_hand_side"]


def boolode_rate(tuned: bool, n_cells: int) -> float:
    """Rate of BoolODE's equations, one ``scipy.integrate.odeint`` per cell."""
    from scipy.integrate import odeint

    network, random = load_network(NETWORK), np.random.default_rng(0)
    derivative, genes = boolode_right_hand_side(network, tuned), len(network.genes)
    evaluations, start = 0, time.perf_counter()
    for _ in range(n_cells):
        initial = np.concatenate([2.0 * random.random(genes), 20.0 * random.random(genes)])
        _, info = odeint(derivative, initial, np.linspace(0.0, 10.0, 101), full_output=True)
        evaluations += int(info["nfe"][-1])
    return evaluations * genes / (time.perf_counter() - start)


def scanpy_rate(n_cells: int, n_steps: int) -> float:
    """Rate of ``scanpy.tl.sim`` with its default noise."""
    import scanpy

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        scanpy.tl.sim(
            NETWORK, tmax=n_steps, nrRealizations=n_cells, branching=False, step=1, seed=0, writedir=folder
        )
        return n_cells * n_steps * 11 / (time.perf_counter() - start)


def dynamics_of(network: BooleanNetwork, noise: float, device: str = "cpu") -> HillDynamics:
    genes = len(network.genes)
    n, k = torch.full((1, genes), 3.0), torch.full((1, genes), 0.5)
    return HillDynamics(HillCubes(network), n, k, torch.ones(genes), 0.1, noise).to(device)


def twin_rate(
    network: BooleanNetwork, noise: float, n_cells: int, n_steps: int, device: str = "cpu"
) -> float:
    """Rate of the twin's dynamics, noise drawn on the way where there is any."""
    dynamics, genes = dynamics_of(network, noise, device), len(network.genes)
    state = torch.rand(n_cells, genes, device=device)

    def drawn(rows: slice, step: int) -> torch.Tensor:
        return torch.randn(genes, rows.stop - rows.start, device=device)

    def run(steps: int) -> float:
        start = time.perf_counter()
        result = dynamics.advance(state, steps, None, drawn if noise else None)
        float(result[0, 0])  # waits for an accelerator
        return time.perf_counter() - start

    with torch.inference_mode():
        run(2)
        return n_cells * genes * n_steps / run(n_steps)


def random_network(genes: int, regulators: int = 3, seed: int = 0) -> BooleanNetwork:
    """Every gene follows a random truth table over random regulators."""
    random, lines = np.random.default_rng(seed), []
    for gene in range(genes):
        chosen = random.choice(genes, regulators, replace=False)
        rows = np.flatnonzero(random.integers(0, 2, 2**regulators))
        terms = [" & ".join(f"{'' if s >> j & 1 else '!'}g{r}" for j, r in enumerate(chosen)) for s in rows]
        lines.append(f"g{gene}, {' | '.join(terms) or '0'}")
    return BooleanNetwork(f"random_{genes}", parse_bnet("\n".join(lines)).rules)


def _memory(genes: int, n_cells: int) -> float:
    """Peak memory of state, result and workspace together, in sizes of the state; in a process of its own."""
    torch.set_num_threads(1)
    dynamics = dynamics_of(load_network(NETWORK) if genes == 11 else random_network(genes), 0.0)
    with torch.inference_mode():
        dynamics.advance(torch.rand(64, genes), 1)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = _resident("VmRSS")
        state = torch.rand(n_cells, genes)
        dynamics.advance(state, 2)
    return (_resident("VmHWM") - before) / (state.numel() * state.element_size())


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def memory_ratio(genes: int, n_cells: int) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_memory, genes, n_cells).result()


def _contenders(quick: bool) -> dict[str, tuple[Callable[..., float], tuple]]:
    network, cells = load_network(NETWORK), 20_000 if quick else 200_000
    return {
        "boolode_scipy": (boolode_rate, (False, 3 if quick else 10)),
        "boolode_scipy_tuned": (boolode_rate, (True, 3 if quick else 20)),
        "twin_ode": (twin_rate, (network, 0.0, cells, 20)),
        "scanpy_sim": (scanpy_rate, (2 if quick else 5, 160)),
        "twin_sde": (twin_rate, (network, 0.05, cells, 20)),
    }


def _one_thread() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Observation names are not unique")


def _measure(quick: bool, cores: int) -> dict[str, float]:
    """Median over rounds of the summed rate of ``cores`` processes; contenders take turns within a round."""
    contenders = _contenders(quick)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        for _ in range(2 if quick else ROUNDS):
            for name, (function, arguments) in contenders.items():
                jobs = [pool.submit(function, *arguments) for _ in range(cores)]
                rates[name].append(sum(job.result() for job in jobs))
    return {name: float(np.median(values)) for name, values in rates.items()}


def _exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _seconds_per_step(network: BooleanNetwork, n_cells: int, device: str = "cpu") -> float:
    genes = len(network.genes)
    steps = max(3, int(2e7 / n_cells / genes))
    # The best of several: whatever else runs on the machine only ever slows down.
    return n_cells * genes / max(twin_rate(network, 0.0, n_cells, steps, device) for _ in range(5))


def _scaling(quick: bool, device: str) -> dict[str, object]:
    cells = [1_000, 10_000, 100_000] + ([] if quick else [1_000_000])
    genes = [10, 100] + ([] if quick else [300, 1_000])
    by_cells = [_seconds_per_step(load_network(NETWORK), n, device) for n in cells]
    by_genes = [_seconds_per_step(random_network(g), 10_000, device) for g in genes]
    return {
        "scaling_exponent_cells": _exponent(cells, by_cells),
        "scaling_exponent_genes": _exponent(genes, by_genes),
        "seconds_per_step_by_cells": dict(zip(cells, by_cells, strict=True)),
        "seconds_per_step_by_genes": dict(zip(genes, by_genes, strict=True)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison and print one line of JSON at the end."""
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    quick = parser.parse_args(argv).quick
    cores = os.cpu_count() or 1
    one, every = _measure(quick, 1), _measure(quick, cores)
    for name in one:
        print(
            f"{name:22s} {one[name]:10.3g} /s in one process {every[name]:10.3g} /s on {cores} cores",
            flush=True,
        )
    _one_thread()
    result: dict[str, object] = {
        "speedup_over_boolode_scipy": one["twin_ode"] / one["boolode_scipy"],
        "speedup_over_scanpy_sim": one["twin_sde"] / one["scanpy_sim"],
        "speedup_over_boolode_scipy_all_cores": every["twin_ode"] / every["boolode_scipy"],
        "speedup_over_scanpy_sim_all_cores": every["twin_sde"] / every["scanpy_sim"],
        "speedup_over_tuned_scipy": one["twin_ode"] / one["boolode_scipy_tuned"],
        **_scaling(quick, "cpu"),
        "memory_over_state": {
            "11 genes": memory_ratio(11, 100_000 if quick else 1_000_000),
            "1000 genes": memory_ratio(1_000, 1_000 if quick else 10_000),
        },
        "cell_gene_steps_per_s": one["twin_ode"],
        "cell_gene_steps_per_s_all_cores": every["twin_ode"],
    }
    if torch.cuda.is_available():
        on_gpu = twin_rate(load_network(NETWORK), 0.0, 1_000_000, 100, "cuda")
        result |= {"cell_gene_steps_per_s_gpu": on_gpu, "gpu": _scaling(quick, "cuda")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
