"""The linear baseline of the published comparison of response models."""

from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA

from perturbrl.data.labels import Label
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.responses.baselines import Baseline, ShiftOf
from perturbrl.responses.measured_shifts import Shifts

Rows = dict[str, Float[np.ndarray, " d"]]


class BilinearRidge(Baseline):
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

    def learn(self, context: str) -> ShiftOf:
        """G W p + b − c.

        Raises:
            DataError: ``target_gene`` and a perturbation targets a gene that was not measured.
        """
        known, control = self.measured.seen_from(context), self.measured.controls[context]
        y = np.stack([control + shift for shift in known.values()], axis=1)
        mean = y.mean(axis=1, keepdims=True)
        gene_scores = PCA(min(self.n_components, *y.shape), svd_solver="full").fit_transform(y)
        rows = self._embeddings(known, gene_scores)
        p = np.stack([self._embed(label, rows) for label in known], axis=1)
        left = np.linalg.solve(self._regularised(gene_scores.T @ gene_scores), gene_scores.T)
        right = np.linalg.solve(self._regularised(p @ p.T), p).T
        effect = gene_scores @ (left @ (y - mean) @ right)
        return lambda label: effect @ self._embed(label, rows) + mean[:, 0] - control

    def _embeddings(self, known: Shifts, gene_scores: Float[np.ndarray, "genes k"]) -> Rows:
        if self.embedding == "target_gene":
            return dict(zip(self.measured.genes, gene_scores, strict=True))
        names = sorted({single for label in known for single in label.singles})
        return dict(zip(names, np.eye(len(names)), strict=True))

    def _embed(self, label: Label, rows: Rows) -> Float[np.ndarray, " d"]:
        parts = label.names if self.embedding == "target_gene" else label.singles
        unknown = sorted(part for part in parts if part not in rows)
        if unknown and self.embedding == "target_gene":
            raise DataError(
                f"bilinear ridge cannot embed {unknown}, which are not among the measured genes; use the "
                "'indicator' embedding"
            )
        width = len(next(iter(rows.values())))
        return np.sum([rows.get(part, np.zeros(width)) for part in parts], axis=0)

    def _regularised(self, gram: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
        return gram + self.ridge * np.eye(len(gram))
