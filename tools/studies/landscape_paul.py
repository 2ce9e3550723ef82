"""Paul 2015: do the mature types keep their basins, and do cells on their way look like real ones?"""

from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from perturbrl.data.cell_order import OrderOptions
from perturbrl.evaluation.distances import energy_distance
from perturbrl.schema import CellState
from perturbrl.twins.landscape import LandscapeTwin
from studies.landscape_cells import Atlas, moved, read_atlas
from studies.landscape_drivers import aurocs, factors, fate_shifts, fates_of_training_cells, signs

FILE: Final = "paul2015_myeloid_trajectory.h5ad"
MATURE: Final = ("Erythrocyte", "Monocytes", "Neutrophils", "Basophils")
MULTIPOTENT: Final = "Multipotent progenitors"
KEPT: Final = 0.9
STEPS: Final = 60
BINS: Final = 10
_COPIES: Final = 5
_TIMED_CELLS: Final = 16_384
_DRAWS: Final = 6


def rows(folder: Path, seeds: int) -> dict[str, object]:
    """The keys of this part."""
    table = pd.DataFrame([_one_seed(folder, seed) for seed in range(seeds)])
    mean = table.mean()
    kept = [f"kept {name}" for name in MATURE if mean[f"kept {name}"] >= KEPT * mean[f"recognised {name}"]]
    _print(table)
    return {
        "basins_kept": len(kept),
        "off_manifold": round(float(mean["off_manifold"]), 3),
        "energy_by_bin": round(float(mean["energy_by_bin"]), 3),
        "energy_by_bin_interpolated": round(float(mean["energy_by_bin_interpolated"]), 3),
        "fate_tv": round(float(mean["fate_tv"]), 3),
        "driver_signs": round(float(mean["driver_signs"]), 1),
        "driver_signs_of": int(mean["driver_signs_of"]),
        **{name: round(float(mean[name]), 3) for name in mean.index if name.startswith("driver_auroc")},
        "driver_auroc_random": 0.5,
        "landscape_fit_seconds": round(float(mean["fit_seconds"]), 1),
        "cell_steps_per_second": round(float(table["cell_steps_per_second"].max())),
    }


def _one_seed(folder: Path, seed: int) -> dict[str, float]:
    atlas = read_atlas(folder / FILE, seed, OrderOptions(pseudotime_key="pseudotime"), factors(folder))
    started = perf_counter()
    twin = LandscapeTwin(seed=seed).fit(atlas.cells, atlas.encoder)
    found = {"fit_seconds": perf_counter() - started, "cell_steps_per_second": _speed(twin, atlas)}
    return (
        found
        | _basins(twin, atlas, seed)
        | _on_the_way(twin, atlas, seed)
        | _drivers(twin, atlas, folder, seed)
    )


@torch.no_grad()
def _speed(twin: LandscapeTwin, atlas: Atlas) -> float:
    """Of many cells at once, on the threads that torch has; the best of a few, since others use the machine, too."""
    state = atlas.cells.latent[torch.arange(_TIMED_CELLS) % len(atlas.cells.latent)]
    dose = torch.zeros(len(state), twin.perturbations.n_perturbations)
    noise, member, took = twin.draw_noise(len(state)), twin.draw_members(len(state)), []
    for _ in range(_COPIES):
        started = perf_counter()
        twin.next_state(state, dose, noise, member)
        took.append(perf_counter() - started)
    return len(state) * twin.steps_per_action / min(took)


def _basins(twin: LandscapeTwin, atlas: Atlas, seed: int) -> dict[str, float]:
    """What mature types keep, and how far simulated cells are from real ones."""
    after = moved(twin, atlas.states.repeat(_COPIES, 1), STEPS // twin.steps_per_action, seed)[-1]
    later = moved(twin, after, 4 * STEPS // twin.steps_per_action, seed + 1)[-1]
    real, simulated, long = (atlas.recognised(states) for states in (atlas.states, after, later))
    types = np.tile(atlas.types, _COPIES)
    found = {"off_manifold": atlas.manifold_distance(after) / atlas.manifold_distance(atlas.states)}
    for name in MATURE:
        found[f"recognised {name}"] = float((real[atlas.types == name] == name).mean())
        found[f"kept {name}"] = float((simulated[types == name] == name).mean())
        found[f"kept {name}, 5 times as long"] = float((long[types == name] == name).mean())
    return found | _fates(twin, atlas, seed)


def _fates(twin: LandscapeTwin, atlas: Atlas, seed: int) -> dict[str, float]:
    """Types that multipotent cells end in, beside the proportions of all mature cells."""
    start = atlas.states[torch.from_numpy(atlas.types == MULTIPOTENT)].repeat(_COPIES, 1)
    ends = atlas.recognised(moved(twin, start, twin.relaxation_steps, seed)[-1])
    fates = np.array([(ends == name).mean() for name in MATURE])
    real = np.array([(atlas.training_types == name).mean() for name in MATURE])
    told = {f"fate {name}": float(share) for name, share in zip(MATURE, fates, strict=True)}
    both = fates / max(fates.sum(), 1e-12), real / real.sum()
    return told | {"fate_tv": 0.5 * float(np.abs(both[0] - both[1]).sum())}


def _on_the_way(twin: LandscapeTwin, atlas: Atlas, seed: int) -> dict[str, float]:
    """Energy distance to held-out cells by bin of pseudotime, in units of a replicate's, largest bin's first.

    Simulated cells start before the bin and are taken while they pass through it; interpolated ones are means of a
    cell of the bin before and one of the bin after. Since cells were sorted, both are drawn such that types have the
    shares of the held-out cells. The replicate are training cells of the bin. Pseudotime of every cell is that of the
    nearest training cells.
    """
    rng, training = np.random.default_rng(seed), atlas.training_pseudotime
    edges = np.quantile(training, np.linspace(0, 1, BINS + 1))
    edges[[0, -1]] = -np.inf, np.inf
    of_training, of_held = (
        np.digitize(training, edges) - 1,
        np.digitize(atlas.pseudotime(atlas.states), edges) - 1,
    )
    ratios = []
    for own in range(1, BINS - 1):
        real, replicate = atlas.states[of_held == own], atlas.cells.latent[of_training == own]
        passing = _passing(twin, atlas, atlas.cells.latent[of_training < own], edges[own : own + 2], seed)
        before, after = (atlas.cells.latent[of_training == own + beside] for beside in (-1, 1))
        between = 0.5 * (
            before[rng.integers(len(before), size=2000)] + after[rng.integers(len(after), size=2000)]
        )
        unit = np.mean([energy_distance(_some(replicate, len(real), rng), real) for _ in range(_DRAWS)])
        ratios.append(
            [
                np.mean([energy_distance(_alike(atlas, states, real, rng), real) for _ in range(_DRAWS)])
                / unit
                for states in (passing, between)
            ]
        )
    simulated, interpolated = np.array(ratios).T
    found = {
        "energy_by_bin": float(simulated.mean()),
        "energy_by_bin_interpolated": float(interpolated.mean()),
    }
    return found | {f"energy, bin {own + 2}": float(ratio) for own, ratio in enumerate(simulated)}


def _passing(
    twin: LandscapeTwin, atlas: Atlas, earlier: CellState, edges: np.ndarray, seed: int, n: int = 600
) -> CellState:
    """States in a bin of cells that started before it."""
    start = earlier[torch.from_numpy(np.random.default_rng(seed).integers(len(earlier), size=n))]
    states = torch.cat(moved(twin, start, twin.relaxation_steps, seed)[1:])
    order = atlas.pseudotime(states)
    return states[torch.from_numpy((order >= edges[0]) & (order < edges[1]))]


def _some(states: CellState, n: int, rng: np.random.Generator) -> CellState:
    return states[torch.from_numpy(rng.permutation(len(states))[:n])]


def _alike(atlas: Atlas, states: CellState, real: CellState, rng: np.random.Generator) -> CellState:
    """As many states of each recognised type as there are real cells of it."""
    recognised = atlas.recognised(states)
    drawn = [
        rng.choice(np.flatnonzero(recognised == name), count)
        for name, count in pd.Series(atlas.recognised(real)).value_counts().items()
        if (recognised == name).any()
    ]
    return states[torch.from_numpy(np.concatenate(drawn))]


def _drivers(twin: LandscapeTwin, atlas: Atlas, folder: Path, seed: int) -> dict[str, float]:
    shifts = fate_shifts(twin, atlas, seed)
    right = signs(shifts)
    scores, n = aurocs(fates_of_training_cells(twin, atlas, seed), shifts, atlas, folder)
    return (
        scores
        | {
            "driver_signs": float(sum(right.values())),
            "driver_signs_of": float(len(right)),
            "published drivers": float(n),
        }
        | {f"sign {gene}": float(good) for gene, good in right.items()}
    )


def _print(table: pd.DataFrame) -> None:
    shown = Table("Paul 2015", "mean", "lowest", "highest", title=f"{len(table)} seeds")
    for name, values in table.items():
        shown.add_row(str(name), *(f"{value:.3f}" for value in (values.mean(), values.min(), values.max())))
    Console().print(shown)
