"""From a trained module to its report and its predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from perturbrl.errors import DataError, listed
from perturbrl.evaluation.design import UnseenCells, evaluate_designs
from perturbrl.evaluation.hits import rank_hits
from perturbrl.evaluation.populations import detectability
from perturbrl.evaluation.simulation import PolicyDesign, Simulation, simulate
from perturbrl.pl.genes import plot_top_genes
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.planners import default_planners, search_planners
from perturbrl.reporting.directions import in_words
from perturbrl.reporting.figures import design_figures, dose_figures, learning_figure, to_numpy, way_figures
from perturbrl.reporting.judged_response import JudgedResponse, judge_response
from perturbrl.reporting.report import Report
from perturbrl.reporting.report_tables import hits_frame
from perturbrl.reporting.report_text import answer_sentence, caution, dosed
from perturbrl.schema import (
    CONTROL_LABEL,
    LATENT_OBSM,
    PERTURBATION_OBS,
)
from perturbrl.training.progress import counted, working
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.perturbations import PerturbationSpace

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


def judge(module: TwoStageModule, curves: pd.DataFrame | None, *, search: bool | None = None) -> Finished:
    """The report on held-out cells, and the cells as the design leaves them.

    Args:
        module: trained, or restored from a checkpoint.
        curves: the CSV logger's table, where there is one.
        search: also judge the planners that search on the twin; ``None`` where it is linear, which takes seconds.
    """
    problem, target = design_problem(module), module.data.target
    assert target is not None
    cells = unseen_cells(module)
    search = problem.linear_effects is not None if search is None else search
    planners = (PolicyDesign(module.actor), *default_planners(), *(search_planners() if search else ()))
    shown = counted("judging designs", _name)
    evaluation = evaluate_designs(problem, planners, cells, target, shown)
    simulation, hits = evaluation.simulations["policy"], in_words(module.data, evaluation.hits)
    with working("comparing predicted with measured cells"):
        # From training cells: the cells that judge must not be the prediction's own input.
        forecast = simulate(problem, PolicyDesign(module.actor), module.twin.start_cells)
        response, left_out = _response(module, forecast)
    with working("drawing figures"):
        plots = [
            *dose_figures(module, simulation, hits_frame(hits)),
            *design_figures(module, evaluation, forecast),
        ]
        plots += [] if response is None else [plot_top_genes(response.top_genes)]
        plots += learning_figure(curves)
    report = Report(
        title=f"Design: {module.data.source} to {target}",
        answer=answer_sentence(evaluation, hits),
        warnings=caution(evaluation),
        question=_question(module),
        data=_data(module, len(cells.start), len(cells.target)),
        evaluation=evaluation,
        hits=hits,
        per_perturbation=per_perturbation(problem, simulation),
        response=None if response is None else response.table,
        left_out=(*left_out, *_missing(module, curves, search=search)),
        plots=plots,
    )
    return Finished(report, _predictions(module, simulation), response)


def _name(planner: Planner) -> str:
    return planner.name


def _response(module: TwoStageModule, forecast: Simulation) -> tuple[JudgedResponse | None, tuple[str, ...]]:
    try:
        response = judge_response(module, forecast)
    except DataError as error:
        return None, (f"Predicted response: {error}.",)
    if response.predicted is not None:
        return response, ()
    return response, (
        "Energy distance and differential expression of predicted cells, and files for cell-eval: the data hold no "
        "raw counts, from which alone dispersed cells can be drawn.",
    )


def _missing(module: TwoStageModule, curves: pd.DataFrame | None, *, search: bool) -> tuple[str, ...]:
    """What else a reader may look for in vain."""
    reasons = []
    if not search:
        reasons.append(
            "Search planners (lookahead, cross-entropy search, model-predictive control, exhaustive search): add "
            "--report.search true."
        )
    if not module.data.has_cells:
        reasons.append("Trajectories beside real cells: a network brings no measured cells.")
    if module.data.has_cells:
        reasons.append("Quasi-potential landscape: the twin was learned from cells and has no attractors.")
    if curves is None:
        reasons.append("Learning curves: there is no metrics.csv in the run folder.")
    return tuple(reasons)


def predict(module: TwoStageModule, curves: pd.DataFrame | None) -> Finished:
    """The design applied to every start cell of the file; nothing is judged."""
    problem, data = design_problem(module), module.data
    start = data.cells(data.source, "all") if data.has_cells else module.twin.start_cells
    with working("simulating the design"):
        simulation = simulate(problem, PolicyDesign(module.actor), start)
        hits = in_words(module.data, rank_hits(problem, simulation))
    with working("drawing figures"):
        plots = [
            *dose_figures(module, simulation, hits_frame(hits)),
            *way_figures(module, simulation, module.goal_cells, "Target cells that define the goal"),
            *learning_figure(curves),
        ]
    used = dosed(hits)
    report = Report(
        title=f"Design applied: {data.source} to {data.target}",
        answer=f"For {len(start)} {data.source} cells the policy doses {listed(used) if used else 'nothing'}.",
        warnings=_unjudged(module),
        question=_question(module),
        data=_data(module, len(start), 0),
        evaluation=None,
        hits=hits,
        per_perturbation=per_perturbation(problem, simulation),
        plots=plots,
    )
    return Finished(report, _predictions(module, simulation))


def _unjudged(module: TwoStageModule) -> tuple[str, ...]:
    said = ("These cells were not held out and no result is judged; perturbrl test does that.",)
    found = detectability(module.reference_cells, module.goal_cells)
    if found is None or found.detectable:
        return said
    return (
        f"No effect of {module.data.target} is detectable (permutation test of the energy distance, "
        f"p = {found.p_value:.2g}), so doing nothing is the right design.",
        *said,
    )


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


def unseen_cells(module: TwoStageModule) -> UnseenCells:
    """What judges the module's design; a network's own cells, which nothing was fitted on."""
    data = module.data
    if not data.has_cells:
        return UnseenCells(module.twin.start_cells, module.goal_cells)
    start, target = data.cells(data.source, "test"), data.cells(str(data.target), "test")
    return UnseenCells(start, target, module.reference_cells, module.goal_cells)


def _question(module: TwoStageModule) -> Mapping[str, str]:
    data, space = module.data, module.require_space()
    limit = space.max_perturbations or space.n_perturbations
    return {
        "cells go from": data.source,
        "to": str(data.target),
        "may be dosed": f"{space.n_perturbations} perturbations, at most {limit} in one cell",
        "dose per step": f"{float(space.low.min()):g} to {float(space.high.max()):g} (1 = as measured, or full "
        f"expression); less than {100 * space.min_dose:g} % of the range counts as none",
        **_measured_doses(space),
        "steps": str(module.rollout.horizon),
        "digital twin": type(module.twin).__name__,
        "training": f"schedule '{module.schedule}', {module.rollout.n_cells} simulated cells per iteration, "
        f"seed {module.seed}",
    }


def _measured_doses(space: PerturbationSpace) -> Mapping[str, str]:
    found = [
        f"{name} at {', '.join(f'{dose:g}' for dose in doses)} ({max(doses):g} is dose 1)"
        for name, doses in zip(space.names, space.measured_doses, strict=True)
        if doses
    ]
    more = [f"{len(found) - _DOSES_SHOWN} more"] if len(found) > _DOSES_SHOWN else []
    return {"measured doses": "; ".join([*found[:_DOSES_SHOWN], *more])} if found else {}


def _data(module: TwoStageModule, n_start: int, n_judged: int) -> Mapping[str, str]:
    data = module.data
    judges = f"{n_start} of {data.source}, {n_judged} of {data.target}"
    if not data.has_cells:
        return {
            "cells": f"simulated by the network, {module.twin.latent_dim} genes",
            "judged by": f"{judges}, simulated at rest in these attractors, where start and goal cells come from, too",
        }
    dataset, split = data.dataset, data.split
    assert dataset is not None
    kinds = {"counts": "raw counts", "log1p": "log values", "normalised": "normalised values"}
    about = {
        "file": str(data.path or ("simulated screen" if data.synthetic else "in memory")),
        "cells and genes": f"{dataset.n_cells} cells × {len(dataset.genes)} genes, {kinds[dataset.value_kind]}; "
        f"{len(data.genes)} genes used",
        "measured": f"{len(dataset.control_cells)} control cells, {len(dataset.singles)} single perturbations, "
        f"{len(dataset.combinations)} combinations",
        "cell state": f"{type(data.encoder).__name__}, {data.encoder.latent_dim} dimensions",
    }
    if split is not None and n_judged:
        about["learned from"] = f"{len(split.train)} training cells, none of {data.target}"
        about["goal"] = (
            f"{len(module.goal_cells)} cells of {data.target}, told apart from {len(module.reference_cells)} of "
            f"{data.source}: nothing was learned from either"
        )
        about["judged by"] = f"{judges}: cells that nothing was learned from"
    return about


def per_perturbation(problem: DesignProblem, simulation: Simulation) -> pd.DataFrame:
    """For each perturbation that may be dosed: its measured effect, and what the policy does with it."""
    table = pd.DataFrame({"perturbation": problem.space.names})
    effects, shift = problem.linear_effects, problem.shift
    if effects is not None:
        table["effect_length"] = effects.norm(dim=1).cpu().numpy()
        table["cosine_to_target"] = torch.cosine_similarity(effects, shift[None], dim=1).cpu().numpy()
        table["distance_alone"] = (effects - shift).norm(dim=1).cpu().numpy()
    total = simulation.doses.sum(1)
    table["policy_dose"] = total.mean(0).cpu().numpy()
    table["share_of_cells"] = (simulation.doses != 0).any(1).float().mean(0).cpu().numpy()
    return table


@torch.no_grad()
def _predictions(module: TwoStageModule, simulation: Simulation) -> AnnData:
    """Start cells as ``control`` and dosed cells under the target's name, log-normalised, in one AnnData."""
    expression = torch.cat([module.twin.expression(state) for state in (simulation.start, simulation.final)])
    n, target = len(simulation.start), str(module.data.target)
    adata = AnnData(
        to_numpy(expression.clamp_min(0)),
        obs=pd.DataFrame(
            {PERTURBATION_OBS: pd.Categorical([CONTROL_LABEL] * n + [target] * n)},
            index=[f"{kind}_{i}" for kind in ("start", "dosed") for i in range(n)],
        ),
        var=pd.DataFrame(index=list(module.gene_names)),
    )
    adata.obsm[LATENT_OBSM] = to_numpy(torch.cat((simulation.start, simulation.final)))
    doses = to_numpy(simulation.doses.sum(1))
    adata.obsm["dose"] = pd.DataFrame(
        np.concatenate((np.zeros_like(doses), doses)),
        index=adata.obs_names,
        columns=list(module.require_space().names),
    )
    return adata
