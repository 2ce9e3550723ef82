"""The callback that judges a trained design and writes its report into the run's folder."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import pandas as pd
import yaml
from anndata import AnnData
from lightning import Callback, LightningModule, Trainer
from rich.console import Console

from perturbrl.data.aliases import read_aliases
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.design import UnseenCells
from perturbrl.evaluation.simulation import PolicyDesign
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.reporting.figures import learning_figure
from perturbrl.reporting.judge import Finished, judge, predict
from perturbrl.reporting.judged import POLICY, Judged
from perturbrl.reporting.judging_twins import judging_problems
from perturbrl.reporting.likely_run import likely_sets
from perturbrl.reporting.report import Report
from perturbrl.reporting.response_report import ResponseReport
from perturbrl.reporting.response_run import (
    RespondingRun,
    asked_run,
    in_terminal,
    judged_run,
    judgement_of,
    on_everything,
)
from perturbrl.reporting.response_tables import answers_in_text, explains, source_in_words
from perturbrl.responses.answered_cells import require_number
from perturbrl.schema import CellState
from perturbrl.training.progress import working
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.corrected_kriging import CorrectedKriging
from perturbrl.twins.residual import ResidualTwin

_SHOWN: Final = 10


class ReportCallback(Callback):
    """Evaluates the design after ``test`` and ``predict`` and writes the report into the run's folder.

    Args:
        folder: run folder; null takes it from the checkpoint's path, else from the logger.
        search: also judge the planners that search on the twin (lookahead, cross-entropy, MPC, exhaustive); null
            does so where the twin is linear, because on a network it takes minutes.
        n_cells: where there is no target, predicted cells of each query, if the file holds counts; 0 makes none.

    Raises:
        ConfigurationError: ``n_cells`` is negative.
    """

    def __init__(self, folder: str | None = None, search: bool | None = None, n_cells: int = 100) -> None:
        require_number(n_cells)
        self.folder, self.search, self.n_cells = folder, search, n_cells
        self.report: Report | None = None
        self.responses: ResponseReport | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to train what could not be reported on.

        Raises:
            ConfigurationError: there is no target, and the twin predicts no responses either.
            DataError: no twin can be learned from the half of the cells that judges.
        """
        assert isinstance(pl_module, TwoStageModule)
        if answers_queries(pl_module):
            require_responses(pl_module.twin)
        elif pl_module.env is None:
            judging_problems(design_problem(pl_module), pl_module.data)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what makes perturbations alike, and whether what the policy learned is used."""
        assert isinstance(pl_module, TwoStageModule)
        if trainer.is_global_zero and answers_queries(pl_module):
            run = responding(pl_module, self.n_cells)
            shares = [
                f"{source_in_words(name)} explains {explains(share)}"
                for name, share in run.kriging.weights.items()
            ]
            print("; ".join(shares) + ".", run.decision, sep="\n", file=sys.stderr)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the design, or predicted responses, on held-out cells."""
        assert isinstance(pl_module, TwoStageModule)
        if pl_module.env is not None:
            return
        run = self._run_folder(trainer)
        if trainer.is_global_zero and answers_queries(pl_module):
            with working("judging responses"):
                found = judged_run(responding(pl_module, self.n_cells), learning_figure(learning_curves(run)))
            self._finish_responses(found.report, run)
            _write_pair(found.real, found.predicted, run)
        elif trainer.is_global_zero:
            judged, cells = judged_of(pl_module), unseen_cells(pl_module)
            judges = judging_problems(judged.problem, pl_module.data)
            judged = replace(judged, judges=judges, likely=likely_sets(pl_module))
            self._finish(judge(judged, cells, learning_curves(run), search=self.search), run)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Apply the design to the cells of the file, or answer queries."""
        assert isinstance(pl_module, TwoStageModule)
        run, queries = self._run_folder(trainer), pl_module.data.queries
        if trainer.is_global_zero and answers_queries(pl_module):
            figures = learning_figure(learning_curves(run))
            with working("answering queries"):
                asked = on_everything(responding(pl_module, self.n_cells))
                report = asked_run(asked, queries, figures, judgement_of(run))
            self._finish_responses(report, run)
        elif trainer.is_global_zero:
            self._finish(predict(judged_of(pl_module), cells_to_dose(pl_module), learning_curves(run)), run)

    def _finish(self, finished: Finished, run: Path) -> None:
        self.report = finished.report
        with working("writing the report"):
            path = self.report.write(unused(run, "report"))
        finished.predictions.write_h5ad(unused(run, "predictions", ".h5ad"))
        if finished.response is not None:
            _write_pair(finished.response.real, finished.response.predicted, run)
        print(self.report.answer)
        print(f"report: {path}")

    def _finish_responses(self, report: ResponseReport, run: Path) -> None:
        self.responses = report
        with working("writing the report"):
            path = report.write(unused(run, "report"))
        judged = [table for table in report.tables() if table.key == "judged"]
        for table in judged:
            Console(width=160, highlight=False).print(in_terminal(table))
        if not judged:
            print(answers_in_text(report.answers, _SHOWN, str(path.parent / "responses.csv")))
        said = [report.question[name] for name in ("learned from", "policy") if name in report.question]
        print(report.answer, *report.chosen, *said, f"report: {path}", sep="\n")

    def _run_folder(self, trainer: Trainer) -> Path:
        # Called by every process: the logger's folder is broadcast.
        if self.folder is not None:
            return Path(self.folder)
        if trainer.ckpt_path:
            return run_folder(Path(trainer.ckpt_path))
        return Path(trainer.log_dir or trainer.default_root_dir)


def _write_pair(real: AnnData | None, predicted: AnnData | None, run: Path) -> None:
    """Measured and predicted cells for cell-eval, where there are any."""
    if real is None or predicted is None:
        return
    folder = unused(run, "cell_eval")
    folder.mkdir()
    predicted.write_h5ad(folder / "predicted.h5ad")
    real.write_h5ad(folder / "real.h5ad")


def judged_of(module: TwoStageModule) -> Judged:
    """What a report says of a module that was trained, or restored from a checkpoint."""
    data, target = module.data, module.data.target
    assert target is not None
    return Judged(
        problem=design_problem(module),
        policy=policy_design(module),
        source=data.source,
        target=target,
        reference_cells=module.reference_cells,
        gene_names=module.gene_names,
        measured=data.measured if data.has_cells else None,
        file=file_of(module),
        training=in_words_of_training(module),
    )


def answers_queries(module: TwoStageModule) -> bool:
    """Whether a module predicts responses, to what is asked; otherwise it designs, for one target."""
    return module.env is None and module.data.target is None


def responding(module: TwoStageModule, n_cells: int) -> RespondingRun:
    """What a report says of a module that predicts responses.

    Raises:
        ConfigurationError: its twin does not.
    """
    data, twin = module.data, require_responses(module.twin)
    decision = module.decision()
    return RespondingRun(
        cells=data.measured,
        kriging=twin.response,
        used=CorrectedKriging(twin, module.move) if decision.kept else twin.response,
        decision=decision.sentence,
        training=in_words_of_training(module),
        file=file_of(module),
        aliases=read_aliases(data.aliases) if data.aliases else {},
        n_cells=n_cells,
        seed=module.seed,
    )


def require_responses(twin: DigitalTwin) -> ResidualTwin:
    """A twin that predicts responses.

    Raises:
        ConfigurationError: it does not.
    """
    if not isinstance(twin, ResidualTwin):
        raise ConfigurationError(
            f"data.target is null, and {type(twin).__name__} predicts no responses; name a target, or use ResidualTwin"
        )
    return twin


def file_of(module: TwoStageModule) -> str:
    """Where a module's cells are from."""
    return str(module.data.path or ("simulated screen" if module.data.synthetic else "in memory"))


def in_words_of_training(module: TwoStageModule) -> str:
    """How a policy was trained."""
    cells = module.rollout.n_cells
    return f"schedule '{module.schedule}', {cells} simulated cells per iteration, seed {module.seed}"


def design_problem(module: TwoStageModule) -> DesignProblem:
    """What planners may know of the module's problem."""
    return DesignProblem(
        twin=module.twin,
        task=module.task,
        space=module.require_space(),
        horizon=module.rollout.horizon,
        goal_cells=module.goal_cells,
        seed=module.seed,
    )


def policy_design(module: TwoStageModule, name: str = POLICY) -> PolicyDesign:
    """The module's policy as a design that gives doses."""
    return PolicyDesign(module.actor, name, module.menu)


def unseen_cells(module: TwoStageModule) -> UnseenCells:
    """What judges the module's design; a network's own cells, which nothing was fitted on."""
    data = module.data
    if not data.has_cells:
        return UnseenCells(module.twin.place(module.twin.start_cells), module.goal_cells)
    start, target = data.cells(data.source, "test"), data.cells(str(data.target), "test")
    if data.learn_target:
        return UnseenCells(start, target)
    return UnseenCells(start, target, module.reference_cells, module.goal_cells)


def cells_to_dose(module: TwoStageModule) -> CellState:
    """Every start cell of the file; a network's own."""
    data = module.data
    return data.cells(data.source, "all") if data.has_cells else module.twin.start_cells


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
