"""The metrics of designs: what each did to held-out cells, and what it took."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from perturbrl.data.labels import Label
from perturbrl.evaluation import metrics
from perturbrl.evaluation.mean_distance import mean_distance, mean_distance_interval
from perturbrl.evaluation.populations import replicate_distance
from perturbrl.evaluation.registry_entry import Metric
from perturbrl.evaluation.simulation import Simulation
from perturbrl.evaluation.statistics import Interval, wilson_interval
from perturbrl.schema import Population


@dataclass(frozen=True, eq=False)
class DesignOutcome:
    """A design's simulation and what it is judged by.

    Attributes:
        simulation: what it did to held-out cells.
        target: ``[cells, latent]`` held-out target cells.
        label: canonical name of the target.
        names: perturbations that may be dosed, in the order of the doses.
        training_distance: distance that it leaves between training cells and the goal, ‖mean − mean‖.
        gap: by how much the best design known is paid more on training cells.
    """

    simulation: Simulation
    target: Population
    label: str
    names: Sequence[str]
    training_distance: float
    gap: float


def recall_of_components(names: Sequence[str], doses: Float[Tensor, " perturbations"], target: str) -> float:
    """Share of the target's components among as many strongest mean doses; nan if they cannot be dosed.

    Range [0, 1]; equal doses share the places that are left, and what is not dosed is not found, so a design that
    does nothing scores 0.

    Args:
        names: perturbations that may be dosed.
        doses: total of each, mean over cells.
        target: canonical name.

    Source: `metrics.recall_at_k` at k = the number of components.
    """
    wanted = {target} if target in names else set(Label.parse(target).names)
    if not wanted <= set(names):
        return nan
    strength = doses.abs().double().cpu().numpy()
    proposed = np.where(strength > 0, strength, -inf)
    return metrics.recall_at_k(proposed, np.array([name in wanted for name in names]), len(wanted))


def _recall(outcome: DesignOutcome) -> float:
    given = outcome.simulation.given.sum(1).mean(0)
    return recall_of_components(outcome.names, outcome.simulation.of_all(given), outcome.label)


def _displacement(outcome: DesignOutcome) -> float:
    sides = (outcome.simulation.final, outcome.simulation.start)
    return metrics.displacement_from_start(*(cells.double().cpu().numpy() for cells in sides))


def _arrived(outcome: DesignOutcome) -> Interval:
    success = outcome.simulation.success
    return wilson_interval(int(success.sum()), len(success))


DESIGN_METRICS: Final[tuple[Metric[DesignOutcome], ...]] = (
    Metric(
        "distance",
        "distance to target",
        "Between the means of dosed and of target cells in latent units, sampling noise removed, with its 95 % "
        "interval. 0 is as near as so many cells can tell.",
        "√(‖x̄ − ȳ‖² − tr S), S the covariance of the difference of means",
        better="smaller",
        no_op=None,
        source="every published design is judged by it; its bias is that of Hotelling 1931 (10.1214/aoms/1177732979)",
        function=lambda outcome: mean_distance_interval(outcome.simulation.final, outcome.target),
    ),
    Metric(
        "observed_distance",
        "observed distance",
        "The same with its sampling noise, which designs share; it orders the table.",
        "‖x̄ − ȳ‖",
        better="smaller",
        no_op=None,
        source="every published design is judged by it",
        function=lambda outcome: mean_distance(outcome.simulation.final, outcome.target),
    ),
    Metric(
        "relative_energy_distance",
        "energy distance",
        "Between the two populations of cells, in units of the distance between two halves of the target cells: 1 is "
        "as close as a replicate.",
        "energy distance / energy distance of two halves of the target cells",
        better="smaller",
        no_op=None,
        source="Székely & Rizzo 2013 (10.1016/j.jspi.2013.03.018); split-half replicate as in cell-eval2",
        function=lambda outcome: replicate_distance(outcome.simulation.final, outcome.target),
    ),
    Metric(
        "success",
        "cells in target",
        "Share of dosed cells that the task counts as arrived, with a 95 % Wilson interval.",
        "arrived cells / cells",
        better="larger",
        no_op=None,
        source="Wilson 1927 (10.1080/01621459.1927.10502953)",
        function=_arrived,
        high=1.0,
    ),
    Metric(
        "gap",
        "gap to best known",
        "By how much the best of all designs compared brings training cells further on the twin, as a share of the way "
        "and less the task's prices: 0 is the best known.",
        "max over designs of the mean return − mean return",
        better="smaller",
        no_op=None,
        source="simple regret of optimisation, with the best known in place of the optimum",
        function=lambda outcome: outcome.gap,
    ),
    Metric(
        "recall",
        "parts found",
        "Share of the target's own perturbations among as many strongest doses; a dash where they cannot be dosed.",
        "|k strongest ∩ target's k| / k",
        better="larger",
        no_op=0.0,
        source="recall at k of information retrieval",
        function=_recall,
        high=1.0,
    ),
    Metric(
        "dose",
        "total dose",
        "Mean over cells of the absolute doses summed over perturbations and steps.",
        "mean over cells of Σ |dose|",
        better="smaller",
        no_op=0.0,
        source="the cost that tasks put on doses",
        function=lambda outcome: float(outcome.simulation.given.abs().sum((1, 2)).mean()),
    ),
    Metric(
        "n_perturbations",
        "perturbations",
        "Mean number of different perturbations that a cell receives.",
        "mean over cells of |{perturbations with a dose}|",
        better="smaller",
        no_op=0.0,
        source="the cost that tasks put on perturbations",
        function=lambda outcome: float((outcome.simulation.given != 0).any(1).sum(-1).float().mean()),
    ),
    Metric(
        "displacement_from_start",
        "displacement from start",
        "R² of the final against the START state of the same cells. It is 1 for doing nothing in a twin without noise, "
        "and says only how little cells moved; it is here because other work reports it as success.",
        "mean over dimensions of 1 − Σ(z_T − z_0)² / Σ(z_0 − mean z_0)²",
        better="neither",
        no_op=1.0,
        source="the notebooks that accompany arXiv 2510.13018",
        function=_displacement,
        low=-inf,
        high=1.0,
    ),
    Metric(
        "training_distance",
        "training distance",
        "Between the means of dosed training cells and of the goal in latent units.",
        "‖x̄ − ḡ‖",
        better="smaller",
        no_op=None,
        source="the distance that planners minimise",
        function=lambda outcome: outcome.training_distance,
    ),
)
