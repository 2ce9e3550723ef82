"""What the commands do, as Python calls."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Final, Literal, ParamSpec, TypeVar

from anndata import AnnData
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

from perturbrl.data.aliases import read_aliases
from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.populations import conditions_in
from perturbrl.data.presets import ColumnOptions, detect_fields
from perturbrl.data.reading import ValueKind
from perturbrl.data.splits import HeldOutCells, SplitStrategy
from perturbrl.embeddings.base import Encoder
from perturbrl.errors import ConfigurationError, option_meant
from perturbrl.planning.outcome_search import CURVES
from perturbrl.planning.planned_experiments import GOALS
from perturbrl.reporting.callback import ReportCallback
from perturbrl.reporting.experiment_planning import PlanOptions, one_of, plan_experiments
from perturbrl.reporting.next_experiments import NextExperiments
from perturbrl.reporting.report import Report
from perturbrl.reporting.responses import Responses
from perturbrl.responses.answers import answer, fit_kriging
from perturbrl.responses.prior_files import Paths, read_priors
from perturbrl.schema import CONTROL_LABEL, PERTURBATION_OBS
from perturbrl.training.adverts import silence_adverts
from perturbrl.training.callbacks import IterationProgress, NoEmptyRun, StageWarnings
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.shipped_models import (
    LANDSCAPE_ITERATIONS,
    SCREEN_ITERATIONS,
    TOP_GENES,
    landscape_model,
    screen_encoder,
    screen_model,
)
from perturbrl.training.two_stage import TwoStageModule

# As configs/gene_screen.yaml and configs/landscape.yaml have them.
COLUMNS_REMEDY: Final = "give {'perturbation_key': ..., 'control_value': ..., 'cell_type_key': ...}"

Columns = ColumnOptions | Mapping[str, str | None]

P = ParamSpec("P")
Result = TypeVar("Result")


def _with_known_options(call: Callable[P, Result]) -> Callable[P, Result]:
    """Let a mistyped option be a user's error that names the closest one."""
    options = list(signature(call).parameters)

    @wraps(call)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Result:
        for name in kwargs:
            if name not in options:
                raise ConfigurationError(
                    f"{call.__name__} has no option '{name}'; {option_meant(name, options)}"
                )
        bound = signature(call).bind(*args, **kwargs)
        given = bound.arguments
        if given.get("adata") is not None or call.__name__ != "next_experiments":
            _require_type(call.__name__, given, "adata", (AnnData,), "read the file with anndata.read_h5ad")
        _require_type(call.__name__, given, "queries", (str, Collection), "name the perturbations")
        _require_texts("queries", given.get("queries"))
        _require_type(call.__name__, given, "columns", (ColumnOptions, Mapping), COLUMNS_REMEDY)
        return call(*args, **kwargs)

    return checked


def _require_type(
    call: str, arguments: Mapping[str, object], name: str, wanted: tuple[type, ...], remedy: str
) -> None:
    given = arguments.get(name)
    if name in arguments and not isinstance(given, wanted):
        kinds = " or ".join(kind.__name__ for kind in wanted)
        raise ConfigurationError(f"{call}: {name} is {type(given).__name__}, not {kinds}; {remedy}")


def _require_texts(name: str, given: object) -> None:
    others = [] if isinstance(given, str) or not isinstance(given, Collection) else list(given)
    wrong = next((one for one in others if not isinstance(one, str)), None)
    if wrong is not None:
        raise ConfigurationError(
            f"{name} holds {wrong!r}, of type {type(wrong).__name__}; give names as text"
        )


def _listed(names: str | Collection[str]) -> list[str]:
    """One name, or several; a text is a sequence of letters, which nobody means."""
    return [names] * bool(names) if isinstance(names, str) else list(names)


@_with_known_options
def design(
    adata: AnnData,
    target: str,
    *,
    source: str = CONTROL_LABEL,
    learn_target: bool = False,
    allowed_perturbations: str | Sequence[str] | None = None,
    max_perturbations: int | None = None,
    min_dose: float | None = None,
    columns: Columns = ColumnOptions(),  # noqa: B008  frozen
    value_kind: ValueKind | None = None,
    split: SplitStrategy | None = None,
    goal_fraction: float = 0.5,
    reference_fraction: float = 0.2,
    n_top_genes: int | Literal["all"] | None = None,
    encoder: Encoder | None = None,
    time_key: str | None = None,
    pseudotime_key: str | None = None,
    root: str | None = None,
    model: TwoStageModule | None = None,
    max_epochs: int | None = None,
    folder: str | Path = "runs",
    seed: int | None = None,
    key_added: str | None = None,
) -> Report:
    """Find the perturbations that bring cells to ``target``, and judge them on held-out cells.

    Towards cells under a perturbation, the same as ``perturbrl fit`` and ``perturbrl test`` with
    ``configs/gene_screen.yaml``: cells go where kriging expects them under all doses together, the target's cells
    held out of all fitting.
    Towards a state that cells reach by themselves (``cell_type=Erythrocyte``), with ``configs/landscape.yaml``: a
    landscape learned from one half of the cells, and designs judged on one learned from the other half.

    Args:
        adata: control and perturbed cells, or for a landscape cells that nobody perturbed; conventions are recognised
            as in ``perturbrl inspect``.
        target: where cells should go: a perturbation of ``adata``, a query of its obs (``cell_type=Erythrocyte``,
            ``cell_type=B,perturbation=IFNB``), or a cell type by its name alone (``Erythrocyte``).
        source: where cells start, named in the same way.
        learn_target: whether genes, encoder and twin learn from those cells of the target that define the goal, as a
            landscape must; a query without a perturbation as target asks for one.
        allowed_perturbations: the only perturbations that may be dosed: names, or a file of one name a line, of which
            those that the data know; ``None`` allows all.
        max_perturbations: different perturbations per cell, at most; ``None`` is three towards measured cells, and no
            limit on a landscape.
        min_dose: share of the dose range below which a dose counts as unused; ``None`` keeps the twin's own.
        columns: which columns of obs say what, where they are not recognised: ``{"cell_type_key": "cluster"}``, or
            `ColumnOptions`, which names the keys.
        value_kind: what the values are (``counts``, ``log1p``, ``normalised``); ``None`` tells by them.
        split: which cells are held out; ``None`` holds out a fifth of every population, and half for a landscape.
        goal_fraction: share of the target's cells that defines the goal; only the rest judges.
        reference_fraction: share of the source's cells that the encoder is not fitted on, to tell the target from.
        n_top_genes: highly variable genes kept, chosen on training cells; ``None`` keeps 2,000, and for a landscape
            ``all``, since factors that vary little are genes, too.
        encoder: turns expression into cell states; ``None`` is 20 principal components, whitened towards cells under a
            perturbation.
        time_key: obs column with the time at which a cell was taken, for twins that need an order of cells; ``None``
            recognises a plain name (``time``, ``day``, ``hours``), else pseudotime.
        pseudotime_key: obs column with pseudotime, in place of time points; ``None`` recognises a plain name.
        root: population that the others come from, from which diffusion pseudotime is computed, in place of a column.
        model: twin, task and optimiser; ``None`` is the configuration's.
        max_epochs: iterations of the two-stage optimiser; ``None`` is 80, and 60 for a landscape.
        folder: a run folder ``design/version_K`` is made below it.
        seed: of first weights and all random streams; ``None`` keeps the model's own.
        key_added: also put the result into ``adata``: ``uns[key_added]`` holds answer, tables and guide list,
            ``obsm["X_<key_added>"]`` every cell's state; ``None`` leaves ``adata`` as it is.

    Returns:
        Report: written to ``report.folder``; ``report.hits`` are the ranked perturbations.

    Raises:
        PerturbRLError: the data or an option cannot be used; the message says what to do.
    """
    learn_target = learn_target or _is_state(adata, target, ColumnOptions.of(columns))
    if learn_target and split is None:
        split = HeldOutCells(0.5)
    allowed = allowed_perturbations
    allowed = allowed if allowed is None or isinstance(allowed, str) else list(allowed)
    data = PerturbationDataModule.from_adata(
        adata,
        target,
        source=source,
        learn_target=learn_target,
        allowed_perturbations=allowed,
        max_perturbations=max_perturbations,
        min_dose=min_dose,
        columns=ColumnOptions.of(columns),
        value_kind=value_kind,
        split=split,
        goal_fraction=goal_fraction,
        reference_fraction=reference_fraction,
        n_top_genes=_genes_kept(n_top_genes, learn_target=learn_target),
        encoder=screen_encoder() if encoder is None and not learn_target else encoder,
        time_key=time_key,
        pseudotime_key=pseudotime_key,
        root=root,
    )
    module = model or (landscape_model() if learn_target else screen_model(max_perturbations or 3))
    module.seed = module.seed if seed is None else seed
    iterations = (
        (LANDSCAPE_ITERATIONS if learn_target else SCREEN_ITERATIONS) if max_epochs is None else max_epochs
    )
    report = _trained_and_judged(module, data, iterations, folder)
    if key_added is not None:
        adata.uns[key_added] = report.to_uns()
        adata.obsm[f"X_{key_added}"] = data.measured.every_state().cpu().numpy()
    return report


def _genes_kept(n_top_genes: int | Literal["all"] | None, *, learn_target: bool) -> int | None:
    """How many genes are kept; ``None`` for all."""
    if n_top_genes is None:
        return None if learn_target else TOP_GENES
    return None if n_top_genes == "all" else n_top_genes


def _is_state(adata: AnnData, target: str, columns: ColumnOptions) -> bool:
    """Whether a target is a cell type, or a query that says nothing of a perturbation, and no label either."""
    asked = [condition.name for condition in conditions_in(target)]
    fields = detect_fields(adata, columns, labels_needed=False)
    key, types = fields.perturbation_key, fields.cell_type_key
    if key is not None and target in set(adata.obs[key]):
        return False
    if not asked:
        return types is not None and target in set(adata.obs[types])
    return not {key, PERTURBATION_OBS} & set(asked)


def _trained_and_judged(
    module: TwoStageModule, data: PerturbationDataModule, max_epochs: int, folder: str | Path
) -> Report:
    logger = CSVLogger(folder, name="design")
    judge = ReportCallback(logger.log_dir)
    callbacks: list[Callback] = [IterationProgress(), StageWarnings(), NoEmptyRun(), judge]
    silence_adverts()
    trainer = Trainer(
        max_epochs=max_epochs,
        logger=logger,
        callbacks=callbacks,
        enable_model_summary=False,
        log_every_n_steps=1,
        enable_checkpointing=False,
    )
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    assert judge.report is not None
    return judge.report


@_with_known_options
def respond(
    adata: AnnData,
    queries: str | Collection[str],
    *,
    gene_sets: Paths = (),
    edges: Paths = (),
    features: Paths = (),
    reference: str | Path | None = None,
    aliases: str | Path | None = None,
    cell_type_key: str | None = None,
    columns: Columns = ColumnOptions(),  # noqa: B008  frozen
    value_kind: ValueKind | None = None,
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
        reference: another screen (.h5ad): the same target may do there what it does here.
        aliases: table of two columns, another name and the one the data use; for queries and prior knowledge.
        cell_type_key: obs column with the cell types, in each of which an effect may differ. It is one column: where
            donors or times differ, too, join their columns into one.
        columns: which columns of obs say what, where they are not recognised: ``{"cell_type_key": "cluster"}``, or
            `ColumnOptions`, which names the keys.
        value_kind: what the values are (``counts``, ``log1p``, ``normalised``); ``None`` tells by them.
        n_cells: predicted cells of each query, as counts beside the real control cells; 0 makes none.
        seed: of the cells drawn.

    Returns:
        Responses: ``.delta`` and ``.sd`` by query and gene, ``.evidence``, ``.claimed`` (whether there is an effect),
            ``.genes(query, direction)``, ``.sentences``, ``.cells``; ``.save(folder)`` writes tables, cells and a
            report.

    Raises:
        PerturbRLError: the data, a file or a query cannot be used; the message says what to do.
    """
    dataset = _dataset_of(adata, columns, cell_type_key, value_kind)
    model, genes = fit_kriging(dataset, read_priors(gene_sets, edges, features, reference, aliases))
    names = {} if aliases is None else read_aliases(aliases)
    found = answer(model, dataset, genes, _listed(queries), aliases=names, n_cells=n_cells, seed=seed)
    return Responses.of(found)


@_with_known_options
def next_experiments(
    adata: AnnData | None,
    n: int = 10,
    *,
    goal: str | None = None,
    target: str | None = None,
    outcome: Paths = (),
    candidates: str | Sequence[str] | None = None,
    costs: str | Path | Mapping[str, float] | None = None,
    gene_sets: Paths = (),
    edges: Paths = (),
    features: Paths = (),
    reference: str | Path | None = None,
    aliases: str | Path | None = None,
    cell_type_key: str | None = None,
    columns: Columns = ColumnOptions(),  # noqa: B008  frozen
    value_kind: ValueKind | None = None,
    expected: str = "parabola",
    n_strongest: int | None = None,
    seed: int = 0,
) -> NextExperiments:
    """Say which perturbations or combinations to measure next, beside random choice, uncertainty alone and greedy.

    Args:
        adata: control and perturbed cells; conventions are recognised as in ``perturbrl inspect``. ``None`` where an
            outcome is all there is.
        n: experiments of the batch.
        goal: ``responses`` (predictions of all candidates become surer), ``target`` (come nearer to a population than
            what was measured) or ``interactions`` (combinations that deviate from the sum of their parts); ``None``
            is ``interactions`` of an outcome, else ``responses``.
        target: the population to reach: a perturbation of ``adata``, whose cells are not learned from, or a query of
            its obs.
        outcome: tables of a number, such as growth, of single perturbations and of pairs (``KLF1 0.2``,
            ``KLF1+MAP2K6 0.1`` or ``KLF1 MAP2K6 0.1``): pairs are chosen for it, in place of expression.
        candidates: names, or a file of one a line; ``None`` takes perturbations that prior knowledge likens to measured
            ones and pairs of those measured alone.
        costs: table of a name and its cost, or a mapping; a combination costs the sum of its parts unless it has a
            cost of its own. Gain is divided by it.
        gene_sets: GMT files, plain or gzipped: genes of one set may do alike.
        edges: edge lists such as STRING's: genes with the same neighbours may do alike.
        features: tables of numbers by perturbation.
        reference: another screen (.h5ad): the same target may do there what it does here.
        aliases: table of two columns, another name and the one the data use; for candidates and prior knowledge.
        cell_type_key: obs column with the cell types, in each of which an effect may differ.
        columns: which columns of obs say what, where they are not recognised: ``{"cell_type_key": "cluster"}``, or
            `ColumnOptions`, which names the keys.
        value_kind: what the values are (``counts``, ``log1p``, ``normalised``); ``None`` tells by them.
        expected: curve over the singles' sum from which interactions of an outcome count, a ``parabola`` or a ``line``.
        n_strongest: how many of the strongest interactions of an outcome are sought; ``None`` is 2 % of all pairs.
        seed: of draws and random batches.

    Returns:
        NextExperiments: ``.table`` (name, evidence, expected effect with interval, gain, cells needed, cost, reason),
            ``.compared`` with other ways to choose, ``.candidates``; ``.save(folder)`` writes tables and a page.

    Raises:
        PerturbRLError: the data, a file or an option cannot be used; the message says what to do.
    """
    dataset = None if adata is None else _dataset_of(adata, columns, cell_type_key, value_kind)
    options = PlanOptions(
        goal=None if goal is None else one_of("goal", goal, GOALS),
        target=target,
        outcome=outcome,
        candidates=candidates,
        costs=costs,
        gene_sets=gene_sets,
        edges=edges,
        features=features,
        reference=reference,
        aliases=aliases,
        expected=one_of("expected", expected, CURVES),
        n_strongest=n_strongest,
        seed=seed,
    )
    return plan_experiments(dataset, n, options)


def _dataset_of(
    adata: AnnData, columns: Columns, cell_type_key: str | None, value_kind: ValueKind | None
) -> PerturbationDataset:
    fields = detect_fields(adata, _with_cell_types(ColumnOptions.of(columns), cell_type_key))
    return PerturbationDataset.from_adata(adata, fields, value_kind)


def _with_cell_types(columns: ColumnOptions, cell_type_key: str | None) -> ColumnOptions:
    if cell_type_key is None:
        return columns
    if columns.cell_type_key not in (None, cell_type_key):
        raise ConfigurationError(
            f"cell_type_key is '{cell_type_key}' and columns.cell_type_key is '{columns.cell_type_key}'; give one"
        )
    return replace(columns, cell_type_key=cell_type_key)
