"""Conjugate gradient for (A + λI) x = b with a matrix that is only known by its products."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Vector = Float[Tensor, " parameters"]


@dataclass(frozen=True)
class LinearSolution:
    """An approximate solution x of (A + λI) x = b.

    ``product`` is A x, without the damping, gathered along the way at no extra product. ``residual`` is
    ‖b − (A + λI) x‖ / ‖b‖, recomputed by recurrence. ``steps`` counts products.
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
    tolerance: float = 1e-5,
    precondition: Callable[[Vector], Vector] | None = None,
) -> LinearSolution:
    """Solve (A + λI) x = b for symmetric positive semi-definite A, starting at x = 0.

    It stops after ``max_steps`` products, at a relative residual of ``tolerance``, or before a direction p
    whose curvature pᵀ(A + λI)p is not positive or not a number, which round-off can cause.

    Args:
        matrix_product: v ↦ A v.
        b: right-hand side.
        damping: λ.
        max_steps: largest number of products with A.
        tolerance: relative residual at which x is good enough.
        precondition: v ↦ M⁻¹ v for a symmetric positive definite M near A + λI.

    Source: Hestenes and Stiefel 1952; Nocedal and Wright 2006, algorithms 5.2 and 5.3.
    """
    x, product = b.new_zeros(b.shape), b.new_zeros(b.shape)
    residual = b.clone()
    z = residual if precondition is None else precondition(residual)
    direction, rho = z.clone(), float(residual @ z)
    threshold, steps = tolerance * float(b.norm()), 0
    while steps < max_steps and float(residual.norm()) > threshold:
        curved = matrix_product(direction)
        steps += 1
        curvature = float(direction @ curved) + damping * float(direction @ direction)
        if not curvature > 0:
            break
        alpha = rho / curvature
        x.add_(direction, alpha=alpha)
        product.add_(curved, alpha=alpha)
        residual.add_(curved, alpha=-alpha).add_(direction, alpha=-alpha * damping)
        z = residual if precondition is None else precondition(residual)
        previous, rho = rho, float(residual @ z)
        direction.mul_(rho / previous).add_(z)
    return LinearSolution(x, product, float(residual.norm()) / max(float(b.norm()), 1e-38), steps)
