import pytest
import torch
from dense_fisher import dense_fisher
from toy_policies import collect, make_actor

from perturbrl.rl.conjugate_gradient import conjugate_gradient
from perturbrl.rl.fisher import linearise
from perturbrl.rl.flat import FlatLayout
from perturbrl.rl.kronecker import KroneckerPreconditioner
from perturbrl.rl.policies import bernoulli_actor, categorical_actor, gaussian_actor
from perturbrl.rl.processes import ALONE

N_STATES = 64


def _policy(actor, batch):
    layout = FlatLayout(list(actor.parameters()))
    with torch.no_grad():
        return linearise(actor, layout, batch, ALONE), layout


def _preconditioner(policy, damping):
    return KroneckerPreconditioner(policy, lambda total: total / N_STATES, damping)


@pytest.mark.parametrize("damping", [0.05, 1.0])
def test_exact_for_a_linear_gaussian_policy(damping):
    torch.manual_seed(0)
    actor = gaussian_actor(4, -torch.ones(3), 2 * torch.ones(3), ()).double()
    batch = collect(actor, N_STATES)
    policy, layout = _policy(actor, batch)
    v = torch.randn(layout.size, dtype=torch.float64)
    dense = dense_fisher(actor, batch) / N_STATES + damping * torch.eye(layout.size)
    torch.testing.assert_close(_preconditioner(policy, damping)(v), torch.linalg.solve(dense, v))


@pytest.mark.parametrize("kind", ["gaussian", "tanh_gaussian", "categorical", "bernoulli"])
def test_symmetric_and_positive(kind):
    actor = make_actor(kind, dtype=torch.float64)
    policy, layout = _policy(actor, collect(actor, N_STATES))
    precondition = _preconditioner(policy, 0.0)
    v, w = torch.randn(2, layout.size, dtype=torch.float64)
    torch.testing.assert_close(w @ precondition(v), v @ precondition(w))
    assert float(v @ precondition(v)) > 0


MAKERS = {
    "gaussian": lambda: gaussian_actor(4, -torch.ones(6), torch.ones(6), (32, 32)),
    "categorical": lambda: categorical_actor(4, 6, (32, 32)),
    "bernoulli": lambda: bernoulli_actor(4, 6, (32, 32)),
}


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_reaches_in_few_steps_what_plain_steps_reach_in_many(kind):
    torch.manual_seed(1)
    actor = MAKERS[kind]().double()
    for parameter in actor.parameters():
        parameter.data.mul_(1.5)
    policy, layout = _policy(actor, collect(actor, N_STATES))
    b = torch.randn(layout.size, dtype=torch.float64)
    b = policy.fisher_product(b) / N_STATES

    def gained(steps, precondition):
        solution = conjugate_gradient(
            lambda v: policy.fisher_product(v) / N_STATES,
            b,
            damping=0.01,
            max_steps=steps,
            precondition=precondition,
        )
        return float(b @ solution.x)

    assert gained(4, _preconditioner(policy, 0.01)) > gained(8, None)
