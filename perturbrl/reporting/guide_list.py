"""A design as a list that a laboratory can order guides from."""

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.evaluation.hits import Hit
from perturbrl.evaluation.simulation import Simulation, simulate
from perturbrl.planning.design_problem import DesignProblem, GivenSchedule, Schedule
from perturbrl.reporting.judged import Judged
from perturbrl.schema import GUIDE_OBS, PERTURBATION_OBS, PERTURBATION_TYPE_OBS

GUIDE_COLUMNS: Final = (
    *(
        "rank",
        "gene",
        "intervention",
        "direction",
        "dose",
        "share_of_cells",
        "evidence",
        "expected_effect",
        "guides",
    ),
)
_CELLS: Final = 256
# Beginnings of what perturbation_type says, in lower case, and what it is called; the first that fits counts.
_INTERVENTIONS: Final[Mapping[tuple[str, ...], str]] = {
    ("crispra", "crispr activation", "crispr-activation"): "activation",
    ("overexpression", "over-expression", "orf", "cdna"): "over-expression",
    (
        "crispri",
        "crispr interference",
        "crispr-interference",
        "cas13",
        "knock-down",
        "knockdown",
        "kd",
    ): "knock-down",
    ("rnai", "sirna", "shrna"): "knock-down",
    ("crispr", "cas9", "knock-out", "knockout", "ko"): "knock-out",
}


def guide_list(judged: Judged, hits: Sequence[Hit], simulation: Simulation) -> pd.DataFrame:
    """One row for each perturbation that any cell receives, most cells first as in ``hits``; none where none does.

    Returns:
        pd.DataFrame: ``rank``; ``gene``; ``intervention`` (activation, knock-down, knock-out, over-expression), as far
            as the file's ``perturbation_type`` says, else empty; ``direction`` of the gene, or of the measured effect;
            ``dose`` over all steps, mean over the cells that receive it (1 is as measured); ``share_of_cells`` that do;
            ``evidence`` of its effect; ``expected_effect``, the share of the way to the target that it covers alone at
            this dose, by the twin (below 0 is away from it); ``guides`` of the file's ``guide_id`` against it.
    """
    problem, cells = judged.problem, judged.measured
    rows = []
    for rank, hit in enumerate((hit for hit in hits if hit.share_of_cells > 0), start=1):
        schedule = _schedule(problem, simulation, hit.perturbation)
        rows.append(
            {
                "rank": rank,
                "gene": hit.perturbation,
                "intervention": _intervention(cells, hit),
                "direction": hit.direction,
                "dose": round(float(schedule.sum()), 4),
                "share_of_cells": round(hit.share_of_cells, 4),
                "evidence": hit.evidence,
                "expected_effect": float("nan") if problem.space.discrete else _covered(problem, schedule),
                "guides": _guides(cells, hit.perturbation),
            }
        )
    return pd.DataFrame(rows, columns=list(GUIDE_COLUMNS))


def _schedule(
    problem: DesignProblem, simulation: Simulation, perturbation: str
) -> Float[Tensor, "time perturbations"]:
    """What cells that receive a perturbation receive of it on average, and nothing else."""
    column = problem.space.names.index(perturbation)
    doses = simulation.given[:, :, simulation.columns == column].sum(2)
    received: Bool[Tensor, " cells"] = (doses != 0).any(1)
    schedule = doses.new_zeros(doses.shape[1], simulation.n_perturbations)
    schedule[:, column] = doses[received].mean(0)
    return schedule


def _covered(problem: DesignProblem, schedule: Schedule) -> float:
    """Share of the way between the means of start and goal cells that a schedule covers on training cells."""
    moved = simulate(problem, GivenSchedule("given", schedule), problem.twin.start_cells[:_CELLS])
    left = problem.shift - (moved.final - moved.start).mean(0)
    return float(1.0 - left.norm() / problem.shift.norm().clamp_min(1e-12))


def _intervention(cells: MeasuredCells | None, hit: Hit) -> str:
    """What the file calls it, where the dose goes the way that was measured."""
    if cells is None or PERTURBATION_TYPE_OBS not in cells.dataset.adata.obs or hit.dose.estimate <= 0:
        return ""
    obs = cells.dataset.adata.obs
    own = obs[PERTURBATION_TYPE_OBS][(obs[PERTURBATION_OBS] == hit.perturbation).to_numpy()]
    # What nobody measured is done as everything else in the screen, if all was done alike.
    kinds = sorted(
        {str(kind).casefold() for kind in (own if len(own) else obs[PERTURBATION_TYPE_OBS]).dropna()}
    )
    named = {_named(kind) for kind in kinds} - {""}
    return named.pop() if len(named) == 1 else ""


def _named(kind: str) -> str:
    return next((word for starts, word in _INTERVENTIONS.items() if kind.startswith(starts)), "")


def _guides(cells: MeasuredCells | None, perturbation: str) -> str:
    """The guides that the file names against a gene, separated by spaces."""
    if cells is None or GUIDE_OBS not in cells.dataset.adata.obs:
        return ""
    obs = cells.dataset.adata.obs
    own = obs[GUIDE_OBS][(obs[PERTURBATION_OBS] == perturbation).to_numpy()].dropna()
    return " ".join(sorted({str(guide) for guide in own}))
