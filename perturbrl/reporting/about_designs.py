"""What a page says of a design's question and of the cells it rests on, as name and value."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.errors import listed
from perturbrl.evaluation.design import UnseenCells
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.reporting.about_cells import cells_and_genes, what_orders, what_was_measured
from perturbrl.reporting.judged import Judged
from perturbrl.reporting.report_tables import OTHER_HALF
from perturbrl.reporting.report_text import percent
from perturbrl.twins.landscape import LandscapeTwin
from perturbrl.twins.perturbations import PerturbationSpace

_DOSES_SHOWN: Final = 6
_INFERRED: Final = ("regulators", "association")


def question_of(judged: Judged) -> Mapping[str, str]:
    """From where to where, with what, and how it was trained."""
    problem, space = judged.problem, judged.problem.space
    limit = space.max_perturbations
    return {
        "cells go from": judged.source,
        "to": judged.target,
        "may be dosed": _how_many(problem) + (f", at most {limit} in one cell" if limit else ""),
        "dose per step": f"{float(space.low.min()):g} to {float(space.high.max()):g} ({_full_dose(problem)}); "
        f"less than {100 * space.min_dose:g} % of the range counts as none",
        **_measured_doses(space),
        **_evidence(problem),
        "steps": str(problem.horizon),
        "digital twin": type(problem.twin).__name__,
        "training": judged.training,
    }


def _how_many(problem: DesignProblem) -> str:
    few, all_ = problem.space.n_perturbations, problem.twin.perturbations.n_perturbations
    return f"{few} perturbations" if few == all_ else f"{few} of the {all_} perturbations that the twin knows"


def _full_dose(problem: DesignProblem) -> str:
    """What a dose of 1 is."""
    told = set(problem.evidence)
    if not told & set(_INFERRED):
        return "1 = as measured, or full expression"
    own = zip(problem.twin.evidence, problem.twin.senses, strict=True)
    way = "down" if {sense for evidence, sense in own if evidence in _INFERRED} == {-1} else "up"
    inferred = f"1 = {way} by one standard deviation of the gene's expression, or of its targets' activity"
    return inferred if told <= {*_INFERRED, "none"} else f"{inferred}; where it was measured, as measured"


def _evidence(problem: DesignProblem) -> Mapping[str, str]:
    """How many effects rest on what; where a table of regulators is given and tells of none, that."""
    counts = Counter(problem.evidence)
    if not counts:
        return {}
    said = ", ".join(f"{kind} ({n})" for kind, n in counts.most_common())
    twin = problem.twin
    tables = [one.regulators for one in twin.modules() if isinstance(one, LandscapeTwin) and one.regulators]
    unused = (
        f"; '{Path(tables[0]).name}' tells of none of them" if tables and not counts["regulators"] else ""
    )
    return {"effects rest on": f"{said}{unused}"}


def _measured_doses(space: PerturbationSpace) -> Mapping[str, str]:
    found = [
        f"{name} at {', '.join(f'{dose:g}' for dose in doses)} ({max(doses):g} is dose 1)"
        for name, doses in zip(space.names, space.measured_doses, strict=True)
        if doses
    ]
    more = [f"{len(found) - _DOSES_SHOWN} more"] if len(found) > _DOSES_SHOWN else []
    return {"measured doses": "; ".join([*found[:_DOSES_SHOWN], *more])} if found else {}


def data_of(judged: Judged, n_start: int, n_judged: int) -> Mapping[str, str]:
    """Which cells were used for what."""
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


def recognised(judged: Judged, cells: UnseenCells) -> dict[str, str]:
    """How far the verdict on dosed cells holds for real ones."""
    if not judged.judges:
        return {}
    silent = _without_effect(judged)
    said = f"{listed(silent, 5)}: their genes do not vary in the half that judges, so they do nothing there"
    goal = judged.problem.goal_cells.mean(0)
    shares = [
        percent(float(judged.problem.task.is_success(own, goal.expand_as(own)).float().mean()))
        for own in (cells.target, cells.start)
    ]
    return ({"without effect": said} if silent else {}) | {
        "arrived": f"what takes dosed cells for {judged.target} takes {shares[0]} of its real held-out cells for "
        f"it, and {shares[1]} of the undosed {judged.source} cells"
    }


def _halves(judged: Judged, n_train: int, judges: str) -> dict[str, str]:
    goal = f"{len(judged.problem.goal_cells)} cells of {judged.target}"
    return {
        "learned from": f"{n_train} training cells, among them {goal}, which define the goal",
        "judged by": f"{judges}: cells that no design was made with, on a twin learned from their half",
    }


def _without_effect(judged: Judged) -> tuple[str, ...]:
    """What may be dosed and does nothing on the twin that judges, because its gene does not vary there."""
    judge = judged.judges.get(OTHER_HALF)
    told = () if judge is None else judge.evidence
    return tuple(name for name, one in zip(judged.problem.space.names, told, strict=False) if one == "none")
