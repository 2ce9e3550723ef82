"""The command line: LightningCLI's fit, test and predict on this project's classes, inspect and plan."""

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from pydoc import locate
from typing import Any, Final

os.environ.setdefault("RL_WARNINGS", "0")  # TorchRL says at import that a replay-buffer extension is missing
warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning calls what torch has deprecated
# A test restores the callbacks of the fit, whose folder it leaves alone; nothing is predicted batch by batch,
# and nothing is tested batch by batch, so that no sample could be counted twice over processes.
warnings.filterwarnings("ignore", message=".*dirpath has changed.*")
warnings.filterwarnings("ignore", message=".*predict returned None.*")
warnings.filterwarnings("ignore", message=".*Using `DistributedSampler` with the dataloaders.*")

from jsonargparse import Namespace
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.console import Console

from perturbrl.data.dataset import load_dataset
from perturbrl.data.inspection import inspect_dataset
from perturbrl.data.presets import ColumnOptions
from perturbrl.data.reading import ValueKind
from perturbrl.errors import ConfigurationError, PerturbRLError
from perturbrl.reporting.callback import ReportCallback
from perturbrl.reporting.experiment_planning import PlanOptions, plan_experiments
from perturbrl.training.adverts import silence_adverts
from perturbrl.training.callbacks import (
    IterationProgress,
    KeptCheckpoints,
    LastCheckpoint,
    NoEmptyRun,
    StageWarnings,
)
from perturbrl.training.checkpoints import AtomicCheckpointIO, find_checkpoint, read_checkpoint
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.freed_memory import keep_freed_memory
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins import boolean, regulatory_network  # noqa: F401  so that --help lists them
from perturbrl.wrong_options import OneSentenceLightningParser, OneSentenceParser

USER_ERROR: Final = 2
# Options that name files, in data and in twins.
_FILES: Final = (
    "aliases",
    "allowed_perturbations",
    "edges",
    "features",
    "gene_sets",
    "reference",
    "regulators",
)
UNWRITABLE: Final = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
DESCRIPTION: Final = (
    "Reinforcement learning for single-cell perturbation analysis. 'perturbrl inspect FILE' says what a data "
    "file holds, 'perturbrl plan FILE' which perturbations to measure next; fit trains a design, or what foretells "
    "responses, test judges it on held-out cells, predict applies it."
)


class SaveConfigOfFit(SaveConfigCallback):
    """Saves ``config.yaml`` into the run folder of a fit; a test or prediction leaves the run as it is."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a folder with another run's configuration, before any work is done.

        Raises:
            ConfigurationError: it would be lost.
        """
        if stage == "fit" and (Path(trainer.log_dir or ".") / self.config_filename).exists():
            raise ConfigurationError(
                f"'{trainer.log_dir}' already holds a run; give a logger, which makes a new folder for every run, or "
                "another --trainer.default_root_dir"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, now that cells are read and the twin is fitted: what fails before leaves nothing behind."""
        super().setup(trainer, pl_module, "fit")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where there was no iteration."""
        super().setup(trainer, pl_module, "fit")


class PerturbRLCLI(LightningCLI):
    """LightningCLI with one seed for everything and run folders that are never overwritten."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._parsers_seen: list[LightningArgumentParser] = []
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks' options and link shared values."""
        self._parsers_seen.append(parser)
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        # At the end of every iteration, also where check_val_every_n_epoch or val_check_interval are set.
        always = {"enable_version_counter": False, "save_on_train_epoch_end": True}
        best = {"monitor": "return", "mode": "max", "filename": "best", **always}
        # Lightning's save_last writes only when the best one is written.
        last = {"filename": "last", "every_n_epochs": 1, **always}
        parser.set_defaults({f"checkpoint.{option}": value for option, value in best.items()})
        parser.set_defaults({f"last_checkpoint.{option}": value for option, value in last.items()})
        parser.add_lightning_class_args(KeptCheckpoints, "kept_checkpoints")
        parser.add_lightning_class_args(IterationProgress, "progress")
        parser.add_lightning_class_args(StageWarnings, "warnings")
        parser.add_lightning_class_args(ReportCallback, "report")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_one_seed)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, less ``validate``: a policy is judged by ``test``."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name != "validate"}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Find the checkpoint before LightningCLI reads it.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        super().parse_arguments(parser, args)
        config = self.config.get(self.config.get("subcommand") or "", self.config)
        if config.get("ckpt_path") is None:
            return
        path = Path(config.ckpt_path)
        if config.ckpt_path in ("last", "best"):
            path = find_checkpoint(config.ckpt_path, _runs(config.trainer))
        read_checkpoint(path)
        config.ckpt_path = str(path.resolve())

    def before_instantiate_classes(self) -> None:
        """Make paths absolute; for test and predict, write into the checkpoint's run and log nothing."""
        config = self._own(self.config)
        if config.data.path is not None:
            config.data.path = str(Path(config.data.path).expanduser().resolve())
        _make_absolute(config.data)
        _make_absolute(config.model)
        if self.subcommand not in (None, "fit"):
            config.trainer.logger = False
        _require_tensorboard(config.trainer.logger)
        self._leave_out_callbacks(config.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with checkpoints that a kill cannot halve.

        Raises:
            ConfigurationError: the trainer refuses an option.
        """
        try:
            trainer = super().instantiate_trainer(logger=self._loggers_in_one_folder(), **kwargs)
        except (MisconfigurationException, ValueError) as error:
            raise ConfigurationError(f"trainer: {error}") from error
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer

    def _own(self, config: Any) -> Any:
        """What belongs to the subcommand that is run."""
        return config[self.subcommand] if self.subcommand else config

    def _leave_out_callbacks(self, trainer: Any) -> None:
        """Lightning takes a callback of ours that a flag of the user's switches off for a contradiction."""
        off: set[str] = set()
        if trainer.barebones or trainer.enable_checkpointing is False:
            off |= {"checkpoint", "last_checkpoint", "kept_checkpoints"}
        if (
            trainer.barebones
            or trainer.enable_progress_bar is False
            or _names_a_progress_bar(trainer.callbacks)
        ):
            off |= {"progress"}
        for parser in self._parsers_seen:
            parser.callback_keys = [key for key in parser.callback_keys if key not in off]

    def _loggers_in_one_folder(self) -> Any:
        """Loggers of one name write into the first one's run folder, not each into a version after it."""
        loggers, configured = (self._own(config).trainer.logger for config in (self.config_init, self.config))
        if not isinstance(loggers, list) or not loggers:
            return loggers
        first = loggers[0]
        for i, (other, asked) in enumerate(zip(loggers, configured, strict=True)):
            if i and _shares_folder(first, other) and asked.init_args.get("version") is None:
                loggers[i] = type(other)(**(asked.init_args.as_dict() | {"version": first.version}))
        return loggers


def _make_absolute(options: Any) -> None:
    """Files that are read again by a test or a prediction, perhaps from another working folder."""
    for name, value in list(vars(options).items()):
        if isinstance(value, Namespace):
            _make_absolute(value)
        elif name in _FILES:
            setattr(
                options, name, [_found(one) for one in value] if isinstance(value, list) else _found(value)
            )


def _found(value: Any) -> Any:
    """The absolute path of a file that is there; anything else as it is."""
    path = Path(value).expanduser() if isinstance(value, str) else None
    return str(path.resolve()) if path is not None and path.is_file() else value


def _shares_folder(first: Any, other: Any) -> bool:
    numbered = CSVLogger | TensorBoardLogger
    return (
        isinstance(first, numbered)
        and isinstance(other, numbered)
        and Path(other.root_dir) == Path(first.root_dir)
    )


def _names_a_progress_bar(callbacks: Any) -> bool:
    named = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
    classes = [locate(str(callback.class_path)) for callback in named]
    return any(isinstance(found, type) and issubclass(found, ProgressBar) for found in classes)


def _require_tensorboard(logger: Any) -> None:
    loggers = logger if isinstance(logger, list) else [logger]
    wanted = any(str(getattr(one, "class_path", "")).endswith(".TensorBoardLogger") for one in loggers)
    if wanted and not any(find_spec(name) for name in ("tensorboard", "tensorboardX")):
        raise ConfigurationError(
            "trainer.logger is a TensorBoardLogger but tensorboard is not installed; "
            "pip install 'perturbrl[tensorboard]', or take the CSVLogger"
        )


def _runs(trainer: Any) -> Path:
    """The folder in which the trainer's first logger makes run folders."""
    logger = trainer.logger[0] if isinstance(trainer.logger, list) else trainer.logger
    root = Path(trainer.default_root_dir or ".")
    if logger is False:
        return root
    if logger is True or logger is None:
        return root / "lightning_logs"
    arguments = logger.init_args
    return Path(arguments.get("save_dir", ".")) / str(arguments.get("name") or "lightning_logs")


def _one_seed(seed: bool | int | None) -> int:
    """``seed_everything`` may be a switch; the module needs a number."""
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else 0


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
        auto_configure_optimizers=False,
        parser_class=OneSentenceLightningParser,
        parser_kwargs={"parser_mode": "omegaconf", "description": DESCRIPTION},
        trainer_defaults={
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "callbacks": NoEmptyRun(),
        },
    )


def inspect(arguments: Sequence[str]) -> None:
    """Print what a data file holds, which problems it has, and what can be done with it."""
    parser = OneSentenceParser(prog="perturbrl inspect", description=inspect.__doc__)
    parser.add_function_arguments(inspect_dataset, as_positional=True, skip={"backed"})
    given = parser.parse_args(list(arguments))
    found = inspect_dataset(given.path, ColumnOptions(**vars(given.columns)), given.value_kind)
    Console(highlight=False, soft_wrap=True).print(found)


def plan(arguments: Sequence[str]) -> None:
    """Say which perturbations or combinations to measure next, and write tables and a page."""
    parser = OneSentenceParser(prog="perturbrl plan", description=plan.__doc__)
    parser.add_argument(
        "path", type=str | None, nargs="?", help="cells; none where an outcome is all there is"
    )
    parser.add_argument("--n", type=int, default=10, help="experiments of the batch")
    parser.add_argument("--out", type=Path, default=Path("plan"), help="new folder that is written")
    parser.add_class_arguments(PlanOptions)
    parser.add_class_arguments(ColumnOptions, "columns")
    parser.add_argument("--value_kind", type=ValueKind | None, help="what the values are; null tells by them")
    given = parser.parse_args(list(arguments))
    options = PlanOptions(**{one.name: given[one.name] for one in fields(PlanOptions)})
    columns = ColumnOptions(**vars(given.columns))
    cells = None if given.path is None else load_dataset(given.path, columns, value_kind=given.value_kind)
    if given.out.exists():
        raise ConfigurationError(f"'{given.out}' is there already and is not overwritten; give another --out")
    found = plan_experiments(cells, given.n, options)
    page = found.save(given.out)
    Console(highlight=False, soft_wrap=True).print(f"{found}\n\n{page}", markup=False)


def run(arguments: Sequence[str]) -> None:
    """Run one command; errors come out as exceptions."""
    without_training = {"inspect": inspect, "plan": plan}
    if arguments and arguments[0] in without_training:
        without_training[arguments[0]](arguments[1:])
        return
    # LightningCLI warns when it is given the arguments that it would have read itself.
    _cli(None if list(arguments) == sys.argv[1:] else list(arguments))


def main() -> None:
    """Entry point of ``perturbrl``: a user's error is one sentence and exit code 2."""
    keep_freed_memory()
    silence_adverts()
    try:
        run(sys.argv[1:])
    except Exception as error:
        cause = user_error(error)
        if cause is None:
            raise
        print(f"perturbrl: error: {cause}", file=sys.stderr)
        sys.exit(USER_ERROR)


def user_error(error: BaseException) -> str | None:
    """What the user can mend behind an exception, or ``None`` where it is an error of ours.

    jsonargparse and loggers wrap what was raised first into exceptions of their own.
    """
    top: BaseException = error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PerturbRLError | MisconfigurationException):
            return str(cause)
        cause = cause.__cause__
    if isinstance(top, OSError) and top.errno in UNWRITABLE:
        where = f"'{top.filename}'" if top.filename else "the run folder"
        return (
            f"cannot write {where} ({top.strerror}); make space, or give another folder with "
            "--trainer.logger.init_args.save_dir; what was saved before is whole"
        )
    return None


if __name__ == "__main__":
    main()
