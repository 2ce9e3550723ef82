"""The rows of every response table."""

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
from perturbrl.responses.training_cells import TrainingCells


def competitors(cells: TrainingCells, seed: int = 0) -> tuple[ResponseModel, ...]:
    """Every baseline that needs nothing but these training cells, unfitted; the rows of every response table.

    Those that tell contexts apart are among them where there are several.
    """
    several = len(set(cells.control_types)) > 1
    of_contexts = (CellTypeMean(), NearestContext()) if several else ()
    return (
        NoOpResponse(),
        RandomPerturbation(seed),
        TrainingMean(),
        *of_contexts,
        Additive(),
        MatchingMean(),
        BilinearRidge(),
        NearestPerturbationResponse(),
    )
