"""Conjugate gradient for (A + λI) x = b with a matrix that is known by its products alone."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

Vector = Float[Tensor, " parameters"]


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
) -> LinearSolution:
    """Solve (A + λI) x = b for symmetric positive semi-definite A, starting at x = 0.

    Each product lowers the quadratic ½ xᵀ(A + λI)x − bᵀx by a known amount, and the total is ½ bᵀx. It stops when
    the last product brought less than the share ``tolerance`` of the total, after ``max_steps`` products, or
    before a direction p whose curvature pᵀ(A + λI)p is not positive, which round-off can cause.

    Args:
        matrix_product: v ↦ A v.
        b: right-hand side.
        damping: λ.
        max_steps: largest number of products with A.
        tolerance: share of the total below which a product is not worth the next.
        precondition: v ↦ M⁻¹ v for a symmetric positive definite M near A + λI.

    Source: Nocedal and Wright 2006, algorithm 5.3; the stopping rule follows Martens 2010, section 4.4.
    """
    x, product, residual = torch.zeros_like(b), torch.zeros_like(b), b.clone()
    z = residual if precondition is None else precondition(residual)
    direction, rho = z.clone(), float(residual @ z)
    total, steps = 0.0, 0
    while steps < max_steps and rho > 0:
        curved = matrix_product(direction)
        steps += 1
        curvature = float(direction @ curved) + damping * float(direction @ direction)
        if not isfinite(curvature):
            return LinearSolution(x, product, float("nan"), steps)
        if curvature <= 0:
            break
        alpha = rho / curvature
        x.add_(direction, alpha=alpha)
        product.add_(curved, alpha=alpha)
        residual.add_(curved, alpha=-alpha).add_(direction, alpha=-alpha * damping)
        total += alpha * rho
        if alpha * rho < tolerance * total:
            break
        z = residual if precondition is None else precondition(residual)
        previous, rho = rho, float(residual @ z)
        direction.mul_(rho / previous).add_(z)
    norm = float(b.norm())
    return LinearSolution(x, product, float(residual.norm()) / norm if norm > 0 else 0.0, steps)
