"""A small trained run, made once and shared by the tests that only read it."""

from pathlib import Path

import numpy as np
from lightning import Trainer
from places import CONFIGS

from perturbrl.cli import Built, parse_config, run

SMOKE = str(CONFIGS / "smoke.yaml")


def build(*arguments: str) -> Built:
    """Model and data of the smoke configuration."""
    return parse_config([f"--config={SMOKE}", *arguments])


def quiet_trainer(max_epochs: int, **options: object) -> Trainer:
    """A trainer that writes nothing."""
    return Trainer(
        **{
            "max_epochs": max_epochs,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
            **options,
        }
    )


def fit_in(folder: Path, *arguments: str) -> Path:
    """Run ``perturbrl fit`` on the smoke configuration; the run folder."""
    run(["fit", f"--config={SMOKE}", f"--trainer.logger.init_args.save_dir={folder}", *arguments])
    return max((folder / "smoke").iterdir(), key=lambda path: int(path.name.removeprefix("version_")))


def weights(built: Built) -> np.ndarray:
    """All trained parameters of the module, flat."""
    return np.concatenate([p.detach().numpy().ravel() for p in built.model.parameters()])
