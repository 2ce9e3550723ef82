"""From a trained module to its report and its predictions."""

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from perturbrl.evaluation.design import (
    DesignEvaluation,
    PolicyDesign,
    Simulation,
    evaluate_designs,
    rank_hits,
    simulate,
)
from perturbrl.evaluation.landscape import plot_landscape, wandering_states
from perturbrl.evaluation.planners import DesignProblem, default_planners
from perturbrl.evaluation.plots import (
    Plot,
    plot_delta,
    plot_designs,
    plot_hits,
    plot_latent_map,
    plot_learning,
)
from perturbrl.evaluation.populations import detectability
from perturbrl.evaluation.report import Report, answer_sentence, caution, designs_frame, hits_frame
from perturbrl.schema import CONTROL_LABEL, LATENT_OBSM, PERTURBATION_OBS, CellState, Population
from perturbrl.training.datamodule import Part
from perturbrl.training.two_stage import TwoStageModule


def judge(module: TwoStageModule, curves: pd.DataFrame | None) -> tuple[Report, AnnData]:
    """The report on held-out cells, and the cells as the design leaves them.

    Args:
        module: trained, or restored from a checkpoint.
        curves: the CSV logger's table, where there is one.
    """
    problem, target = design_problem(module), module.data.target
    assert target is not None
    start, judged = _cells(module, "test")
    planners = (PolicyDesign(module.actor), *default_planners())
    evaluation = evaluate_designs(problem, planners, start, judged, target)
    simulation = evaluation.simulations["policy"]
    plots = _design_plots(module, evaluation, simulation, judged) + _learning_plot(curves)
    report = Report(
        title=f"Design: {module.data.source} to {target}",
        answer=answer_sentence(evaluation, evaluation.hits),
        warnings=caution(evaluation),
        question=_question(module, len(start), len(judged)),
        evaluation=evaluation,
        hits=evaluation.hits,
        per_perturbation=per_perturbation(problem, simulation),
        plots=plots,
    )
    return report, _predictions(module, simulation)


def predict(module: TwoStageModule, curves: pd.DataFrame | None) -> tuple[Report, AnnData]:
    """The design applied to every start cell of the file; nothing is judged."""
    problem, data = design_problem(module), module.data
    start = data.cells(data.source, "all") if data.has_cells else module.twin.start_cells
    simulation = simulate(problem, PolicyDesign(module.actor), start)
    hits = rank_hits(problem, simulation)
    used = [f"{hit.perturbation} {hit.direction}" for hit in hits if hit.share_of_cells >= 0.5]
    report = Report(
        title=f"Design applied: {data.source} to {data.target}",
        answer=f"For {len(start)} {data.source} cells the policy doses {', '.join(used) or 'nothing'}.",
        warnings=_unjudged(module),
        question=_question(module, len(start), 0),
        evaluation=None,
        hits=hits,
        per_perturbation=per_perturbation(problem, simulation),
        plots=[plot_hits(hits_frame(hits)), *_learning_plot(curves)],
    )
    return report, _predictions(module, simulation)


def _unjudged(module: TwoStageModule) -> tuple[str, ...]:
    said = ("These cells were not held out and no result is judged; perturbrl test does that.",)
    found = detectability(module.twin.start_cells, module.goal_cells)
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


def _cells(module: TwoStageModule, part: Part) -> tuple[CellState, Population]:
    data = module.data
    if not data.has_cells:
        return module.twin.start_cells, module.goal_cells
    assert data.target is not None
    return data.cells(data.source, part), data.cells(data.target, part)


def _question(module: TwoStageModule, n_start: int, n_judged: int) -> dict[str, str]:
    data, space = module.data, module.require_space()
    limit = space.max_perturbations or space.n_perturbations
    cells = data.path or ("simulated screen" if data.synthetic else "in memory" if data.adata else "network")
    return {
        "cells": str(cells),
        "from": data.source,
        "to": str(data.target),
        "twin": type(module.twin).__name__,
        "may be dosed": f"{space.n_perturbations} perturbations, at most {limit} per cell, "
        f"doses {float(space.low.min()):g} to {float(space.high.max()):g}",
        "steps": str(module.rollout.horizon),
        "schedule": module.schedule,
        "cells that judge": f"{n_start} start, {n_judged} target",
        "seed": str(module.seed),
    }


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


def _design_plots(
    module: TwoStageModule, evaluation: DesignEvaluation, simulation: Simulation, judged: CellState
) -> list[Plot]:
    groups = {"start": simulation.start, "target": judged, "dosed": simulation.final}
    plots = [
        plot_designs(designs_frame(evaluation), "latent units"),
        plot_hits(hits_frame(evaluation.hits)),
        plot_latent_map(
            {name: _numpy(cells) for name, cells in groups.items()}, _numpy(simulation.path.mean(0))
        ),
    ]
    if module.data.has_cells:
        plots.append(_delta_plot(module, simulation))
    elif len(module.twin.attractors()) > 1:
        plots.append(_landscape(module, simulation))
    return plots


def _landscape(module: TwoStageModule, simulation: Simulation) -> Plot:
    attractors = {name: _numpy(state) for name, state in module.twin.attractors().items()}
    states = wandering_states(module.twin, seed=module.seed)
    return plot_landscape(states, attractors, _numpy(simulation.path), target=module.data.target)


def _delta_plot(module: TwoStageModule, simulation: Simulation) -> Plot:
    data, twin = module.data, module.twin
    assert data.target is not None
    real = data.expression(data.target, "test").mean(0) - data.expression(data.source, "test").mean(0)
    predicted = twin.expression(simulation.final).mean(0) - twin.expression(simulation.start).mean(0)
    return plot_delta(data.genes, _numpy(real), _numpy(predicted))


def _learning_plot(curves: pd.DataFrame | None) -> list[Plot]:
    return (
        [] if curves is None or "return" not in curves else [plot_learning(curves.dropna(subset=["return"]))]
    )


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


@torch.no_grad()
def _predictions(module: TwoStageModule, simulation: Simulation) -> AnnData:
    """Start cells as ``control`` and dosed cells under the target's name, log-normalised, in one AnnData."""
    expression = torch.cat([module.twin.expression(state) for state in (simulation.start, simulation.final)])
    n, target = len(simulation.start), str(module.data.target)
    adata = AnnData(
        _numpy(expression.clamp_min(0)),
        obs=pd.DataFrame(
            {PERTURBATION_OBS: pd.Categorical([CONTROL_LABEL] * n + [target] * n)},
            index=[f"{kind}_{i}" for kind in ("start", "dosed") for i in range(n)],
        ),
        var=pd.DataFrame(index=list(module.gene_names)),
    )
    adata.obsm[LATENT_OBSM] = _numpy(torch.cat((simulation.start, simulation.final)))
    doses = _numpy(simulation.doses.sum(1))
    adata.obsm["dose"] = pd.DataFrame(
        np.concatenate((np.zeros_like(doses), doses)),
        index=adata.obs_names,
        columns=list(module.require_space().names),
    )
    return adata
