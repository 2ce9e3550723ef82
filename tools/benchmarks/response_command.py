"""``perturbrl fit`` with ``configs/response.yaml`` on a simulated screen, as a user types it."""

from pathlib import Path
from time import perf_counter, process_time
from typing import Final

from benchmarks.emission import peak_gib
from perturbrl.data.module_screen import ModuleScreenOptions, simulate_module_screen, write_gene_sets

CONFIG: Final = Path(__file__).resolve().parents[2] / "configs" / "response.yaml"
COMMAND_SIZES: Final = (1_000, 10_000)
N_CELLS: Final = 10
_IN_A_MODULE: Final = 20
_WRONG_MEMBERS: Final = 0.3


def write_screen(folder: Path, n_perturbations: int, n_genes: int) -> dict[str, float]:
    """Counts, and gene sets that tell most of the modules; how many cells there are."""
    options = ModuleScreenOptions(
        n_perturbations=n_perturbations,
        n_genes=n_genes,
        n_modules=max(2, n_perturbations // _IN_A_MODULE),
        n_control=500,
        cells_per_population=N_CELLS,
    )
    screen = simulate_module_screen(options)
    screen.adata.write_h5ad(folder / "screen.h5ad")
    write_gene_sets(folder / "modules.gmt", screen.noisy_modules(_WRONG_MEMBERS))
    return {"n_cells": screen.adata.n_obs}


def fit_command(folder: Path) -> dict[str, float]:
    """Seconds from the command to its end, libraries loaded, and the peak of this process."""
    from perturbrl.cli import run  # with the libraries that a user of the command line loads, too

    begin, worked = perf_counter(), process_time()
    run(
        [
            *(
                "fit",
                f"--config={CONFIG}",
                f"--data.path={folder / 'screen.h5ad'}",
                "--trainer.accelerator=cpu",
            ),
            *(f"--data.gene_sets={folder / 'modules.gmt'}", f"--trainer.logger.init_args.save_dir={folder}"),
        ]
    )
    return {
        "seconds": perf_counter() - begin,
        "processor_seconds": process_time() - worked,
        "peak_gib": peak_gib(),
    }
