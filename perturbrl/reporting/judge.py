"""From a design to its report and its predictions."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from perturbrl.errors import DataError, listed
from perturbrl.evaluation.design import DesignEvaluation, UnseenCells, evaluate_designs
from perturbrl.evaluation.hits import Hit, rank_hits
from perturbrl.evaluation.populations import Detectability, detectability
from perturbrl.evaluation.simulation import Simulation, simulate
from perturbrl.pl.genes import plot_top_genes
from perturbrl.pl.names import plain_name
from perturbrl.planning.cross_entropy import CrossEntropySearch
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.differential_expression import DifferentialExpressionDesign
from perturbrl.planning.most_likely import MostLikelyDesign
from perturbrl.planning.pairs import PairSearch
from perturbrl.planning.planners import NoOpDesign, default_planners, search_planners
from perturbrl.reporting.about_designs import data_of, question_of, recognised
from perturbrl.reporting.directions import in_words
from perturbrl.reporting.figures import (
    design_figures,
    dose_figures,
    learning_figure,
    to_numpy,
    way_figures,
)
from perturbrl.reporting.guide_list import guide_list
from perturbrl.reporting.judged import POLICY, Judged
from perturbrl.reporting.judged_response import JudgedResponse, judge_response
from perturbrl.reporting.landscape_figures import landscape_view
from perturbrl.reporting.likely import likely_frame
from perturbrl.reporting.report import Report
from perturbrl.reporting.report_tables import hits_frame
from perturbrl.reporting.report_text import answer_sentence, caution, certificate_sentences, dosed
from perturbrl.schema import (
    CONTROL_LABEL,
    LATENT_OBSM,
    PERTURBATION_OBS,
    CellState,
)
from perturbrl.training.progress import counted, working

SMALL_POPULATION: Final = 400


@dataclass(frozen=True)
class Finished:
    """What a test or a prediction leaves behind.

    Attributes:
        report: what was found.
        predictions: start cells and dosed cells, log-normalised, cell by cell.
        response: predicted counts and what they are to be compared with, where there are any.
    """

    report: Report
    predictions: AnnData
    response: JudgedResponse | None = None


def judge(
    judged: Judged, cells: UnseenCells, curves: pd.DataFrame | None = None, *, search: bool | None = None
) -> Finished:
    """The report on held-out cells, and the cells as the design leaves them.

    Args:
        judged: what is judged.
        cells: what it starts from and is judged by.
        curves: the CSV logger's table, where there is one.
        search: also judge the planners that search on the twin; ``None`` where that takes seconds.
    """
    problem, target = judged.problem, judged.target
    search = problem.twin.is_quick if search is None else search
    planners = (judged.policy, *default_planners(), *(search_planners() if search else ()))
    planners += _landscape_planners(judged) if judged.judges and not search else ()
    planners += () if judged.likely is None else (MostLikelyDesign(judged.likely),)
    shown = counted("judging designs", _name)
    evaluation = evaluate_designs(problem, planners, cells, target, shown, judged.judges)
    simulation = evaluation.simulations[evaluation.recommended]
    hits = in_words(judged.measured, problem.twin, evaluation.hits)
    with working("comparing predicted with measured cells"):
        response, left_out = _response(judged, evaluation.forecast)
    with working("drawing figures"):
        view = landscape_view(judged, evaluation.simulations, held_out=True)
        plots = [
            *dose_figures(judged, simulation, hits_frame(hits)),
            *design_figures(judged, evaluation),
            *view.plots,
        ]
        plots += [] if response is None else [plot_top_genes(response.top_genes)]
        plots += learning_figure(curves)
    report = Report(
        title=f"Design: {judged.source} to {target}",
        answer=answer_sentence(evaluation, hits),
        warnings=caution(evaluation),
        certified=certificate_sentences(evaluation),
        question=question_of(judged),
        data={**data_of(judged, len(cells.start), len(cells.target)), **recognised(judged, cells)},
        evaluation=evaluation,
        hits=hits,
        per_perturbation=per_perturbation(problem, evaluation.simulations[POLICY]),
        guides=guide_list(judged, hits, simulation),
        likely=likely_frame(judged.likely, problem),
        response=None if response is None else response.table,
        more_tables=view.tables,
        numbers=view.numbers,
        left_out=(
            *left_out,
            *view.left_out,
            *_not_made(evaluation),
            *_missing(judged, curves, search=search),
        ),
        plots=plots,
    )
    return Finished(report, _predictions(judged, simulation), response)


def _landscape_planners(judged: Judged) -> tuple[Planner, ...]:
    """What a policy has to beat on a landscape of hundreds of perturbations."""
    assert judged.measured is not None
    sides = (
        judged.measured.expression(judged.source, "train"),
        judged.measured.expression(judged.target, "goal"),
    )
    genes = judged.measured.genes
    return DifferentialExpressionDesign(*sides, genes), PairSearch(), CrossEntropySearch(10, SMALL_POPULATION)


def _name(planner: Planner) -> str:
    return planner.name


def _response(judged: Judged, forecast: Simulation) -> tuple[JudgedResponse | None, tuple[str, ...]]:
    try:
        response = judge_response(judged, forecast)
    except DataError as error:
        return None, (f"Predicted response: {error}.",)
    if response.predicted is not None:
        return response, ()
    return response, (
        "Energy distance and differential expression of predicted cells, and files for cell-eval: the data hold no "
        "raw counts, from which alone dispersed cells can be drawn.",
    )


def _not_made(evaluation: DesignEvaluation) -> tuple[str, ...]:
    """Designs that were too much work."""
    reasons = evaluation.certificate.left_out.items()
    return tuple(f"{plain_name(name).capitalize()}: {reason}." for name, reason in reasons)


def _missing(judged: Judged, curves: pd.DataFrame | None, *, search: bool) -> tuple[str, ...]:
    """What else a reader may look for in vain."""
    reasons = []
    if not search:
        reasons.append(
            "Search planners (lookahead, cross-entropy search, model-predictive control, exhaustive and beam search): "
            "add --report.search true."
        )
    if judged.measured is None:
        reasons.append("Trajectories beside real cells: a network brings no measured cells.")
    if curves is None:
        reasons.append("Learning curves: there is no metrics.csv in the run folder.")
    return tuple(reasons)


def predict(judged: Judged, start: CellState, curves: pd.DataFrame | None = None) -> Finished:
    """The design applied to ``start`` cells, such as all of a file; nothing is judged."""
    problem, found = judged.problem, detectability(judged.reference_cells, judged.problem.goal_cells)
    idle = found is not None and not found.detectable
    design = NoOpDesign() if idle else judged.policy
    design.plan(problem)
    with working("simulating the design"):
        simulation = simulate(problem, design, start)
        hits = in_words(judged.measured, problem.twin, rank_hits(problem, simulation))
    with working("drawing figures"):
        view = landscape_view(judged, {POLICY: simulation}, held_out=False)
        plots = [
            *dose_figures(judged, simulation, hits_frame(hits)),
            *way_figures(judged, simulation, problem.goal_cells, "Target cells that define the goal"),
            *view.plots,
            *learning_figure(curves),
        ]
    report = Report(
        title=f"Design applied: {judged.source} to {judged.target}",
        answer=_applied(judged, len(start), hits, idle=idle),
        warnings=_unjudged(judged, found),
        question=question_of(judged),
        data=data_of(judged, len(start), 0),
        evaluation=None,
        hits=hits,
        per_perturbation=per_perturbation(problem, simulation),
        guides=guide_list(judged, hits, simulation),
        more_tables=view.tables,
        numbers=view.numbers,
        left_out=view.left_out,
        plots=plots,
    )
    return Finished(report, _predictions(judged, simulation))


def _applied(judged: Judged, n_cells: int, hits: tuple[Hit, ...], *, idle: bool) -> str:
    if idle:
        return f"For {n_cells} {judged.source} cells nothing is dosed: no effect of {judged.target} is detectable."
    used = dosed(hits)
    return f"For {n_cells} {judged.source} cells the policy doses {listed(used) if used else 'nothing'}."


def _unjudged(judged: Judged, found: Detectability | None) -> tuple[str, ...]:
    said = ("These cells were not held out and no result is judged; perturbrl test does that.",)
    if found is None or found.detectable:
        return said
    return (
        f"No effect of {judged.target} is detectable (permutation test of the energy distance, "
        f"p = {found.p_value:.2g}), so doing nothing is the right design.",
        *said,
    )


def per_perturbation(problem: DesignProblem, simulation: Simulation) -> pd.DataFrame:
    """For each perturbation that may be dosed: its measured effect, and what the policy does with it."""
    table = pd.DataFrame({"perturbation": problem.space.names})
    effects, shift = problem.linear_effects, problem.shift
    if effects is not None:
        table["effect_length"] = effects.norm(dim=1).cpu().numpy()
        table["cosine_to_target"] = torch.cosine_similarity(effects, shift[None], dim=1).cpu().numpy()
        table["distance_alone"] = (effects - shift).norm(dim=1).cpu().numpy()
    if problem.evidence:
        table["evidence"] = problem.evidence
    given = simulation.given
    columns = {"policy_dose": given.sum(1).mean(0), "share_of_cells": (given != 0).any(1).float().mean(0)}
    for name, values in columns.items():
        table[name] = simulation.of_all(values).cpu().numpy()
    return table


@torch.no_grad()
def _predictions(judged: Judged, simulation: Simulation) -> AnnData:
    """Start cells as ``control`` and dosed cells under the target's name, log-normalised, in one AnnData."""
    expression = torch.cat(
        [judged.problem.twin.expression(state) for state in (simulation.start, simulation.final)]
    )
    n, target = len(simulation.start), judged.target
    adata = AnnData(
        to_numpy(expression.clamp_min(0)),
        obs=pd.DataFrame(
            {PERTURBATION_OBS: pd.Categorical([CONTROL_LABEL] * n + [target] * n)},
            index=[f"{kind}_{i}" for kind in ("start", "dosed") for i in range(n)],
        ),
        var=pd.DataFrame(index=list(judged.gene_names)),
    )
    adata.obsm[LATENT_OBSM] = to_numpy(torch.cat((simulation.start, simulation.final)))
    doses, names = to_numpy(simulation.given.sum(1)), judged.problem.space.names
    adata.obsm["dose"] = pd.DataFrame(
        np.concatenate((np.zeros_like(doses), doses)),
        index=adata.obs_names,
        columns=[names[i] for i in simulation.columns.tolist()],
    )
    return adata
