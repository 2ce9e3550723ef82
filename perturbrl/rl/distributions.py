"""The action distributions that the optimiser knows: their KL divergence, Fisher matrix and score.

Each class holds the parameters of one distribution per state. The formulas are those of exponential families
(Amari 1998; Martens 2020, section 9); every quantity is in nats and summed over the action's dimensions.
A distribution squashed by a fixed bijection (tanh) is represented by its base: KL divergence, Fisher matrix and
likelihood ratio do not change under a bijection that does not depend on the parameters.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from math import e, log, pi
from typing import Any, Final, Self

import torch
from torch import Tensor
from torch.distributions import Transform

Cotangents = tuple[Tensor, ...]
Tangents = tuple[Tensor, ...]

HALF_LOG_2_PI_E: Final = log(2 * pi * e) / 2


class ActionDistribution(ABC):
    """The parameters of a policy's distributions over a batch of states, and their information geometry."""

    @property
    @abstractmethod
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameters that a policy computes, in the order that tangents and cotangents use."""

    @property
    @abstractmethod
    def n_dims(self) -> int:
        """Dimensions of the action, by which a KL divergence per dimension is divided."""

    @abstractmethod
    def with_parameters(self, parameters: tuple[Tensor, ...]) -> Self:
        """The same kind of distribution with other parameters."""

    @abstractmethod
    def kl_to(self, new: Self) -> Tensor:
        """KL(self‖new) in nats for each state, ``[*batch]``."""

    @abstractmethod
    def fisher(self, tangents: Tangents) -> Cotangents:
        """The Fisher matrix applied to a change of the parameters, state by state.

        A parameter that all states share gets the sum over the states.
        """

    @abstractmethod
    def score(self, action: Tensor, weight: Tensor) -> Cotangents:
        """Gradient of Σ weight · log π(action) with respect to the parameters; ``weight`` is ``[*batch]``."""

    @abstractmethod
    def kl_gradient(self, new: Self) -> Cotangents:
        """Gradient of Σ over states of KL(self‖new) with respect to the parameters of ``new``."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """Entropy in nats for each state, ``[*batch]``; of the base where there is a bijection."""

    @abstractmethod
    def total_fisher(self) -> Tensor:
        """Σ over states of the dense Fisher matrix of the first parameter, ``[actions, actions]``."""

    @abstractmethod
    def log_prob(self, action: Tensor) -> Tensor:
        """log π(action) for each state, but for terms that no parameter changes."""

    def compare(self, new: Self, action: Tensor) -> "Comparison":
        """Everything that a penalised surrogate asks of this, older, policy and a newer one."""
        return Comparison(self, new, action)

    def canonical(self) -> tuple[Tensor, ...]:
        """The parameters in the form in which equal distributions have equal values."""
        return self.parameters

    def detached(self) -> Self:
        """A copy that later changes of the policy's weights cannot reach."""
        return self.with_parameters(tuple(parameter.detach().clone() for parameter in self.parameters))

    def take(self, rows: Tensor) -> Self:
        """The distributions of some of the rows, faster than by indexing."""
        return self.with_parameters(tuple(parameter.index_select(0, rows) for parameter in self.parameters))

    def __getitem__(self, index: Any) -> Self:
        """The distributions of some of the states."""
        return self.with_parameters(tuple(parameter[index] for parameter in self.parameters))


class Comparison:
    """An older and a newer policy on the same actions.

    Attributes:
        log_prob: the newer policy's, as ``ActionDistribution.log_prob`` gives it.
        kl: KL(older‖newer) in nats for each state.
    """

    def __init__(self, old: ActionDistribution, new: ActionDistribution, action: Tensor) -> None:
        self._old, self._new, self._action = old, new, action
        self.log_prob, self.kl = new.log_prob(action), old.kl_to(new)

    def gradient(self, weight: Tensor, kl_coef: float) -> Cotangents:
        """Gradient of Σ weight · log_prob + kl_coef · kl over states with respect to the newer parameters."""
        parts = zip(self._new.score(self._action, weight), self._old.kl_gradient(self._new), strict=True)
        return tuple(torch.add(score, kl, alpha=kl_coef) for score, kl in parts)


@dataclass(frozen=True)
class DiagonalGaussian(ActionDistribution):
    """Independent normals, maybe seen through a fixed bijection.

    ``loc`` is ``[*batch, actions]``; ``scale`` is the same shape, or ``[actions]`` where all states share it.
    """

    loc: Tensor
    scale: Tensor
    bijection: Transform | None = None

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Mean and standard deviation."""
        return self.loc, self.scale

    @property
    def n_dims(self) -> int:
        """Number of doses or other continuous actions."""
        return self.loc.shape[-1]

    def with_parameters(self, parameters: tuple[Tensor, ...]) -> Self:
        """The same bijection around other normals."""
        loc, scale = parameters
        return replace(self, loc=loc, scale=scale)

    def __getitem__(self, index: Any) -> Self:
        """The distributions of some of the states; a shared scale stays shared."""
        scale = self.scale if self._shares_scale else self.scale[index]
        return replace(self, loc=self.loc[index], scale=scale)

    def take(self, rows: Tensor) -> Self:
        """The distributions of some of the states; a shared scale stays shared."""
        scale = self.scale if self._shares_scale else self.scale.index_select(0, rows)
        return replace(self, loc=self.loc.index_select(0, rows), scale=scale)

    @property
    def _shares_scale(self) -> bool:
        return self.scale.ndim < self.loc.ndim

    def kl_to(self, new: Self) -> Tensor:
        """Σ_d log(σ'/σ) + (σ² + (μ − μ')²) / 2σ'² − ½."""
        relative = self.scale / new.scale
        from_scale = (relative.square() - 1) / 2 - relative.log()
        from_loc = ((self.loc - new.loc) / new.scale).square().sum(-1) / 2
        return from_loc + from_scale.sum(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """−Σ_d ½ z² + log σ with z the standardised action before the bijection."""
        standardised = (self._base_action(action) - self.loc).div_(self.scale)
        return standardised.square_().sum(-1) / -2 - self.scale.log().sum(-1)

    def compare(self, new: Self, action: Tensor) -> Comparison:
        """The comparison that computes standardised differences once (see ``ActionDistribution``)."""
        if self._shares_scale and new._shares_scale:
            return _SharedScaleComparison(self, new, action)
        return super().compare(new, action)

    def fisher(self, tangents: Tangents) -> Cotangents:
        """σ⁻² on the mean and 2σ⁻² on the standard deviation (2 on its logarithm)."""
        d_loc, d_scale = tangents
        precision = self.scale.square().reciprocal()
        on_scale = 2 * precision * d_scale
        if self._shares_scale:
            on_scale = on_scale * self.loc.shape[:-1].numel()
        return precision * d_loc, on_scale

    def score(self, action: Tensor, weight: Tensor) -> Cotangents:
        """Weight · (z / σ) for the mean and weight · (z² − 1) / σ for the standard deviation."""
        standardised = (self._base_action(action) - self.loc).div_(self.scale)
        squares = standardised.square()
        if self._shares_scale:
            total = weight.reshape(-1) @ squares.reshape(-1, self.n_dims) - weight.sum()
        else:
            total = squares.sub_(1).mul_(weight.unsqueeze(-1))
        return standardised.mul_(weight.unsqueeze(-1)).div_(self.scale), total / self.scale

    def kl_gradient(self, new: Self) -> Cotangents:
        """(μ' − μ) / σ'² and 1/σ' − (σ² + (μ' − μ)²) / σ'³."""
        step = (new.loc - self.loc) / new.scale
        moment = step.square()
        relative = (self.scale / new.scale).square()
        if new._shares_scale:
            moment = moment.reshape(-1, self.n_dims).sum(0)
            relative = relative.expand_as(self.loc).reshape(-1, self.n_dims).sum(0)
        n_states = self.loc.shape[:-1].numel() if new._shares_scale else 1
        return step / new.scale, (n_states - relative - moment) / new.scale

    def entropy(self) -> Tensor:
        """Σ_d log σ + ½ log 2πe."""
        total = (self.scale.log() + HALF_LOG_2_PI_E).sum(-1)
        return total.expand(self.loc.shape[:-1])

    def total_fisher(self) -> Tensor:
        """Σ over states of diag(σ⁻²)."""
        precision = self.scale.square().reciprocal()
        if self._shares_scale:
            return (self.loc.shape[:-1].numel() * precision).diag()
        return precision.reshape(-1, self.n_dims).sum(0).diag()

    def _base_action(self, action: Tensor) -> Tensor:
        return action if self.bijection is None else self.bijection.inv(action)


class _SharedScaleComparison(Comparison):
    """For Gaussians whose standard deviation is the same in all states: each difference is formed only once."""

    def __init__(self, old: DiagonalGaussian, new: DiagonalGaussian, action: Tensor) -> None:
        self._scale, self._precision = new.scale, new.scale.square().reciprocal()
        self._relative = (old.scale / new.scale).square()
        self._deviation, self._step = new._base_action(action) - new.loc, new.loc - old.loc
        self._deviation_sq, self._step_sq = self._deviation.square(), self._step.square()
        self.log_prob = (self._deviation_sq @ self._precision) / -2 - new.scale.log().sum()
        from_scale = (self._relative - 1 - self._relative.log()).sum() / 2
        self.kl = (self._step_sq @ self._precision) / 2 + from_scale

    def gradient(self, weight: Tensor, kl_coef: float) -> Cotangents:
        """Both parts in one pass (see ``Comparison``)."""
        dims, rows, total = self._scale.shape[0], weight.numel(), weight.sum()
        on_loc = (
            (self._deviation * weight.unsqueeze(-1)).add_(self._step, alpha=kl_coef).mul_(self._precision)
        )
        of_score = weight.reshape(rows) @ self._deviation_sq.reshape(rows, dims)
        of_kl = self._step_sq.reshape(rows, dims).sum(0)
        of_squares = (of_score - kl_coef * of_kl) * self._precision
        return on_loc, (of_squares - total + kl_coef * rows * (1 - self._relative)) / self._scale


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
