"""A landscape that is known, of which some cells were perturbed: gene1 up moves cells to the left fate."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import torch
from branching_cells import END, GENES, branching_cells, encoder_of

from perturbrl.data.cell_order import CellOrder
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.twins.joint import JointTwin
from perturbrl.twins.landscape import LandscapeTwin
from perturbrl.twins.response import ResponseTwin

N_PERTURBED = 60


def joint_cells() -> tuple[EncodedCells, PCAEncoder]:
    """Controls of ``branching_cells``, and cells under ``gene1`` (as its fate has it) and ``drug`` (the other way)."""
    controls = branching_cells()
    shift = torch.zeros(len(GENES))
    shift[1] = float(END[0, 1]) / 2
    some = controls.expression[:: len(controls.labels) // N_PERTURBED][:N_PERTURBED]
    values = torch.cat((controls.expression, some + shift, some - shift))
    encoder = encoder_of(controls)
    assert controls.order is not None
    assert controls.contexts is not None
    order = torch.cat((controls.order.values, *[controls.order.values[:N_PERTURBED]] * 2))
    return replace(
        controls,
        latent=encoder.encode(values),
        expression=values,
        labels=("control",) * len(controls.labels) + ("gene1",) * N_PERTURBED + ("drug",) * N_PERTURBED,
        contexts=controls.contexts + tuple(map(_kind, values[len(controls.labels) :])),
        order=CellOrder(order, "pseudotime"),
    ), encoder


def _kind(cell: torch.Tensor) -> str:
    return "progenitor" if cell[0] < 1.6 else "left" if cell[1] > 0 else "right"


def joint_twin(response_share: float = 0.5, n_members: int = 2) -> JointTwin:
    """A twin fitted to them, which starts from control cells."""
    return deepcopy(_fitted(response_share, n_members))


@cache
def _fitted(response_share: float, n_members: int) -> JointTwin:
    cells, encoder = joint_cells()
    twin = JointTwin(LandscapeTwin(n_members=n_members), ResponseTwin(), response_share).fit(cells, encoder)
    twin.start_from(cells.latent[cells.rows_of("control")][::4])
    return twin
