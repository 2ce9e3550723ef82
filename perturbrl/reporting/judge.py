"""From a design to its report and its predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.errors import DataError, listed
from perturbrl.evaluation.design import UnseenCells, evaluate_designs
from perturbrl.evaluation.hits import Hit, rank_hits
from perturbrl.evaluation.populations import Detectability, detectability
from perturbrl.evaluation.simulation import Simulation, simulate
from perturbrl.pl.genes import plot_top_genes
from perturbrl.planning.cross_entropy import CrossEntropySearch
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.differential_expression import DifferentialExpressionDesign
from perturbrl.planning.most_likely import MostLikelyDesign
from perturbrl.planning.pairs import PairSearch
from perturbrl.planning.planners import NoOpDesign, default_planners, search_planners
from perturbrl.reporting.about_cells import cells_and_genes, what_orders, what_was_measured
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
from perturbrl.reporting.landscape_figures import landscape_figures
from perturbrl.reporting.likely import likely_frame
from perturbrl.reporting.report import Report
from perturbrl.reporting.report_tables import hits_frame
from perturbrl.reporting.report_text import answer_sentence, caution, dosed, percent
from perturbrl.schema import (
    CONTROL_LABEL,
    LATENT_OBSM,
    PERTURBATION_OBS,
    CellState,
)
from perturbrl.training.progress import counted, working
from perturbrl.twins.perturbations import PerturbationSpace

SMALL_POPULATION: Final = 400
_DOSES_SHOWN: Final = 6


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
        landscape, no_landscape = landscape_figures(judged, evaluation.simulations, held_out=True)
        plots = [
            *dose_figures(judged, simulation, hits_frame(hits)),
            *design_figures(judged, evaluation),
            *landscape,
        ]
        plots += [] if response is None else [plot_top_genes(response.top_genes)]
        plots += learning_figure(curves)
    report = Report(
        title=f"Design: {judged.source} to {target}",
        answer=answer_sentence(evaluation, hits),
        warnings=caution(evaluation),
        question=_question(judged),
        data={**_data(judged, len(cells.start), len(cells.target)), **_recognised(judged, cells)},
        evaluation=evaluation,
        hits=hits,
        per_perturbation=per_perturbation(problem, evaluation.simulations[POLICY]),
        guides=guide_list(judged, hits, simulation),
        likely=likely_frame(judged.likely, problem),
        response=None if response is None else response.table,
        left_out=(*left_out, *no_landscape, *_missing(judged, curves, search=search)),
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


def _missing(judged: Judged, curves: pd.DataFrame | None, *, search: bool) -> tuple[str, ...]:
    """What else a reader may look for in vain."""
    reasons = []
    if not search:
        reasons.append(
            "Search planners (lookahead, cross-entropy search, model-predictive control, exhaustive search): add "
            "--report.search true."
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
        landscape, no_landscape = landscape_figures(judged, {POLICY: simulation}, held_out=False)
        plots = [
            *dose_figures(judged, simulation, hits_frame(hits)),
            *way_figures(judged, simulation, problem.goal_cells, "Target cells that define the goal"),
            *landscape,
            *learning_figure(curves),
        ]
    report = Report(
        title=f"Design applied: {judged.source} to {judged.target}",
        answer=_applied(judged, len(start), hits, idle=idle),
        warnings=_unjudged(judged, found),
        question=_question(judged),
        data=_data(judged, len(start), 0),
        evaluation=None,
        hits=hits,
        per_perturbation=per_perturbation(problem, simulation),
        guides=guide_list(judged, hits, simulation),
        left_out=no_landscape,
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


def _question(judged: Judged) -> Mapping[str, str]:
    problem, space = judged.problem, judged.problem.space
    limit = space.max_perturbations
    return {
        "cells go from": judged.source,
        "to": judged.target,
        "may be dosed": f"{space.n_perturbations} perturbations"
        + (f", at most {limit} in one cell" if limit else ""),
        "dose per step": f"{float(space.low.min()):g} to {float(space.high.max()):g} (1 = as measured, or full "
        f"expression); less than {100 * space.min_dose:g} % of the range counts as none",
        **_measured_doses(space),
        "steps": str(problem.horizon),
        "digital twin": type(problem.twin).__name__,
        "training": judged.training,
    }


def _measured_doses(space: PerturbationSpace) -> Mapping[str, str]:
    found = [
        f"{name} at {', '.join(f'{dose:g}' for dose in doses)} ({max(doses):g} is dose 1)"
        for name, doses in zip(space.names, space.measured_doses, strict=True)
        if doses
    ]
    more = [f"{len(found) - _DOSES_SHOWN} more"] if len(found) > _DOSES_SHOWN else []
    return {"measured doses": "; ".join([*found[:_DOSES_SHOWN], *more])} if found else {}


def _data(judged: Judged, n_start: int, n_judged: int) -> Mapping[str, str]:
    judges = f"{n_start} of {judged.source}, {n_judged} of {judged.target}"
    if judged.measured is None:
        return {
            "cells": f"simulated by the network, {judged.problem.twin.latent_dim} genes",
            "judged by": f"{judges}, simulated at rest in these attractors, where start and goal cells come from, too",
        }
    about = _about_cells(judged.measured, judged.file) | dict(
        what_orders(judged.measured, judged.problem.twin)
    )
    return about | (_parts(judged, judges) if n_judged else {})


def _about_cells(cells: MeasuredCells, file: str) -> dict[str, str]:
    dataset, encoder = cells.dataset, cells.encoder
    kinds = {"counts": "raw counts", "log1p": "log values", "normalised": "normalised values"}
    return {
        "file": file,
        **cells_and_genes(cells, f", {kinds[dataset.value_kind]}"),
        **what_was_measured(dataset),
        "cell state": f"{type(encoder).__name__}, {encoder.latent_dim} dimensions",
    }


def _parts(judged: Judged, judges: str) -> dict[str, str]:
    assert judged.measured is not None
    split = judged.measured.require_split()
    if judged.judges:
        return _halves(judged, len(split.train), judges)
    return {
        "learned from": f"{len(split.train)} training cells, none of {judged.target}",
        "goal": f"{len(judged.problem.goal_cells)} cells of {judged.target}, told apart from "
        f"{len(judged.reference_cells)} of {judged.source}: the encoder was fitted on neither",
        "judged by": f"{judges}: cells that nothing was learned from",
    }


def _recognised(judged: Judged, cells: UnseenCells) -> dict[str, str]:
    """How far the verdict on dosed cells holds for real ones."""
    if not judged.judges:
        return {}
    goal = judged.problem.goal_cells.mean(0)
    shares = [
        percent(float(judged.problem.task.is_success(own, goal.expand_as(own)).float().mean()))
        for own in (cells.target, cells.start)
    ]
    return {
        "arrived": f"what takes dosed cells for {judged.target} takes {shares[0]} of its real held-out cells for "
        f"it, and {shares[1]} of the undosed {judged.source} cells"
    }


def _halves(judged: Judged, n_train: int, judges: str) -> dict[str, str]:
    goal = f"{len(judged.problem.goal_cells)} cells of {judged.target}"
    return {
        "learned from": f"{n_train} training cells, among them {goal}, which define the goal",
        "judged by": f"{judges}: cells that no design was made with, on a twin learned from their half",
    }


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
    total = simulation.doses.sum(1)
    table["policy_dose"] = total.mean(0).cpu().numpy()
    table["share_of_cells"] = (simulation.doses != 0).any(1).float().mean(0).cpu().numpy()
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
    doses = to_numpy(simulation.doses.sum(1))
    adata.obsm["dose"] = pd.DataFrame(
        np.concatenate((np.zeros_like(doses), doses)),
        index=adata.obs_names,
        columns=list(judged.problem.space.names),
    )
    return adata
