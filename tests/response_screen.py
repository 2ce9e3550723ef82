"""A screen whose combinations kriging learns from, and twins fitted to it."""

from copy import deepcopy
from functools import cache

from residual_screen import encoded

from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.twins.response import ResponseTwin


@cache
def screen() -> tuple[EncodedCells, PCAEncoder]:
    """Cells of five perturbations and three combinations, as states of five dimensions."""
    return encoded(5, 3)


def response_twin(*, remembered: int = 99, n_members: int = 1) -> ResponseTwin:
    """A twin fitted to the screen, which starts from its control cells."""
    twin, (cells, _) = deepcopy(_fitted(n_members)), screen()
    twin.remember(remembered)
    twin.start_from(cells.latent[cells.rows_of("control")])
    return twin


@cache
def _fitted(n_members: int) -> ResponseTwin:
    return ResponseTwin(n_members).fit(*screen())


@cache
def kriging() -> Kriging:
    """Of the same cells."""
    cells, _ = screen()
    return Kriging().fit(TrainingCells(cells.expression, cells.labels, cells.genes))
