"""A pair of AnnData files, measured and predicted cells, checked and turned into the input of every metric."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from anndata import AnnData
from jaxtyping import Shaped
from scipy.sparse import issparse

from perturbrl.errors import DataError
from perturbrl.evaluation.pairs import CellsOnDemand, MeasuredResponses, PredictedResponses, ResponsePair
from perturbrl.schema import CONTROL_LABEL, PERTURBATION_OBS, TARGET_SUM, GeneVector, LogExpression

Scale = Literal["counts", "log1p"]
Side = Literal["real", "predicted"]

# log1p of ten thousand counts is 9.2 and of a million 13.8; counts pass this soon.
_LARGEST_LOG: Final = 20.0


def pair_from_adata(
    real: AnnData,
    predicted: AnnData,
    scale: Scale,
    *,
    training_mean: GeneVector | None = None,
    perturbation_key: str = PERTURBATION_OBS,
    size_factor_key: str | None = None,
) -> ResponsePair:
    """Measured and predicted cells of two AnnData, as ``cell-eval`` and ``cell-eval2`` take them.

    Metrics see log1p(1e4 · counts / size factor). They never see the predicted control cells: both sides are
    compared with the REAL control, or a predictor could look good by shifting its control. Predicted shifts
    count from the real control, too, since a file does not say which control its predictor learned from.

    Args:
        real: measured cells (held-out ones).
        predicted: predicted cells; their number per perturbation may differ from the real one.
        scale: what both ``X`` hold: ``counts`` (whole numbers, normalised here) or ``log1p`` (normalised and
            logarithmised already, natural logarithm).
        training_mean: mean of the centroids of the TRAINING perturbations, log expression; by default that of the
            measured ones, which no predictor could know.
        perturbation_key: obs column with the labels; controls are labelled ``control``.
        size_factor_key: obs column, on both sides, with the counts of the cell before genes were cut;
            ``None`` takes the sum over the genes in the file. Of no use for ``log1p``.

    Raises:
        DataError: genes or labels differ, there is no control or no perturbation, or values do not fit.
    """
    _check_genes(real, predicted)
    judges = _LabelledCells(real, "real", scale, perturbation_key, size_factor_key)
    claims = _LabelledCells(predicted, "predicted", scale, perturbation_key, size_factor_key)
    for side in (judges, claims):
        side.check()
    measured = MeasuredResponses(
        tuple(map(str, real.var_names)), judges.of(CONTROL_LABEL), judges.on_demand()
    )
    control = measured.control_mean
    shifts = {label: claims.of(label).mean(axis=0) - control for label in claims.perturbations}
    centre = np.mean(list(measured.means.values()), axis=0) if training_mean is None else training_mean
    return ResponsePair(measured, PredictedResponses(shifts, control, claims.on_demand()), centre)


@dataclass(frozen=True, eq=False)
class _LabelledCells:
    """One side of the pair."""

    adata: AnnData
    side: Side
    scale: Scale
    perturbation_key: str
    size_factor_key: str | None

    @cached_property
    def labels(self) -> Shaped[np.ndarray, " cells"]:
        return self.adata.obs[self.perturbation_key].astype(str).to_numpy()

    @property
    def perturbations(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.labels) - {CONTROL_LABEL}))

    def on_demand(self) -> CellsOnDemand:
        return CellsOnDemand(self.perturbations, self.of)

    def of(self, label: str) -> LogExpression:
        """Log-normalised cells of one label."""
        chosen = self.adata[np.flatnonzero(self.labels == label)]
        x = (chosen.X.toarray() if issparse(chosen.X) else np.asarray(chosen.X)).astype(np.float64)
        if self.scale == "log1p":
            return x
        key = self.size_factor_key
        size = x.sum(axis=1) if key is None else chosen.obs[key].to_numpy(dtype=np.float64)
        return np.log1p(TARGET_SUM * x / size[:, None])

    def check(self) -> None:
        self._check_labels()
        _check_values(self.adata.X, self.side, self.scale)
        if self.scale == "counts":
            self._check_size_factors()

    def _check_labels(self) -> None:
        obs, key = self.adata.obs, self.perturbation_key
        if key not in obs:
            raise DataError(
                f"the {self.side} cells have no obs column '{key}' (there are {list(obs.columns)}); name the "
                "column that holds the perturbations"
            )
        if obs[key].isna().any():
            raise DataError(
                f"{int(obs[key].isna().sum())} {self.side} cells have no label in '{key}'; label or remove them"
            )
        if CONTROL_LABEL not in self.labels:
            raise DataError(
                f"no {self.side} cell is labelled '{CONTROL_LABEL}' in '{key}'; add the control cells or rename "
                "their label"
            )

    def _check_size_factors(self) -> None:
        obs, key = self.adata.obs, self.size_factor_key
        if key is None:
            sizes = np.asarray(self.adata.X.sum(axis=1)).ravel()
        elif key in obs:
            sizes = obs[key].to_numpy(dtype=np.float64)
        else:
            raise DataError(
                f"the {self.side} cells have no size factor '{key}' in obs; write it for both sides"
            )
        bad = int((~(np.isfinite(sizes) & (sizes > 0))).sum())
        if bad:
            raise DataError(
                f"{bad} {self.side} cells have a size factor ({key or 'sum of counts'}) that is not a positive "
                "number; remove these cells"
            )


def _check_genes(real: AnnData, predicted: AnnData) -> None:
    a, b = list(real.var_names), list(predicted.var_names)
    if len(set(a)) < len(a):
        raise DataError(
            f"{len(a) - len(set(a))} gene names occur twice in the real cells; make them unique first"
        )
    if sorted(a) != sorted(b):
        raise DataError(
            f"genes differ: {len(set(a) - set(b))} of {len(a)} real genes are not predicted and "
            f"{len(set(b) - set(a))} predicted ones are not real; cut both to the same genes"
        )
    if a != b:
        raise DataError(
            "real and predicted cells have their genes in different orders; sort one by the other"
        )


def _check_values(x: Any, side: Side, scale: Scale) -> None:
    values = x.data if issparse(x) else np.asarray(x)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise DataError(f"{bad} values of the {side} cells are not finite; remove or repair those cells")
    if scale == "counts" and values.size and (values.min() < 0 or (values % 1 != 0).any()):
        raise DataError(
            f"the {side} cells were said to hold counts and hold values such as "
            f"{float(values[(values < 0) | (values % 1 != 0)][0]):g}; give raw counts, or scale 'log1p'"
        )
    if scale == "log1p" and values.size and values.max() > _LARGEST_LOG:
        raise DataError(
            f"the {side} cells were said to be log1p-normalised and reach {float(values.max()):g}, which no "
            "logarithm of a count does; give log1p values, or scale 'counts'"
        )
