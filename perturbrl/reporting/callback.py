"""The callback that judges a trained design and writes its report into the run's folder."""

from pathlib import Path

import pandas as pd
import yaml
from lightning import Callback, LightningModule, Trainer

from perturbrl.reporting.judge import Finished, judge, predict
from perturbrl.reporting.report import Report
from perturbrl.training.progress import working
from perturbrl.training.two_stage import TwoStageModule


class ReportCallback(Callback):
    """Evaluates the design after ``test`` and ``predict`` and writes the report into the run's folder.

    Args:
        folder: run folder; null takes it from the checkpoint's path, else from the logger.
        search: also judge the planners that search on the twin (lookahead, cross-entropy, MPC, exhaustive); null
            does so where the twin is linear, because on a network it takes minutes.
    """

    def __init__(self, folder: str | None = None, search: bool | None = None) -> None:
        self.folder, self.search = folder, search
        self.report: Report | None = None

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the design on held-out cells."""
        assert isinstance(pl_module, TwoStageModule)
        if pl_module.env is not None:
            return
        run = self._run_folder(trainer)
        if trainer.is_global_zero:
            self._finish(judge(pl_module, learning_curves(run), search=self.search), run)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Apply the design to the cells of the file."""
        assert isinstance(pl_module, TwoStageModule)
        run = self._run_folder(trainer)
        if trainer.is_global_zero:
            self._finish(predict(pl_module, learning_curves(run)), run)

    def _finish(self, finished: Finished, run: Path) -> None:
        self.report = finished.report
        with working("writing the report"):
            path = self.report.write(unused(run, "report"))
        finished.predictions.write_h5ad(unused(run, "predictions", ".h5ad"))
        response = finished.response
        if response is not None and response.predicted is not None and response.real is not None:
            folder = unused(run, "cell_eval")
            folder.mkdir()
            response.predicted.write_h5ad(folder / "predicted.h5ad")
            response.real.write_h5ad(folder / "real.h5ad")
        print(self.report.answer)
        print(f"report: {path}")

    def _run_folder(self, trainer: Trainer) -> Path:
        # Called by every process: the logger's folder is broadcast.
        if self.folder is not None:
            return Path(self.folder)
        if trainer.ckpt_path:
            return run_folder(Path(trainer.ckpt_path))
        return Path(trainer.log_dir or trainer.default_root_dir)


def learning_curves(run: Path) -> pd.DataFrame | None:
    """A run's metrics, those of the runs it was resumed from first; ``None`` where nothing was logged to CSV."""
    path, config = run / "metrics.csv", run / "config.yaml"
    own = pd.read_csv(path) if path.is_file() else None
    parent = yaml.safe_load(config.read_text()).get("ckpt_path") if config.is_file() else None
    if own is None or parent is None or run_folder(Path(parent)) == run.resolve():
        return own
    before = learning_curves(run_folder(Path(parent)))
    if before is None:
        return own
    return pd.concat((before[before["epoch"] < own["epoch"].min()], own), ignore_index=True)


def run_folder(checkpoint: Path) -> Path:
    """The run that a checkpoint belongs to: the parent of ``checkpoints/``, else the checkpoint's own folder."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def unused(folder: Path, stem: str, ending: str = "") -> Path:
    """``stem``, or ``stem_2``, ``stem_3``... in ``folder``: the first that does not exist yet."""
    path, number = folder / f"{stem}{ending}", 2
    while path.exists():
        path, number = folder / f"{stem}_{number}{ending}", number + 1
    return path
