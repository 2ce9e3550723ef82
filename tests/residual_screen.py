"""A small screen with a combination, encoded, and the twin and task of the forward problem on it."""

from collections.abc import Sequence

import numpy as np
import torch

from perturbrl.data.synthetic import simulate_screen
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.envs.match_response import MatchResponse
from perturbrl.twins.base import EpisodeCells
from perturbrl.twins.residual import ResidualTwin


def encoded(
    n_perturbations: int = 6, n_combinations: int = 2, contexts: Sequence[str] = (), seed: int = 1
) -> tuple[EncodedCells, PCAEncoder]:
    """Cells and their encoder; contexts are dealt out in turn."""
    adata = simulate_screen(
        n_perturbations,
        n_genes=40,
        n_control=60,
        cells_per_perturbation=30,
        n_combinations=n_combinations,
        seed=seed,
    )
    counts = torch.as_tensor(adata.X.toarray()).float()
    expression = torch.log1p(1e4 * counts / counts.sum(1, keepdim=True))
    encoder = PCAEncoder(latent_dim=5).fit(expression)
    labels = tuple(adata.obs["perturbation"].astype(str))
    types = tuple(np.resize(contexts, len(labels))) if contexts else None
    return EncodedCells(
        encoder.encode(expression), expression, labels, tuple(adata.var_names), types
    ), encoder


def fitted_twin(**options: object) -> ResidualTwin:
    """The twin on the screen."""
    return ResidualTwin(**{"cells_per_condition": 16, **options}).fit(*encoded())


def episodes(twin: ResidualTwin) -> EpisodeCells:
    """What a fitted twin's episodes are about."""
    found = twin.episodes()
    assert found is not None
    return found


def aimed(twin: ResidualTwin, **options: object) -> MatchResponse:
    """The task on the twin's episodes."""
    task = MatchResponse(**options)
    cells = episodes(twin)
    task.aim(cells.start, cells.goal, cells.reference)
    return task
