"""Scores of cell-eval2 on its own scale, as its command line makes them: 0 is the mean response, 1 a replicate.

The program comes with the extra ``eval``. It takes files, so measured and predicted cells pass through a folder; the
labels are written as its competition names them, whose settings are used unchanged.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from anndata import AnnData

from perturbrl.errors import ConfigurationError, DataError
from perturbrl.schema import CONTROL_LABEL, PERTURBATION_OBS

PROGRAM: Final = "cell-eval2"
_PRESET: Final = ("--preset", "vcc2026")
_LABEL, _CONTROL = "target", "non-targeting"
_SCORE, _NAME = "from_replicate", "metric"
AVERAGE: Final = "avg_score"


def scaled_scores(real: AnnData, predicted: Mapping[str, AnnData], mean_response: str) -> pd.DataFrame:
    """Every score of every predictor: rows predictors, columns metrics and ``avg_score``.

    Args:
        real: measured cells of control and at least two perturbations, whole counts.
        predicted: the same labels and controls by each predictor.
        mean_response: the predictor that is 0 of the scale, one of ``predicted``.

    Raises:
        ConfigurationError: the program is not installed.
        DataError: it refuses the cells; its own words are given.
    """
    if not is_installed():
        raise ConfigurationError(f"{PROGRAM} is not installed; install the extra 'eval'")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(real, folder / "real.h5ad")
        for i, cells in enumerate(predicted.values()):
            _write(cells, folder / f"{i}.h5ad")
        zero = list(predicted).index(mean_response)
        settings = _settings(real)
        scale = ("--real", "real.h5ad", "--baseline", f"{zero}.h5ad", *settings, "-o", "scale")
        _run(folder, "prep-real-bundle", *scale)
        rows = {predictor: _scores(folder, i, settings) for i, predictor in enumerate(predicted)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("predictor")


def is_installed() -> bool:
    """Whether the program lies beside the interpreter."""
    return _program().exists()


def _program() -> Path:
    return Path(sys.executable).parent / PROGRAM


def _write(cells: AnnData, path: Path) -> None:
    labels = cells.obs[PERTURBATION_OBS].astype(str).to_numpy()
    named = np.where(labels == CONTROL_LABEL, _CONTROL, labels)
    obs = pd.DataFrame({_LABEL: pd.Categorical(named)}, index=cells.obs_names)
    AnnData(cells.X, obs=obs, var=pd.DataFrame(index=cells.var_names)).write_h5ad(path)


def _settings(real: AnnData) -> tuple[str, ...]:
    """Those of the competition; a panel without a measured target gene has to be called one."""
    measured = set(real.obs[PERTURBATION_OBS].astype(str)) & set(real.var_names)
    return _PRESET if measured else (*_PRESET, "--no-target-genes")


def _scores(folder: Path, i: int, settings: Sequence[str]) -> dict[str, float]:
    _run(folder, "run", "-ap", f"{i}.h5ad", "-ar", "real.h5ad", *settings, "-o", f"run_{i}")
    results = ("--user-agg", f"run_{i}/agg_results.csv", "--user-meta", f"run_{i}/run_meta.json")
    _run(folder, "score", *results, "--real-bundle", "scale", "-o", f"{i}.csv")
    table = pd.read_csv(folder / f"{i}.csv").set_index(_NAME)
    return {str(name): float(value) for name, value in table[_SCORE].items()}


def _run(folder: Path, *arguments: str) -> None:
    command = [str(_program()), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise DataError(f"{PROGRAM} {arguments[0]} does not take these cells: {last}")
