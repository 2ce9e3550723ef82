"""The cells behind the stored numbers of cell-eval and cell-eval2, and the program that makes these numbers.

    python tests/golden_panel.py

writes ``tests/goldens/cell_eval.json``; it needs the extra ``eval``.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from toy_screen import ToyScreen

STORED = Path(__file__).parent / "goldens" / "cell_eval.json"
PANEL = ToyScreen(n_genes=80, n_perturbations=6)
N_CELLS = 25
METRICS = {
    "cell-eval": [
        "pearson_delta",
        "mse",
        "mae",
        "overlap_at_N",
        "precision_at_N",
        "de_sig_genes_recall",
        "pr_auc",
        "pearson_edistance",
    ],
    "cell-eval2": [
        "delta_pearson",
        "expr_mse",
        "expr_mae",
        "pds_cosine",
        "de_wilcoxon_overlap",
        "de_wilcoxon_precision",
        "de_wilcoxon_sig_recall",
        "de_wilcoxon_pr_auc",
    ],
}


def cells(draw_seed: int) -> AnnData:
    """Log-normalised cells of every label."""
    labels = ["control", *PANEL.perturbations]
    obs = pd.DataFrame({"perturbation": np.repeat(labels, N_CELLS)})
    obs.index = [f"c{i}" for i in range(len(obs))]
    counts = np.concatenate([PANEL.counts(label, N_CELLS, draw_seed) for label in labels])
    logs = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    return AnnData(logs.astype(np.float64), obs=obs, var=pd.DataFrame(index=PANEL.genes))


def pair() -> tuple[AnnData, AnnData]:
    """Real and predicted cells; both hold the real controls, as the two programs ask for.

    Predicted are the cells of a replicate, with two perturbations taken for one another.
    """
    real, predicted = cells(0), cells(1)
    predicted.obs["perturbation"] = predicted.obs["perturbation"].replace({"G1": "G2", "G2": "G1"})
    control = (real.obs["perturbation"] == "control").to_numpy()
    predicted.X[control] = real.X[control]
    return real, predicted


def fingerprint() -> str:
    """Of the cells, to three decimals: it changes with the random numbers and not with rounding."""
    values = np.concatenate([side.X for side in pair()]).astype(np.float64)
    return hashlib.sha256((values * 1000).round().astype(np.int64).tobytes()).hexdigest()


def _run(folder: Path) -> dict[str, pd.DataFrame]:
    names = ["-ap", "predicted.h5ad", "-ar", "real.h5ad", "--pert-col", "perturbation"]
    binaries = Path(sys.executable).parent
    first = [binaries / "cell-eval", "run", *names, "--control-pert", "control", "-o", "one"]
    second = [binaries / "cell-eval2", "run", *names, "--control", "control", "-o", "two"]
    subprocess.run(first, cwd=folder, check=True)
    lognorm = ["--input-type", "lognorm", "--set", "de.mean_calc=geometric"]
    subprocess.run([*second, *lognorm], cwd=folder, check=True)
    two = pd.read_csv(folder / "two" / "results.csv")
    return {
        "cell-eval": pd.read_csv(folder / "one" / "results.csv").set_index("perturbation"),
        "cell-eval2": two.pivot(index="perturbation", columns="metric", values="value"),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, side in zip(("real", "predicted"), pair(), strict=True):
            side.write_h5ad(Path(folder) / f"{name}.h5ad")
        tables = _run(Path(folder))
    content = {
        "made_by": "python tests/golden_panel.py",
        "versions": {name: version(name) for name in ("cell-eval", "cell-eval2", "pdex", "numpy")},
        "cells": fingerprint(),
        "values": {
            name: {m: table.loc[PANEL.perturbations, m].tolist() for m in METRICS[name]}
            for name, table in tables.items()
        },
    }
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
