"""Conjugate gradient for (A + λI) x = b with a matrix that is known by its products alone."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from perturbrl.rl.flat import Vector


@dataclass(frozen=True)
class LinearSolution:
    """An approximate solution x of (A + λI) x = b.

    ``product`` is A x without the damping, gathered along the way at no extra product. ``residual`` is
    ‖b − (A + λI)x‖ / ‖b‖ by recurrence; it is not a number if a product was not finite. ``steps`` counts products.
    """

    x: Vector
    product: Vector
    residual: float
    steps: int


def conjugate_gradient(
    matrix_product: Callable[[Vector], Vector],
    b: Vector,
    *,
    damping: float = 0.0,
    max_steps: int = 10,
    tolerance: float = 1e-10,
    precondition: Callable[[Vector], Vector] | None = None,
    agreed: Callable[[Tensor], float] = float,
) -> LinearSolution:
    """Solve (A + λI) x = b for symmetric positive semi-definite A, starting at x = 0.

    Each product lowers the quadratic ½ xᵀ(A + λI)x − bᵀx by a known amount, and the total is ½ bᵀx. It stops when
    the last product brought less than the share ``tolerance`` of the total, after ``max_steps`` products, or
    before a direction p whose curvature pᵀ(A + λI)p is not positive, which round-off can cause.

    Each residual is made orthogonal to all before it, not to the last one alone. Without that, round-off along the
    largest eigenvalue grows several hundredfold per step, and sums in another order, those of other ranks, would
    lead elsewhere (docs/decisions.md).

    Args:
        matrix_product: v ↦ A v.
        b: right-hand side.
        damping: λ.
        max_steps: largest number of products with A.
        tolerance: share of the total below which a product is not worth the next.
        precondition: v ↦ M⁻¹ v for a symmetric positive definite M near A + λI.
        agreed: makes a number the same on all processes, so that they stop together whatever their round-off.

    Source: Nocedal and Wright 2006, algorithm 5.3; the stopping rule follows Martens 2010, section 4.4;
    the re-orthogonalisation is that of Lanczos 1952.
    """
    x, product, residual = torch.zeros_like(b), torch.zeros_like(b), b.clone()
    z = residual if precondition is None else precondition(residual)
    direction, rho = z.clone(), agreed(residual @ z)
    total, steps, history = 0.0, 0, _History()
    while steps < max_steps and rho > 0:
        history.append(residual, z, rho)
        curved = matrix_product(direction)
        steps += 1
        curvature = agreed(direction @ curved + damping * (direction @ direction))
        if not isfinite(curvature):
            return LinearSolution(x, product, float("nan"), steps)
        if curvature <= 0:
            break
        alpha = rho / curvature
        x.add_(direction, alpha=alpha)
        product.add_(curved, alpha=alpha)
        residual = residual - alpha * (curved + damping * direction)
        total += alpha * rho
        if alpha * rho < tolerance * total:
            break
        residual = history.orthogonal(residual)
        z = residual if precondition is None else precondition(residual)
        previous, rho = rho, agreed(residual @ z)
        direction = z + (rho / previous) * direction
    norm = float(b.norm())
    return LinearSolution(x, product, float(residual.norm()) / norm if norm > 0 else 0.0, steps)


class _History:
    """Residuals r that are mutually orthogonal in the inner product of the preconditioner, z = M⁻¹ r."""

    def __init__(self) -> None:
        self._steps: list[tuple[Vector, Vector, float]] = []

    def append(self, residual: Vector, z: Vector, rho: float) -> None:
        self._steps.append((residual, z, rho))

    def orthogonal(self, residual: Vector) -> Vector:
        for earlier, z, rho in self._steps:
            residual = residual - (residual @ z / rho) * earlier
        return residual
