"""The command line: LightningCLI's fit, test and predict on this project's classes, and inspect."""

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("RL_WARNINGS", "0")  # TorchRL says at import that a replay-buffer extension is missing
warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning calls what torch has deprecated
# A test restores the callbacks of the fit, whose folder it leaves alone; nothing is predicted batch by batch.
warnings.filterwarnings("ignore", message=".*dirpath has changed.*")
warnings.filterwarnings("ignore", message=".*predict returned None.*")

from jsonargparse import ArgumentParser
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from rich.console import Console

from perturbrl.data.inspection import inspect_dataset
from perturbrl.envs import boolean_twin, regulatory_network  # noqa: F401  so that --help lists them
from perturbrl.errors import CheckpointError, PerturbRLError
from perturbrl.training.callbacks import IterationProgress, ReportCallback, StageWarnings
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.two_stage import TwoStageModule

USER_ERROR: Final = 2
DESCRIPTION: Final = (
    "Reinforcement learning for single-cell perturbation analysis. 'perturbrl inspect FILE' says what a data "
    "file holds; fit trains a design, test judges it on held-out cells, predict applies it."
)


class SaveConfigOfFit(SaveConfigCallback):
    """Saves ``config.yaml`` into the run folder of a fit; a test or prediction leaves the run as it is."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save at stage ``fit`` only."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


class PerturbRLCLI(LightningCLI):
    """LightningCLI with one seed for everything and run folders that are never overwritten."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks' options and link shared values."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
        best = {"monitor": "return", "mode": "max", "filename": "best", "enable_version_counter": False}
        # Lightning's save_last writes only when the best one is written.
        last = {"filename": "last", "every_n_epochs": 1, "enable_version_counter": False}
        parser.set_defaults({f"checkpoint.{option}": value for option, value in best.items()})
        parser.set_defaults({f"last_checkpoint.{option}": value for option, value in last.items()})
        parser.add_lightning_class_args(IterationProgress, "progress")
        parser.add_lightning_class_args(StageWarnings, "warnings")
        parser.add_lightning_class_args(ReportCallback, "report")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_one_seed)

    def before_instantiate_classes(self) -> None:
        """Make paths absolute; for test and predict, write into the checkpoint's run and log nothing."""
        config = self.config[self.subcommand] if self.subcommand else self.config
        if config.data.path is not None:
            config.data.path = str(Path(config.data.path).expanduser().resolve())
        if config.get("ckpt_path") == "last":
            config.ckpt_path = str(newest_checkpoint(config))
        elif config.get("ckpt_path") is not None and not Path(config.ckpt_path).is_file():
            raise CheckpointError(
                f"there is no checkpoint at '{config.ckpt_path}'; give the path of a .ckpt file, or 'last'"
            )
        if self.subcommand not in (None, "fit"):
            config.trainer.logger = False


def _one_seed(seed: bool | int | None) -> int:
    """``seed_everything`` may be a switch; the module needs a number."""
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else 0


def newest_checkpoint(config: Any) -> Path:
    """The last checkpoint of the newest run with the logger's name.

    Raises:
        CheckpointError: there is none; starting afresh instead would look like resuming.
    """
    logger = config.trainer.logger
    arguments = logger.init_args if logger and not isinstance(logger, bool) else {}
    runs = Path(arguments.get("save_dir", "runs")) / str(arguments.get("name", "lightning_logs"))
    found = sorted(runs.glob("version_*/checkpoints/last.ckpt"), key=_version_of)
    if not found:
        raise CheckpointError(f"no run in '{runs}' has checkpoints/last.ckpt; fit first, or give a path")
    return found[-1]


def _version_of(checkpoint: Path) -> int:
    number = checkpoint.parent.parent.name.removeprefix("version_")
    return int(number) if number.isdigit() else -1


@dataclass(frozen=True)
class Built:
    """What a configuration amounts to, for use from Python."""

    model: TwoStageModule
    data: PerturbationDataModule
    max_epochs: int | None


def parse_config(arguments: Sequence[str]) -> Built:
    """Build model and data from the arguments of ``perturbrl fit``, without running anything."""
    cli = _cli(["--trainer.logger=false", *arguments], run=False)
    return Built(cli.model, cli.datamodule, cli.trainer.max_epochs)


def _cli(arguments: Sequence[str] | None, *, run: bool = True) -> PerturbRLCLI:
    return PerturbRLCLI(
        TwoStageModule,
        PerturbationDataModule,
        args=None if arguments is None else list(arguments),
        run=run,
        save_config_callback=SaveConfigOfFit,
        seed_everything_default=0,
        parser_kwargs={"parser_mode": "omegaconf", "description": DESCRIPTION},
        trainer_defaults={"enable_model_summary": False, "log_every_n_steps": 1},
    )


def inspect(arguments: Sequence[str]) -> None:
    """Print what a data file holds, which problems it has, and what can be done with it."""
    parser = ArgumentParser(prog="perturbrl inspect", description=inspect.__doc__)
    parser.add_function_arguments(inspect_dataset, as_positional=True, skip={"backed"})
    Console(highlight=False, soft_wrap=True).print(
        inspect_dataset(**vars(parser.parse_args(list(arguments))))
    )


def run(arguments: Sequence[str]) -> None:
    """Run one command; errors come out as exceptions."""
    if arguments and arguments[0] == "inspect":
        inspect(arguments[1:])
        return
    # LightningCLI warns when it is given the arguments that it would have read itself.
    _cli(None if list(arguments) == sys.argv[1:] else list(arguments))


def main() -> None:
    """Entry point of ``perturbrl``: a user's error is one sentence and exit code 2."""
    try:
        run(sys.argv[1:])
    except Exception as error:
        cause = user_error(error)
        if cause is None:
            raise
        print(f"perturbrl: error: {cause}", file=sys.stderr)
        sys.exit(USER_ERROR)


def user_error(error: BaseException | None) -> PerturbRLError | None:
    """The user's error behind an exception; jsonargparse wraps what a constructor raises into its own."""
    while error is not None and not isinstance(error, PerturbRLError):
        error = error.__cause__
    return error


if __name__ == "__main__":
    main()
