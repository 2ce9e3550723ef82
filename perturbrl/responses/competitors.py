"""The rows of every response table."""

from collections.abc import Sequence

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.base import ResponseModel
from perturbrl.responses.baselines import (
    Additive,
    CellTypeMean,
    MatchingMean,
    NearestContext,
    NearestPerturbationResponse,
    NoOpResponse,
    RandomPerturbation,
    TrainingMean,
)
from perturbrl.responses.bilinear_ridge import BilinearRidge
from perturbrl.responses.prior_baselines import NearestByPrior, RidgeOnPrior
from perturbrl.responses.same_target import SameTarget, ScaledSameTarget
from perturbrl.responses.training_cells import TrainingCells


def competitors(
    cells: TrainingCells, seed: int = 0, priors: Sequence[PriorKnowledge] = ()
) -> tuple[ResponseModel, ...]:
    """Every baseline that these inputs allow, unfitted; the rows of every response table.

    Args:
        cells: what they are to learn from; of several contexts, baselines that tell them apart are there.
        seed: of what is drawn at random.
        priors: with any, baselines that go by them are there; of a second screen, those of the same target, too.
    """
    several = len(set(cells.control_types)) > 1
    of_contexts = (CellTypeMean(), NearestContext()) if several else ()
    of_priors = (NearestByPrior(priors), RidgeOnPrior(priors)) if priors else ()
    screens = [prior for prior in priors if prior.screen is not None][:1]
    of_screens = [of_screen(one) for one in screens for of_screen in (SameTarget, ScaledSameTarget)]
    return (
        NoOpResponse(),
        RandomPerturbation(seed),
        TrainingMean(),
        *of_contexts,
        Additive(),
        MatchingMean(),
        BilinearRidge(),
        NearestPerturbationResponse(),
        *of_priors,
        *of_screens,
    )
