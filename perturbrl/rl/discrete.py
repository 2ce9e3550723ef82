"""Distributions of discrete actions: one of several, or switches that are on or off."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from perturbrl.rl.distributions import ActionDistribution, Cotangents, Tangents


@dataclass(frozen=True)
class SoftmaxChoice(ActionDistribution):
    """One of ``choices`` actions; ``logits`` are ``[*batch, choices]``; −inf marks a choice that is masked."""

    logits: Tensor
    one_hot: bool = False

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The logits, up to a constant in each state."""
        return (self.logits,)

    @property
    def n_dims(self) -> int:
        """One choice is one action."""
        return 1

    def with_parameters(self, parameters: tuple[Tensor, ...]) -> Self:
        """The same kind of action with other logits."""
        return replace(self, logits=parameters[0])

    def kl_to(self, new: Self) -> Tensor:
        """Σ_a p_a (log p_a − log p'_a) over the choices that are possible."""
        log_p, log_q = self.logits.log_softmax(-1), new.logits.log_softmax(-1)
        difference = torch.where(log_p == -torch.inf, 0.0, log_p - log_q)
        return (log_p.exp() * difference).sum(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """log p_a of the choice that was made."""
        return self.logits.log_softmax(-1).gather(-1, self._index(action)).squeeze(-1)

    def fisher(self, tangents: Tangents) -> Cotangents:
        """(diag(p) − p pᵀ) applied to a change of the logits."""
        p = self.logits.softmax(-1)
        weighted = p * tangents[0]
        return (weighted - p * weighted.sum(-1, keepdim=True),)

    def score(self, action: Tensor, weight: Tensor) -> Cotangents:
        """Weight · (indicator of the choice − p)."""
        negative = -self.logits.softmax(-1)
        indicator_minus_p = negative.scatter_add(-1, self._index(action), torch.ones_like(negative))
        return (indicator_minus_p * weight.unsqueeze(-1),)

    def kl_gradient(self, new: Self) -> Cotangents:
        """p' − p."""
        return (new.logits.softmax(-1) - self.logits.softmax(-1),)

    def entropy(self) -> Tensor:
        """−Σ_a p_a log p_a over the choices that are possible."""
        return -self._weighted_log(self.logits.log_softmax(-1)).sum(-1)

    @staticmethod
    def _weighted_log(log_p: Tensor) -> Tensor:
        return log_p.exp() * torch.where(log_p == -torch.inf, 0.0, log_p)

    def total_fisher(self) -> Tensor:
        """Σ over states of diag(p) − p pᵀ."""
        p = self.logits.softmax(-1).reshape(-1, self.logits.shape[-1])
        return p.sum(0).diag() - p.t() @ p

    def canonical(self) -> tuple[Tensor, ...]:
        """Log-probabilities, which do not change when a constant is added to the logits."""
        return (self.logits.log_softmax(-1),)

    def _index(self, action: Tensor) -> Tensor:
        return action.to(torch.int8).argmax(-1, keepdim=True) if self.one_hot else action.long().unsqueeze(-1)


@dataclass(frozen=True)
class BernoulliSwitches(ActionDistribution):
    """Independent on-off actions; ``logits`` are ``[*batch, actions]``."""

    logits: Tensor

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The log-odds of on."""
        return (self.logits,)

    @property
    def n_dims(self) -> int:
        """Number of switches."""
        return self.logits.shape[-1]

    def with_parameters(self, parameters: tuple[Tensor, ...]) -> Self:
        """Switches with other log-odds."""
        return replace(self, logits=parameters[0])

    def kl_to(self, new: Self) -> Tensor:
        """Σ_d p (l − l') + softplus(l') − softplus(l), with l the log-odds."""
        p = self.logits.sigmoid()
        normaliser = _softplus(new.logits) - _softplus(self.logits)
        return (p * (self.logits - new.logits) + normaliser).sum(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Σ_d a l − softplus(l)."""
        return (action * self.logits - _softplus(self.logits)).sum(-1)

    def fisher(self, tangents: Tangents) -> Cotangents:
        """p (1 − p) applied to a change of the log-odds."""
        return (self.logits.sigmoid() * (-self.logits).sigmoid() * tangents[0],)

    def score(self, action: Tensor, weight: Tensor) -> Cotangents:
        """Weight · (a − p)."""
        return ((action - self.logits.sigmoid()) * weight.unsqueeze(-1),)

    def kl_gradient(self, new: Self) -> Cotangents:
        """p' − p."""
        return (new.logits.sigmoid() - self.logits.sigmoid(),)

    def entropy(self) -> Tensor:
        """Σ_d softplus(l) − p l."""
        return (_softplus(self.logits) - self.logits.sigmoid() * self.logits).sum(-1)

    def total_fisher(self) -> Tensor:
        """Σ over states of diag(p (1 − p))."""
        variance = self.logits.sigmoid() * (-self.logits).sigmoid()
        return variance.reshape(-1, self.n_dims).sum(0).diag()


def _softplus(x: Tensor) -> Tensor:
    """log(1 + eˣ) to round-off; torch's own leaves e⁻ˣ out above 20, and a KL divergence could be negative there."""
    return -torch.nn.functional.logsigmoid(-x)
