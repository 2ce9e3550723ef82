"""What the optimiser asks of an action distribution: its KL divergence, Fisher matrix and score.

Each class holds the parameters of one distribution per state. The formulas are those of exponential families
(Amari 1998; Martens 2020, section 9); every quantity is in nats and summed over the action's dimensions.
A distribution squashed by a fixed bijection (tanh) is represented by its base: KL divergence, Fisher matrix and
likelihood ratio do not change under a bijection that does not depend on the parameters.
"""

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor

Cotangents = tuple[Tensor, ...]
Tangents = tuple[Tensor, ...]


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
