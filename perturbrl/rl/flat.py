"""All parameters of a module, or their gradient, as one vector."""

from collections.abc import Sequence
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perturbrl.rl.processes import Processes

Vector = Float[Tensor, " parameters"]


class FlatLayout:
    """Where each parameter lies in one flat vector."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._sizes = [parameter.numel() for parameter in self.parameters]
        self._position = {id(parameter): k for k, parameter in enumerate(self.parameters)}
        self.size = sum(self._sizes)

    def gather(self) -> Vector:
        """The parameters' values as a new flat vector."""
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])

    def views(self, flat: Vector) -> list[Tensor]:
        """Views of ``flat`` in the parameters' shapes."""
        pieces = flat.split(self._sizes)
        return [piece.view(p.shape) for piece, p in zip(pieces, self.parameters, strict=True)]

    def assign(self, flat: Vector) -> None:
        """Copy ``flat`` into the parameters."""
        for parameter, view in zip(self.parameters, self.views(flat), strict=True):
            parameter.detach().copy_(view)

    def position(self, parameter: Tensor) -> int:
        """Which of the parameters this one is."""
        return self._position[id(parameter)]


class FlatGradient:
    """A gradient in one vector, of which the parameters' ``.grad`` are views.

    Processes sum it up as that one vector, and not by DistributedDataParallel, whose hooks fire only in the backward
    pass of its own forward.

    Args:
        layout: of the parameters.
        processes: that have a share in it.
    """

    def __init__(self, layout: FlatLayout, processes: Processes) -> None:
        self._processes = processes
        self._summed = layout.parameters[0].new_zeros(layout.size + 1)
        self._flat = self._summed[:-1]
        self._views = layout.views(self._flat)
        for parameter, view in zip(layout.parameters, self._views, strict=True):
            parameter.grad = view

    def start(self) -> list[Tensor]:
        """Set it to 0; views in the parameters' shapes, to add to."""
        self._summed.zero_()
        return self._views

    def sum_up(self, number: Float[Tensor, ""]) -> tuple[float, float]:
        """Sum over processes, with a number that belongs to it; that number's sum and the gradient's norm."""
        self._summed[-1] = number
        total = self._processes.sum(self._summed)
        if total is not self._summed:
            self._summed.copy_(total)
        number_sum, norm = torch.stack((self._summed[-1], self._flat.norm())).tolist()
        return number_sum, norm

    def clip(self, norm: float, max_grad_norm: float | None, scale: float = 1.0) -> bool:
        """Multiply by ``scale`` and clip to ``max_grad_norm``; whether it is finite (if not, it is set to 0).

        Args:
            norm: that it has after scaling.
            max_grad_norm: largest norm; ``None`` does not clip.
            scale: factor before clipping.
        """
        if not isfinite(norm):
            self._summed.zero_()
            return False
        factor = scale if max_grad_norm is None else scale * (max_grad_norm / max(norm, max_grad_norm))
        if factor != 1.0:
            self._flat.mul_(factor)
        return True
