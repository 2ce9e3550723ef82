"""What happens around the iterations: progress, warnings, and the report."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from torch import Tensor

from perturbrl.errors import ConfigurationError
from perturbrl.rl.outcomes import TrustRegionOutcome
from perturbrl.training.iteration import iteration_line, outcome_in, short_line
from perturbrl.training.two_stage import TwoStageModule


def _metrics_of(module: LightningModule) -> Mapping[str, float]:
    """Those of the last iteration alone: the trainer's keep what an earlier one logged and this one did not."""
    assert isinstance(module, TwoStageModule)
    return module.last_iteration.metrics()


class IterationProgress(ProgressBar):
    """A progress bar over iterations on a terminal, one line per iteration elsewhere.

    Args:
        log_every_n_iterations: iterations between two lines where there is no terminal.
    """

    def __init__(self, log_every_n_iterations: int = 10) -> None:
        super().__init__()
        self.log_every_n_iterations = log_every_n_iterations
        self._enabled = True
        self._progress: Progress | None = None

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning calls it on every rank but the first."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        if not (self._enabled and sys.stderr.isatty()):
            return
        self._progress = Progress(
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", table_column=Column(overflow="fold")),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=trainer.max_epochs, completed=trainer.current_epoch)
        self._progress.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the iteration that has ended."""
        if not self._enabled:
            return
        metrics, done = _metrics_of(pl_module), trainer.current_epoch + 1
        if self._progress is not None:
            self._progress.update(self._task, completed=done, description=short_line(metrics))
        elif done % self.log_every_n_iterations == 0 or done in (1, trainer.max_epochs):
            print(
                f"iteration {done}/{trainer.max_epochs}: {iteration_line(metrics)}",
                file=sys.stderr,
                flush=True,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the message stands on a line of its own."""
        self.on_train_end(trainer, pl_module)


class LastCheckpoint(ModelCheckpoint):
    """The checkpoint of the last iteration; of a run without any, what was fitted to the cells."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where no iteration has."""
        if trainer.max_epochs == 0 and self.dirpath is not None:
            trainer.save_checkpoint(Path(self.dirpath) / f"{self.filename}{self.FILE_EXTENSION}")


class KeptCheckpoints(ModelCheckpoint):
    """Checkpoints that stay, beside the last and the best one: ``iteration_N.ckpt`` after N iterations.

    Args:
        every_n_iterations: iterations from one to the next; null keeps none.

    Raises:
        ConfigurationError: the number is below 1.
    """

    def __init__(self, every_n_iterations: int | None = None) -> None:
        if every_n_iterations is not None and every_n_iterations < 1:
            raise ConfigurationError(
                f"kept_checkpoints.every_n_iterations is {every_n_iterations}; give at least 1, or null"
            )
        super().__init__(
            every_n_epochs=every_n_iterations or 1,
            save_top_k=0 if every_n_iterations is None else -1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def format_checkpoint_name(self, metrics: dict[str, Tensor], *args: Any, **kwargs: Any) -> str:
        """Name a checkpoint after the number of iterations done."""
        assert self.dirpath is not None
        return str(Path(self.dirpath) / f"iteration_{int(metrics['epoch']) + 1}{self.FILE_EXTENSION}")


class NoEmptyRun(Callback):
    """A fit that fails before anything was saved leaves no empty run folder behind."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the loggers' folders where they hold nothing, and those around them; one that holds anything stays."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if logger.log_dir is not None:
                _remove_empty(Path(logger.log_dir), Path(logger.save_dir or logger.log_dir))


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder and those that it lies in, up to ``top``, as far as they are empty."""
    with suppress(OSError):  # it holds something
        for one in (folder, *(parent for parent in folder.parents if parent.is_relative_to(top))):
            if one.exists():
                one.rmdir()


class StageWarnings(Callback):
    """Says once when a stage does nothing: steps all rejected, or no PPO step taken.

    Args:
        patience: iterations in a row after which it says so.
    """

    def __init__(self, patience: int = 5) -> None:
        self.patience = patience
        self._rejected: list[TrustRegionOutcome] = []
        self._without_step = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count idle stages."""
        assert isinstance(pl_module, TwoStageModule)
        self.count(_metrics_of(pl_module), pl_module.ppo.epochs)

    def count(self, metrics: Mapping[str, Any], ppo_epochs: int) -> None:
        """Count idle stages in one iteration's metrics, and warn where one has been idle for long.

        Args:
            metrics: of the iteration.
            ppo_epochs: passes over the batch that stage 2 may make.
        """
        outcome = outcome_in(metrics)
        if outcome is not None:
            self._rejected = [] if outcome is TrustRegionOutcome.ACCEPTED else [*self._rejected, outcome]
            if len(self._rejected) == self.patience:
                rank_zero_warn(f"in {self.patience} iterations in a row {_rejections(self._rejected)}")
        if "ppo/steps" in metrics:
            self._without_step = 0 if int(metrics["ppo/steps"]) else self._without_step + 1
            if self._without_step == self.patience:
                cause = (
                    "the KL limit stops it at once; raise model.ppo.target_kl or model.ppo.kl_stop"
                    if ppo_epochs
                    else "model.ppo.epochs is 0; give at least 1, or model.schedule trust_region_only"
                )
                rank_zero_warn(f"in {self.patience} iterations in a row stage 2 took no step: {cause}")


def _rejections(outcomes: Sequence[TrustRegionOutcome]) -> str:
    found = [f"{o.value}, {outcomes.count(o)} times: {o.meaning}" for o in dict.fromkeys(outcomes)]
    return f"the natural step was rejected ({'. '.join(found)})"
