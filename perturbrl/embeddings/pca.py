"""Principal components: the linear encoder."""

from typing import Final, Self

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from torch import Tensor

from perturbrl.embeddings.base import Encoder, check_enough
from perturbrl.schema import CellState, Expression

_FOLDS: Final = 5
_ROUNDING: Final = 1e-6


class PCAEncoder(Encoder):
    """Cell states are scores on the leading principal components of the training cells.

    Distances in the latent space are distances in expression space within the span of the components, so an effect
    keeps its measured length; whitened, each component counts in units of how much cells differ along it.

    Args:
        latent_dim: number of components.
        whiten: divide each score by its standard deviation over training cells. What cells differ in anyhow, such as
            the phase of their cycle, then no longer decides which of two designs ends nearer.
    """

    mean: Float[Tensor, " genes"]
    components: Float[Tensor, "latent genes"]
    unit: Float[Tensor, " latent"]

    def __init__(self, latent_dim: int = 20, whiten: bool = False) -> None:
        super().__init__()
        self.latent_dim, self.whiten = latent_dim, whiten
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("unit", torch.empty(0))
        self.register_buffer("components", torch.empty(0, 0))

    def fit(self, expression: Expression) -> Self:
        """Find the components by an exact, deterministic decomposition (see ``Encoder``)."""
        check_enough(expression, self.latent_dim)
        cells, genes = expression.shape
        # Both are exact in double precision; 6,000 x 2,000 values take 1.9 s by the first and 7.4 s by the other.
        solver = "covariance_eigh" if cells >= genes else "full"
        pca = PCA(self.latent_dim, svd_solver=solver).fit(expression.double().cpu().numpy())
        self.set_buffers(
            mean=torch.as_tensor(pca.mean_, dtype=torch.float32),
            components=torch.as_tensor(pca.components_, dtype=torch.float32),
            unit=torch.as_tensor(self._units(pca), dtype=torch.float32),
        )
        return self

    def _units(self, pca: PCA) -> np.ndarray:
        spread = np.sqrt(pca.explained_variance_)
        # A component in which cells hardly differ is what rounding leaves of none.
        return np.where(spread > _ROUNDING * spread[0], spread, 1.0) if self.whiten else np.ones_like(spread)

    @property
    def directions(self) -> Float[Tensor, "latent genes"]:
        """What a unit of each gene adds to a cell's state."""
        return self.components / self.unit[:, None]

    def unseen_spread(self, expression: Expression) -> Float[Tensor, " latent"]:
        """See ``Encoder``; by cross-validation, component by component.

        On Paul 2015 (2,128 cells, 3,004 genes) .99 in the first and .54 in the last of 20 components, as in the cells
        held out.
        """
        values = expression.double().cpu().numpy()
        folds = KFold(_FOLDS, shuffle=True, random_state=0).split(values)
        ratios = [self._spread_ratio(values[seen], values[unseen]) for seen, unseen in folds]
        return torch.as_tensor(np.mean(ratios, axis=0), dtype=torch.float32)

    def _spread_ratio(self, seen: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        pca = PCA(min(self.latent_dim, *seen.shape), svd_solver="randomized", random_state=0).fit(seen)
        ratio = pca.transform(unseen).std(axis=0) / np.maximum(pca.transform(seen).std(axis=0), 1e-12)
        return np.pad(ratio, (0, self.latent_dim - len(ratio)), mode="edge")

    def encode(self, expression: Expression) -> CellState:
        """Scores on the components."""
        return (expression - self.mean) @ self.directions.T

    def decode(self, state: CellState) -> Expression:
        """The point of the components' plane with these scores."""
        return (state * self.unit) @ self.components + self.mean
