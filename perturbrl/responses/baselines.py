"""Response predictors that know little: what any model of perturbation responses has to beat.

All of them predict a shift from control, ``delta``; a prediction is the control mean of the cells in question
plus that shift. With the training control this is each baseline's formula as published, and with the control
of another cell type it carries the effect over to that type. A combination is a label such as ``A+B``; the
order of its parts does not matter.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from sklearn.decomposition import PCA

from perturbrl.errors import ConfigurationError, DataError
from perturbrl.responses.training_cells import GeneVector, Parts, TrainingCells, parts_of
from perturbrl.schema import CONTROL_LABEL


class ResponseBaseline(ABC):
    """A predictor of mean responses: ``fit`` once, then ``predict`` any perturbation.

    Attributes:
        name: row of the tables.
        control: mean expression of the training control cells, known after ``fit``.
        centroids: mean expression of each training perturbation, known after ``fit``.
        training_mean: m, the mean of these centroids.
    """

    name: ClassVar[str]
    control: GeneVector
    centroids: dict[Parts, GeneVector]
    training_mean: GeneVector

    def fit(self, cells: TrainingCells) -> "ResponseBaseline":
        """Learn from training cells."""
        self._take(cells.centroids())
        return self

    def _take(self, centroids: dict[Parts, GeneVector]) -> None:
        self.control = centroids[parts_of(CONTROL_LABEL)]
        self.centroids = {
            parts: mean for parts, mean in centroids.items() if parts != parts_of(CONTROL_LABEL)
        }
        self.training_mean = np.mean(list(self.centroids.values()), axis=0)

    @abstractmethod
    def delta(self, perturbation: str) -> GeneVector:
        """Predicted shift of the mean from control."""

    def predict(
        self, perturbations: Sequence[str], control: GeneVector | None = None
    ) -> Float[np.ndarray, "perturbations genes"]:
        """Predicted mean expression of each perturbation.

        Args:
            perturbations: labels.
            control: mean of the control cells in question; the training control by default.
        """
        start = self.control if control is None else control
        return np.stack([start + self.delta(perturbation) for perturbation in perturbations])


class NoOp(ResponseBaseline):
    """Nothing happens: the control mean."""

    name = "no_op"

    def delta(self, perturbation: str) -> GeneVector:
        """Zero."""
        return np.zeros_like(self.control)


class TrainingMean(ResponseBaseline):
    """Every perturbation does what the training perturbations do on average: m."""

    name = "training_mean"

    def delta(self, perturbation: str) -> GeneVector:
        """m − c."""
        return self.training_mean - self.control


class RandomPerturbation(ResponseBaseline):
    """The centroid of a training perturbation drawn at random for each query.

    Args:
        seed: of the draws; the same query gets another one in every call.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def delta(self, perturbation: str) -> GeneVector:
        """x̄ of a random training perturbation − c."""
        drawn = list(self.centroids.values())[self._rng.integers(len(self.centroids))]
        return drawn - self.control


class CellTypeMean(ResponseBaseline):
    """Every perturbation does what training perturbations do on average in this one cell type.

    Args:
        cell_type: the type to be predicted; some perturbation must have been measured in it.
    """

    name = "cell_type_mean"

    def __init__(self, cell_type: str) -> None:
        self.cell_type = cell_type

    def fit(self, cells: TrainingCells) -> "ResponseBaseline":
        """Learn from the training cells of this type only.

        Raises:
            DataError: there are no cell types, or the type has no control or no perturbed training cell.
        """
        if cells.cell_types is None:
            raise DataError(
                "the cell-type mean needs the cell type of every cell; name the column that holds it"
            )
        centroids = cells.centroids(among=np.asarray(cells.cell_types) == self.cell_type)
        if parts_of(CONTROL_LABEL) not in centroids or len(centroids) < 2:
            raise DataError(
                f"cell type '{self.cell_type}' has training cells of {len(centroids)} labels; the cell-type "
                "mean needs its control and a perturbation, so leave this baseline out for it"
            )
        self._take(centroids)
        return self

    def delta(self, perturbation: str) -> GeneVector:
        """m − c of the cell type."""
        return self.training_mean - self.control


class Additive(ResponseBaseline):
    """Effects of single perturbations add up: c + Σ (x̄ᵢ − c).

    A part never seen alone counts as the average training perturbation, m − c.
    """

    name = "additive"

    def delta(self, perturbation: str) -> GeneVector:
        """Sum of the parts' shifts."""
        parts = parts_of(perturbation)
        return np.sum([self.centroids.get(frozenset({p}), self.training_mean) for p in parts], axis=0) - (
            len(parts) * self.control
        )


class MatchingMean(ResponseBaseline):
    """Mean of the centroids of the parts, m for a part never seen alone (Viñas Torné 2025, "Systema")."""

    name = "matching_mean"

    def delta(self, perturbation: str) -> GeneVector:
        """Mean of the parts' shifts."""
        single = [self.centroids.get(frozenset({p}), self.training_mean) for p in parts_of(perturbation)]
        return np.mean(single, axis=0) - self.control


class NearestPerturbation(ResponseBaseline):
    """The mean centroid of the training perturbations that share the largest part of the query's genes.

    Nearness is the Jaccard index of the sets of parts; m where nothing is shared.
    """

    name = "nearest_perturbation"

    def delta(self, perturbation: str) -> GeneVector:
        """Mean shift of the nearest training perturbations."""
        query = parts_of(perturbation)
        shared = np.array([len(query & parts) / len(query | parts) for parts in self.centroids])
        if shared.max() == 0:
            return self.training_mean - self.control
        nearest = np.stack(list(self.centroids.values()))[shared == shared.max()]
        return nearest.mean(axis=0) - self.control


class BilinearRidge(ResponseBaseline):
    """The linear model of Ahlmann-Eltze 2025: Ŷ = G W P + b.

    Y [genes, perturbations] holds the training centroids, b their mean, G [genes, k] the scores of the genes
    on the first k principal components of Y, P [d, perturbations] an embedding of the perturbations, and
    W = (GᵀG + λI)⁻¹ Gᵀ (Y − b) Pᵀ (P Pᵀ + λI)⁻¹.

    Args:
        embedding: ``target_gene``, as published, gives a perturbation the row of G of the gene it targets,
            which must have been measured; ``indicator`` one dimension per single perturbation of the training
            set, for panels in which the targets were not measured. Embeddings of the parts of a combination
            add up. With ``indicator`` a part never trained on adds nothing.
        n_components: k; cut to what the training set allows.
        ridge: λ, in squared units of log expression.

    Source: Ahlmann-Eltze 2025, Nature Methods, "Deep-learning-based gene perturbation effect prediction does
    not yet outperform simple linear baselines".
    """

    name = "bilinear_ridge"

    def __init__(
        self,
        embedding: Literal["indicator", "target_gene"] = "indicator",
        n_components: int = 10,
        ridge: float = 0.1,
    ) -> None:
        if n_components < 1 or ridge <= 0:
            raise ConfigurationError(
                f"bilinear ridge got n_components = {n_components} and ridge = {ridge:g}; give positive ones"
            )
        self.embedding, self.n_components, self.ridge = embedding, n_components, ridge

    def fit(self, cells: TrainingCells) -> "ResponseBaseline":
        """Learn from training cells.

        Raises:
            DataError: ``target_gene`` and a training perturbation targets a gene that was not measured.
        """
        super().fit(cells)
        y = np.stack(list(self.centroids.values()), axis=1)
        k = min(self.n_components, *y.shape)
        gene_scores = PCA(k, svd_solver="full").fit_transform(y)
        self._rows = self._embeddings(cells.genes, gene_scores)
        p = np.stack([self._embed(parts) for parts in self.centroids], axis=1)
        left = np.linalg.solve(self._regularised(gene_scores.T @ gene_scores), gene_scores.T)
        right = np.linalg.solve(self._regularised(p @ p.T), p).T
        self._effect = gene_scores @ (left @ (y - self.training_mean[:, None]) @ right)
        return self

    def _embeddings(
        self, genes: Sequence[str], gene_scores: Float[np.ndarray, "genes k"]
    ) -> dict[str, Float[np.ndarray, " d"]]:
        if self.embedding == "target_gene":
            return dict(zip(genes, gene_scores, strict=True))
        names = sorted(frozenset[str]().union(*self.centroids))
        return dict(zip(names, np.eye(len(names)), strict=True))

    def _embed(self, parts: Parts) -> Float[np.ndarray, " d"]:
        unknown = sorted(part for part in parts if part not in self._rows)
        if unknown and self.embedding == "target_gene":
            raise DataError(
                f"bilinear ridge cannot embed {unknown}, which are not among the measured genes; use the "
                "'indicator' embedding"
            )
        width = len(next(iter(self._rows.values())))
        return np.sum([self._rows.get(part, np.zeros(width)) for part in parts], axis=0)

    def _regularised(self, gram: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
        return gram + self.ridge * np.eye(len(gram))

    def delta(self, perturbation: str) -> GeneVector:
        """G W p + b − c.

        Raises:
            DataError: ``target_gene`` and the perturbation targets a gene that was not measured.
        """
        return self._effect @ self._embed(parts_of(perturbation)) + self.training_mean - self.control


class SplitHalfReplicate(ResponseBaseline):
    """The ceiling: the mean of OTHER measured cells under the very same perturbation.

    Not a competitor: it is fitted on one half of the held-out cells and judged on the other, see
    `replicate_mask`.
    """

    name = "split_half_replicate"

    def delta(self, perturbation: str) -> GeneVector:
        """Measured shift in the replicate.

        Raises:
            DataError: the replicate holds no cell of this perturbation.
        """
        parts = parts_of(perturbation)
        if parts not in self.centroids:
            raise DataError(
                f"the replicate has no cells of '{perturbation}'; fit it on one half of the cells to judge"
            )
        return self.centroids[parts] - self.control


def replicate_mask(labels: Sequence[str], seed: int = 0) -> Bool[np.ndarray, " cells"]:
    """True for a random half of the cells of every label (the smaller half where their number is odd)."""
    rng = np.random.default_rng(seed)
    array = np.asarray(labels)
    mask = np.zeros(len(array), dtype=bool)
    for label in np.unique(array):
        rows = np.flatnonzero(array == label)
        mask[rng.permutation(rows)[: len(rows) // 2]] = True
    return mask


def competitors(seed: int = 0) -> tuple[ResponseBaseline, ...]:
    """Every baseline that needs nothing but training cells, unfitted; the rows of every response table."""
    return (
        NoOp(),
        RandomPerturbation(seed),
        TrainingMean(),
        Additive(),
        MatchingMean(),
        BilinearRidge(),
        NearestPerturbation(),
    )
