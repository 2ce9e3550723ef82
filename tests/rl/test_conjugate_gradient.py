import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbrl.rl.conjugate_gradient import conjugate_gradient


def _positive(n, seed, spread):
    torch.manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))[0]
    return basis @ torch.logspace(-spread, 0, n).double().diag() @ basis.t(), torch.randn(
        n, dtype=torch.float64
    )


@given(st.integers(1, 20), st.integers(0, 999), st.floats(0, 2), st.sampled_from([0.0, 0.01, 1.0]))
@settings(max_examples=40, deadline=None)
def test_solves_what_a_direct_solver_solves(n, seed, spread, damping):
    a, b = _positive(n, seed, spread)
    solution = conjugate_gradient(a.mv, b, damping=damping, max_steps=4 * n, tolerance=0)
    exact = torch.linalg.solve(a + damping * torch.eye(n).double(), b)
    assert (solution.x - exact).norm() <= 1e-7 * exact.norm()
    torch.testing.assert_close(solution.product, a @ solution.x)


def test_the_exact_preconditioner_needs_one_step():
    a, b = _positive(12, 0, 3)
    inverse = torch.linalg.inv(a + 0.1 * torch.eye(12).double())
    solution = conjugate_gradient(a.mv, b, damping=0.1, max_steps=1, precondition=inverse.mv)
    torch.testing.assert_close(solution.x, inverse @ b)
    assert solution.residual < 1e-10


def test_residual_is_that_of_the_definition():
    a, b = _positive(12, 1, 2)
    solution = conjugate_gradient(a.mv, b, damping=0.1, max_steps=3)
    expected = (b - a @ solution.x - 0.1 * solution.x).norm() / b.norm()
    assert math.isclose(solution.residual, float(expected), rel_tol=1e-6)
    assert solution.steps == 3


def test_stops_when_a_step_brings_too_little():
    a, b = _positive(50, 2, 3)
    loose = conjugate_gradient(a.mv, b, damping=0.1, max_steps=50, tolerance=1e-2)
    tight = conjugate_gradient(a.mv, b, damping=0.1, max_steps=50, tolerance=1e-6)
    assert loose.steps < tight.steps < 50
    exact = b @ torch.linalg.solve(a + 0.1 * torch.eye(50).double(), b)
    assert float(b @ loose.x) > 0.9 * float(exact)


def test_stops_before_a_direction_of_negative_curvature():
    b = torch.tensor([1.0, 0.5])
    first = conjugate_gradient(torch.diag(torch.tensor([-1.0, -2.0])).mv, b)
    assert not first.x.any()
    mixed = conjugate_gradient(torch.diag(torch.tensor([1.0, -1.0])).mv, b, max_steps=5)
    one_step = conjugate_gradient(torch.diag(torch.tensor([1.0, -1.0])).mv, b, max_steps=1)
    assert torch.equal(mixed.x, one_step.x)
    assert mixed.x.any()


def test_a_product_that_is_not_a_number_is_told():
    solution = conjugate_gradient(lambda v: v * float("nan"), torch.ones(3))
    assert math.isnan(solution.residual)
    assert solution.steps == 1


def test_zero_right_hand_side_needs_no_product():
    solution = conjugate_gradient(lambda v: v, torch.zeros(3))
    assert solution.steps == 0
    assert solution.residual == 0


def test_round_off_does_not_grow_after_the_largest_eigenvalue_is_resolved():
    """Products that differ in the last bit give solutions that differ in the last bits."""
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(80, 80, dtype=torch.float64))[0]
    eigenvalues = torch.cat([torch.linspace(0, 16, 79), torch.tensor([260.0])]).double()
    a, b = basis @ eigenvalues.diag() @ basis.t(), torch.randn(80, dtype=torch.float64)
    one, other = (
        conjugate_gradient(product, b, damping=0.1, max_steps=12, tolerance=0)
        for product in (a.mv, lambda v: a[:, :37] @ v[:37] + a[:, 37:] @ v[37:])
    )
    assert float((one.x - other.x).norm() / one.x.norm()) < 1e-12


def test_processes_stop_by_the_numbers_that_they_agreed_on():
    """Round-off that differs between processors must not let one of them take a step more."""
    seen = []

    def agreed(value):
        seen.append(float(value))
        return 0.0 if len(seen) == 3 else seen[-1]

    a, b = torch.diag(torch.arange(1.0, 9.0)), torch.ones(8)
    assert conjugate_gradient(a.mv, b, agreed=agreed).steps == 1
    assert conjugate_gradient(a.mv, b).steps > 1
