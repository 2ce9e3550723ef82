"""The Fisher matrix as a dense matrix, by automatic differentiation: the oracle of every product."""

import torch

from perturbrl.rl import fisher
from perturbrl.rl.actor_distributions import distribution_of
from perturbrl.rl.flat import FlatLayout


def dense_fisher(actor, batch):
    """The Hessian of the summed KL at the current weights, by autograd twice over."""
    names, parameters = zip(*actor.named_parameters(), strict=True)
    layout = FlatLayout(parameters)
    with torch.no_grad():
        old = distribution_of(actor, batch).detached()
    module = fisher._DistributionParameters(actor)

    def kl(flat):
        weights = {f"actor.{n}": v for n, v in zip(names, layout.views(flat), strict=True)}
        return old.kl_to(old.with_parameters(torch.func.functional_call(module, weights, (batch,)))).sum()

    return torch.autograd.functional.hessian(kl, layout.gather())
