"""Populations as kriging sees them: the shift of each from control, how noisy it is, and where shifts lie."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from perturbrl.data.labels import CONTROL, Label, Part
from perturbrl.errors import DataError
from perturbrl.responses.sampling_noise import SamplingNoise
from perturbrl.responses.training_cells import Condition, TrainingCells, nothing_to_compare
from perturbrl.responses.transfer import Transfer
from perturbrl.schema import GeneVector

# A direction of less than this share of the largest one's length is what rounding leaves.
_ROUNDING = 1e-9

Shifts = Float[np.ndarray, "rows genes"]
Components = Float[np.ndarray, "components genes"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Shift of every measured population from the control cells of its context.

    All that kriging learns from. How cells vary is kept by gene and along the principal components of the shifts, which
    a second pass over the cells finds without a covariance of genes or a copy of the cells.

    Attributes:
        conditions: label and context of each row.
        shifts: ``[rows, genes]`` difference of mean log expression.
        n_cells: cells of each row.
        controls: ``[genes]`` mean control expression of each context.
        control_counts: control cells of each context.
        components: ``[components, genes]`` principal directions of the shifts in units of noise, of length 1.
        gene_variance: ``[genes]`` variance of a cell around the mean of its population.
        component_variance: ``[components]`` the same along each component.
        transfer: what another screen foretells, already taken off the shifts.
    """

    conditions: tuple[Condition, ...]
    shifts: Shifts
    n_cells: Int[np.ndarray, " rows"]
    controls: dict[str, GeneVector]
    control_counts: dict[str, int]
    components: Components
    gene_variance: GeneVector
    component_variance: Float[np.ndarray, " components"]
    transfer: Transfer | None = None

    @classmethod
    def of(cls, cells: TrainingCells, transfer: Transfer | None = None) -> "Moments":
        """Group training cells by label and context.

        Args:
            cells: the cells.
            transfer: taken off the shifts.

        Raises:
            DataError: no context has both control and perturbed cells, every population has one cell, or no mean
                differs from control.
        """
        conditions, codes = cells.conditions
        counts, means = np.bincount(codes), cells.means_by(codes, len(conditions))
        control_rows = {context: i for i, (label, context) in enumerate(conditions) if label == CONTROL}
        kept = [
            i for i, (label, where) in enumerate(conditions) if label != CONTROL and where in control_rows
        ]
        if not kept:
            raise DataError(nothing_to_compare(conditions))
        of_control = [control_rows[conditions[i][1]] for i in kept]
        shifts = means[kept] - means[of_control]
        if not shifts.any():
            raise DataError(
                f"the means of all {len(kept)} perturbed populations equal their control's; check the expression values"
            )
        if transfer is not None:
            shifts -= transfer.of([conditions[i] for i in kept])
        noise = SamplingNoise(counts[kept], counts[of_control], np.array(of_control))
        components = _principal_directions(noise.whiten(shifts))
        by_gene, along = _variances(cells, codes, means, components)
        return cls(
            tuple(conditions[i] for i in kept),
            shifts,
            counts[kept],
            {context: means[row] for context, row in control_rows.items()},
            {context: int(counts[row]) for context, row in control_rows.items()},
            components,
            by_gene,
            along,
            transfer,
        )

    @cached_property
    def noise(self) -> SamplingNoise:
        """Of the rows."""
        place = {context: i for i, context in enumerate(self.controls)}
        n_controls = np.array([self.control_counts[context] for _, context in self.conditions])
        return SamplingNoise(
            self.n_cells, n_controls, np.array([place[context] for _, context in self.conditions])
        )

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint."""
        return {
            "conditions": [
                [[_plain(part) for part in label.parts], context] for label, context in self.conditions
            ],
            "controls": {context: torch.from_numpy(mean) for context, mean in self.controls.items()},
            "control_counts": dict(self.control_counts),
            **{name: torch.from_numpy(getattr(self, name)) for name in _ARRAYS},
            **({"transfer": self.transfer.to_dict()} if self.transfer else {}),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Moments":
        """Restore what ``to_dict`` saved."""
        return cls(
            conditions=tuple(
                (Label(Part(*part) for part in parts), context) for parts, context in content["conditions"]
            ),
            controls={context: mean.numpy() for context, mean in content["controls"].items()},
            control_counts=dict(content["control_counts"]),
            **{name: content[name].numpy() for name in _ARRAYS},
            transfer=Transfer.from_dict(content["transfer"]) if "transfer" in content else None,
        )


_ARRAYS = ("shifts", "n_cells", "components", "gene_variance", "component_variance")


def _plain(part: Part) -> list[str | float]:
    return [part.name] if part.dose is None else [part.name, part.dose]


def _principal_directions(turned: Shifts) -> Components:
    # The triangle of more rows than genes has the same directions and needs no factor for the rows.
    rows = np.linalg.qr(turned, mode="r") if len(turned) > turned.shape[1] else turned
    _, size, directions = np.linalg.svd(rows, full_matrices=False)
    return directions[size > _ROUNDING * max(float(size[0]), np.finfo(float).tiny)]


def _variances(
    cells: TrainingCells, codes: Int[np.ndarray, " cells"], means: Shifts, components: Components
) -> tuple[GeneVector, Float[np.ndarray, " components"]]:
    """Pooled within populations: by gene, and along components.

    Raises:
        DataError: every population has one cell.
    """
    counts = np.bincount(codes)
    freedom = int((counts[counts > 0] - 1).sum())
    if freedom == 0:
        raise DataError("every population has one cell, so nothing tells how cells vary; give two of some")
    by_gene, along = np.zeros(len(cells.genes)), np.zeros(len(components))
    # Products in single precision take half of the time, and their squares are summed in double.
    directions = components.T.astype(np.float32)
    for rows, block in cells.blocks():
        residual = block - means[codes[rows]]
        by_gene += np.square(residual).sum(axis=0)
        along += np.square(residual.astype(np.float32) @ directions).sum(axis=0, dtype=np.float64)
    return by_gene / freedom, along / freedom
