"""What the commands do, as Python calls."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anndata import AnnData
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.presets import ColumnOptions, detect_fields
from perturbrl.reporting.callback import ReportCallback
from perturbrl.reporting.report import Report
from perturbrl.responses.answers import Paths, Responses, answer, read_priors
from perturbrl.training.callbacks import IterationProgress, StageWarnings
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    TrustRegionOptions,
)
from perturbrl.training.two_stage import TwoStageModule


def design(
    adata: AnnData,
    target: str,
    *,
    model: TwoStageModule | None = None,
    max_epochs: int = 80,
    folder: str | Path = "runs",
    seed: int = 0,
    **data_options: Any,
) -> Report:
    """Find the perturbations that bring control cells to ``target``, and judge them on held-out cells.

    The same as ``perturbrl fit`` and ``perturbrl test`` with ``configs/gene_screen.yaml``: a linear twin with
    measured effects, the target's cells held out of all fitting.

    Args:
        adata: control and perturbed cells; conventions are recognised as in ``perturbrl inspect``.
        target: a perturbation of ``adata``.
        model: twin, task and optimiser; the configuration's by default.
        max_epochs: iterations of the two-stage optimiser.
        folder: a run folder ``design/version_K`` is made below it.
        seed: of the default model.
        **data_options: options of ``PerturbationDataModule``, such as ``max_perturbations``.

    Returns:
        Report: written to ``report.folder``; ``report.hits`` are the ranked perturbations.

    Raises:
        PerturbRLError: the data or an option cannot be used; the message says what to do.
    """
    data = PerturbationDataModule.from_adata(adata, target, **data_options)
    logger = CSVLogger(folder, name="design")
    judge = ReportCallback(logger.log_dir)
    callbacks: list[Callback] = [IterationProgress(), StageWarnings(), judge]
    trainer = Trainer(
        max_epochs=max_epochs,
        logger=logger,
        callbacks=callbacks,
        enable_model_summary=False,
        log_every_n_steps=1,
        enable_checkpointing=False,
    )
    module = screen_model(seed) if model is None else model
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    assert judge.report is not None
    return judge.report


def respond(
    adata: AnnData,
    queries: Sequence[str],
    *,
    gene_sets: Paths = (),
    edges: Paths = (),
    features: Paths = (),
    cell_type_key: str | None = None,
    n_cells: int = 0,
    seed: int = 0,
) -> Responses:
    """Say what perturbations do to cells, measured or not: shift, interval and evidence of each.

    Args:
        adata: control and perturbed cells; conventions are recognised as in ``perturbrl inspect``.
        queries: ``STAT1``, ``KLF1+MAP2K6`` (together), ``dexamethasone:3`` (dose), ``IFNB@NK`` (cell type).
        gene_sets: GMT files, plain or gzipped: genes of one set may do alike.
        edges: edge lists such as STRING's: genes with the same neighbours may do alike.
        features: tables of numbers by perturbation.
        cell_type_key: obs column with cell types, in each of which an effect may differ.
        n_cells: predicted cells of each query, as counts beside the real control cells; 0 makes none.
        seed: of the cells drawn.

    Returns:
        Responses: ``.delta`` and ``.sd`` by query and gene, ``.evidence``, ``.sentences``, ``.cells``.

    Raises:
        PerturbRLError: the data, a file or a query cannot be used; the message says what to do.
    """
    dataset = PerturbationDataset.from_adata(
        adata, detect_fields(adata, ColumnOptions(cell_type_key=cell_type_key))
    )
    return answer(dataset, queries, read_priors(gene_sets, edges, features), n_cells=n_cells, seed=seed)


def screen_model(seed: int = 0) -> TwoStageModule:
    """The model of ``configs/gene_screen.yaml``."""
    return TwoStageModule(
        policy=PolicyOptions(init_log_std=-1.5),
        rollout=RolloutOptions(n_cells=2048),
        trust_region=TrustRegionOptions(max_kl=0.3),
        ppo=PPOOptions(minibatch_size=512),
        critic=CriticOptions(minibatch_size=512),
        seed=seed,
    )
