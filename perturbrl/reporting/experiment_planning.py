"""From cells or outcomes, and what is asked of them, to the next experiments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_matrix

from perturbrl.data.aliases import read_aliases
from perturbrl.data.costs import Costs
from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.outcomes import read_outcomes
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import ConfigurationError
from perturbrl.planning.expression_plan import ExpressionQuestion, plan_by_expression
from perturbrl.planning.next_candidates import candidates_of
from perturbrl.planning.outcome_plan import plan_by_outcome
from perturbrl.planning.outcome_question import OutcomeQuestion
from perturbrl.planning.outcome_search import Expected
from perturbrl.planning.planned_experiments import Goal, PlannedExperiments
from perturbrl.reporting.next_experiments import NextExperiments
from perturbrl.responses.answers import fit_kriging, known_of
from perturbrl.responses.prior_files import Paths, read_priors
from perturbrl.responses.reference import reference_of
from perturbrl.responses.training_cells import ONE_CONTEXT, TrainingCells
from perturbrl.schema import GeneVector

Choice = TypeVar("Choice", bound=str)


@dataclass(frozen=True)
class PlanOptions:
    """What is asked of next experiments, and what is known.

    Args:
        goal: responses (predictions of all candidates become surer), target (come nearer to a population than what was
            measured) or interactions (combinations that deviate from the sum of their parts); null is interactions of
            an outcome, else responses.
        target: the population to reach, a perturbation of the data or a query of its obs.
        outcome: tables of a number, such as growth, of single perturbations and of pairs, for which pairs are chosen in
            place of expression.
        candidates: names, or a file of one a line; null takes perturbations that prior knowledge likens to measured
            ones and pairs of those measured alone.
        costs: table of a name and its cost; a combination costs the sum of its parts unless it has a cost of its own.
        gene_sets: GMT files, plain or gzipped.
        edges: edge lists such as STRING's.
        features: tables of numbers by perturbation.
        reference: another screen (.h5ad).
        aliases: table of two columns, another name and the one the data use.
        expected: curve over the singles' sum from which interactions of an outcome count.
        n_strongest: how many of the strongest interactions of an outcome are sought; null is 2 % of all pairs.
        seed: of draws and random batches.
    """

    goal: Goal | None = None
    target: str | None = None
    outcome: Paths = ()
    candidates: str | Sequence[str] | None = None
    costs: str | Path | Mapping[str, float] | None = None
    gene_sets: Paths = ()
    edges: Paths = ()
    features: Paths = ()
    reference: str | Path | None = None
    aliases: str | Path | None = None
    expected: Expected = "parabola"
    n_strongest: int | None = None
    seed: int = 0


def one_of(option: str, given: str, choices: Sequence[Choice]) -> Choice:
    """The choice that a text means.

    Raises:
        ConfigurationError: it means none.
    """
    for choice in choices:
        if choice == given:
            return choice
    raise ConfigurationError(f"{option} is '{given}'; give {', '.join(choices[:-1])} or {choices[-1]}")


def plan_experiments(dataset: PerturbationDataset | None, n: int, options: PlanOptions) -> NextExperiments:
    """The next experiments.

    Args:
        dataset: control and perturbed cells; of an outcome they are prior knowledge, and may be left out.
        n: how many.
        options: what for, and what is known.

    Raises:
        PerturbRLError: the cells, a file or an option cannot be used; the message says what to do.
    """
    goal = options.goal or ("interactions" if options.outcome else "responses")
    if (goal == "target") != (options.target is not None):
        raise ConfigurationError(
            f"goal is '{goal}' and target is {options.target!r}; give goal 'target' and the population to reach, or "
            "neither"
        )
    priors = read_priors(
        options.gene_sets, options.edges, options.features, options.reference, options.aliases
    )
    if options.outcome:
        return NextExperiments.of(_by_outcome(dataset, n, goal, options, priors))
    if dataset is None:
        raise ConfigurationError("there are neither cells nor an outcome to learn from; give one of them")
    return NextExperiments.of(_by_expression(dataset, n, goal, options, priors))


def _by_outcome(
    dataset: PerturbationDataset | None,
    n: int,
    goal: Goal,
    options: PlanOptions,
    priors: tuple[PriorKnowledge, ...],
) -> PlannedExperiments:
    paths = options.outcome
    listed_paths = [paths] if isinstance(paths, str | Path) else list(paths)
    known = () if dataset is None else (_measured_responses(dataset),)
    question = OutcomeQuestion(
        read_outcomes([Path(path) for path in listed_paths]),
        goal,
        (*priors, *known),
        options.candidates,
        _costs(options.costs),
        options.expected,
        options.n_strongest,
        options.seed,
    )
    return plan_by_outcome(question, n)


def _measured_responses(dataset: PerturbationDataset) -> PriorKnowledge:
    """Perturbations that shift cells alike may have alike outcomes."""
    preprocessor, everything = _preprocessor(dataset), np.arange(dataset.n_cells)
    types = list(dataset.cell_types) if dataset.fields.cell_type_key else None
    expression = preprocessor.transform_sparse(dataset, everything)
    return reference_of(
        TrainingCells(expression, list(dataset.labels), preprocessor.genes, types), "the cells"
    )


def _by_expression(
    dataset: PerturbationDataset,
    n: int,
    goal: Goal,
    options: PlanOptions,
    priors: tuple[PriorKnowledge, ...],
) -> PlannedExperiments:
    learned = dataset if options.target is None else _without_target(dataset, options.target)
    model, _ = fit_kriging(learned, priors)
    names = {} if options.aliases is None else read_aliases(options.aliases)
    candidates, notes = candidates_of(
        options.candidates,
        model,
        learned,
        known_of(model, learned, names),
        combinations_only=goal == "interactions",
    )
    question = ExpressionQuestion(
        model,
        _controls(learned, model.contexts),
        candidates,
        goal,
        None if options.target is None else _target_mean(dataset, learned, options.target),
        options.target or "",
        _costs(options.costs),
        options.seed,
    )
    return plan_by_expression(question, n, notes)


def _without_target(dataset: PerturbationDataset, target: str) -> PerturbationDataset:
    """Cells that do not tell of the target, which would answer what is asked."""
    populations = dataset.populations
    label = populations.label_of(populations.target(target))
    if label is None or label.is_control:
        return dataset
    kept = np.setdiff1d(np.arange(dataset.n_cells), populations.telling(target))
    return PerturbationDataset.from_adata(dataset.adata[kept].copy(), dataset.fields, dataset.value_kind)


def _target_mean(dataset: PerturbationDataset, learned: PerturbationDataset, target: str) -> GeneVector:
    """Of the genes of the cells that are learned from."""
    rows = dataset.population_rows(dataset.populations.target(target))
    found = _preprocessor(learned).transform_sparse(dataset, rows)
    return np.asarray(found.mean(axis=0), dtype=float).ravel()


def _controls(dataset: PerturbationDataset, contexts: Sequence[str]) -> dict[str, csr_matrix]:
    rows, found = dataset.control_cells, _preprocessor(dataset)
    if tuple(contexts) == (ONE_CONTEXT,):
        return {ONE_CONTEXT: found.transform_sparse(dataset, rows)}
    types = dataset.cell_types[rows]
    return {context: found.transform_sparse(dataset, rows[types == context]) for context in contexts}


def _preprocessor(dataset: PerturbationDataset) -> Preprocessor:
    return Preprocessor(n_top_genes=None).fit(dataset, np.arange(dataset.n_cells))


def _costs(given: str | Path | Mapping[str, float] | None) -> Costs | None:
    if given is None:
        return None
    return Costs.read(Path(given)) if isinstance(given, str | Path) else Costs.checked(given)
