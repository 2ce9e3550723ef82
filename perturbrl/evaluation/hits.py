"""Which perturbations a design doses, how strongly, and whether they are the target's own."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.evaluation.simulation import Simulation
from perturbrl.evaluation.statistics import Interval
from perturbrl.planning.design_problem import DesignProblem

N_BOOTSTRAP: Final = 1000
_CHUNK: Final = 1 << 22


@dataclass(frozen=True)
class Hit:
    """One perturbation of the policy's design.

    Attributes:
        perturbation: its name.
        dose: mean over cells of its summed dose, with a bootstrap interval over cells.
        direction: sign of the dose in words: ``up``, ``down``, or ``none`` where no cell receives it; a report
            may say what the dose means in a screen instead.
        share_of_cells: fraction of cells that receive it.
        evidence: what its effect rests on in the twin, in one word; empty where the twin does not tell.
    """

    perturbation: str
    dose: Interval
    direction: str
    share_of_cells: float
    evidence: str = ""


def rank_hits(problem: DesignProblem, simulation: Simulation) -> tuple[Hit, ...]:
    """The design's perturbations by the size of their mean dose, with bootstrap intervals over cells."""
    total = simulation.given.sum(1).double()
    share = _of_all(simulation, (simulation.given != 0).any(1).double().mean(0))
    # What no cell receives is 0 in every resample.
    ends = [torch.as_tensor(end) for end in _bootstrap_means(total.cpu().numpy(), problem.seed)]
    mean, low, high = (_of_all(simulation, own.to(total)) for own in (total.mean(0), *ends))
    order = np.argsort(-np.abs(mean), kind="stable")
    evidence = problem.evidence
    directions = {1.0: "up", -1.0: "down", 0.0: "none"}
    return tuple(
        Hit(
            problem.space.names[i],
            Interval(float(mean[i]), float(low[i]), float(high[i])),
            directions[float(np.sign(mean[i]))],
            float(share[i]),
            evidence[i] if evidence else "",
        )
        for i in order
    )


def _of_all(simulation: Simulation, values: Tensor) -> Float[np.ndarray, " perturbations"]:
    return simulation.of_all(values).cpu().numpy()


def _bootstrap_means(values: Float[np.ndarray, "cells columns"], seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = len(values)
    rows = max(1, _CHUNK // n)
    means = [
        rng.multinomial(n, np.full(n, 1 / n), size=min(rows, N_BOOTSTRAP - done)) @ values / n
        for done in range(0, N_BOOTSTRAP, rows)
    ]
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975), axis=0)
    return low, high
