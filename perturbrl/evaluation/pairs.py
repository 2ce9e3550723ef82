"""A validated pair of measured and predicted cells, the one input of every response metric."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from anndata import AnnData
from jaxtyping import Float, Shaped
from scipy.sparse import issparse

from perturbrl.errors import DataError
from perturbrl.schema import CONTROL_LABEL, PERTURBATION_OBS, TARGET_SUM

Scale = Literal["counts", "log1p"]
Side = Literal["real", "predicted"]

# log1p of ten thousand counts is 9.2 and of a million 13.8; counts pass this soon.
_LARGEST_LOG: Final = 20.0


@dataclass(frozen=True)
class ResponsePair:
    """Measured and predicted cells under the same perturbations, over the same genes, checked once.

    Metrics see log1p(1e4 · counts / size factor). They never see the predicted control cells: both sides are
    compared with the REAL control, or a predictor could look good by shifting its control.

    Attributes:
        real: measured cells (held-out ones).
        predicted: predicted cells; their number per perturbation may differ from the real one.
        scale: what both ``X`` hold: ``counts`` (whole numbers, normalised here) or ``log1p`` (normalised and
            logarithmised already, natural logarithm).
        perturbation_key: obs column with the labels; controls are labelled ``control``.
        size_factor_key: obs column, on both sides, with the counts of the cell before genes were cut;
            ``None`` takes the sum over the genes in the file. Of no use for ``log1p``.

    Raises:
        DataError: genes or labels differ, there is no control or no perturbation, or values do not fit.
    """

    real: AnnData
    predicted: AnnData
    scale: Scale
    perturbation_key: str = PERTURBATION_OBS
    size_factor_key: str | None = None

    def __post_init__(self) -> None:
        _check_genes(self.real, self.predicted)
        for side in ("real", "predicted"):
            self._check_labels(side)
            _check_values(getattr(self, side).X, side, self.scale)
            self._check_size_factors(side)
        self._check_same_perturbations()

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """Gene names, in the order of the columns."""
        return tuple(map(str, self.real.var_names))

    @cached_property
    def perturbations(self) -> tuple[str, ...]:
        """Labels of the perturbations, sorted, without the control; the rows of `means`."""
        return tuple(sorted(set(self._labels("real")) - {CONTROL_LABEL}))

    def cells(self, side: Side, label: str) -> Float[np.ndarray, "cells genes"]:
        """Log-normalised cells of one label.

        Raises:
            DataError: the label is not in the pair.
        """
        rows = np.flatnonzero(self._labels(side) == label)
        if rows.size == 0:
            raise DataError(
                f"there are no {side} cells labelled '{label}'; the labels are {self.perturbations}"
            )
        chosen = getattr(self, side)[rows]
        x = chosen.X.toarray() if issparse(chosen.X) else np.asarray(chosen.X)
        if self.scale == "log1p":
            return x.astype(np.float64)
        size = x.sum(axis=1) if self.size_factor_key is None else chosen.obs[self.size_factor_key].to_numpy()
        return np.log1p(TARGET_SUM * x.astype(np.float64) / size.astype(np.float64)[:, None])

    @cached_property
    def control(self) -> Float[np.ndarray, "cells genes"]:
        """Log-normalised REAL control cells."""
        return self.cells("real", CONTROL_LABEL)

    @cached_property
    def real_means(self) -> Float[np.ndarray, "perturbations genes"]:
        """Mean log expression of the real cells of each perturbation."""
        return np.stack([self.cells("real", label).mean(axis=0) for label in self.perturbations])

    @cached_property
    def predicted_means(self) -> Float[np.ndarray, "perturbations genes"]:
        """Mean log expression of the predicted cells of each perturbation."""
        return np.stack([self.cells("predicted", label).mean(axis=0) for label in self.perturbations])

    def _labels(self, side: Side) -> Shaped[np.ndarray, " cells"]:
        return getattr(self, side).obs[self.perturbation_key].astype(str).to_numpy()

    def _check_labels(self, side: Side) -> None:
        obs, key = getattr(self, side).obs, self.perturbation_key
        if key not in obs:
            raise DataError(
                f"the {side} cells have no obs column '{key}' (there are {list(obs.columns)}); name the "
                "column that holds the perturbations"
            )
        if obs[key].isna().any():
            raise DataError(
                f"{int(obs[key].isna().sum())} {side} cells have no label in '{key}'; label or remove them"
            )
        if CONTROL_LABEL not in self._labels(side):
            raise DataError(
                f"no {side} cell is labelled '{CONTROL_LABEL}' in '{key}'; add the control cells or rename "
                "their label"
            )

    def _check_size_factors(self, side: Side) -> None:
        obs, key = getattr(self, side).obs, self.size_factor_key
        if self.scale == "log1p":
            return
        if key is None:
            sizes = np.asarray(getattr(self, side).X.sum(axis=1)).ravel()
        elif key in obs:
            sizes = obs[key].to_numpy(dtype=np.float64)
        else:
            raise DataError(f"the {side} cells have no size factor '{key}' in obs; write it for both sides")
        bad = int((~(np.isfinite(sizes) & (sizes > 0))).sum())
        if bad:
            raise DataError(
                f"{bad} {side} cells have a size factor ({key or 'sum of counts'}) that is not a positive "
                "number; remove these cells"
            )

    def _check_same_perturbations(self) -> None:
        real, predicted = set(self._labels("real")), set(self._labels("predicted"))
        if real != predicted:
            raise DataError(
                f"perturbations differ: {sorted(real - predicted)[:5]} were measured and not predicted, "
                f"{sorted(predicted - real)[:5]} predicted and not measured; cut both to the same ones"
            )
        if not self.perturbations:
            raise DataError("there are only control cells; add cells of at least one perturbation")


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
