"""A choice among thousands whose logits are linear in features of what may be chosen.

The policy computes a few weights of each state, and what may be chosen is known by its features: the number of
parameters does not grow with the number of choices, and neither does the Jacobian. Fisher products go through the
weights: with G the features of a state's choices and p their probabilities, the Fisher matrix of the weights is
Gᵀ (diag(p) − p pᵀ) G, applied without being formed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import torch
from jaxtyping import Bool, Float
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torch.distributions import Categorical
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.rl.discrete import SoftmaxChoice
from perturbrl.rl.distributions import ActionDistribution, Cotangents, Tangents
from perturbrl.rl.normalisation import ObservationNormaliser
from perturbrl.rl.policies import mlp

WEIGHTS: Final = "choice_weights"
GAINS: Final = "choice_gains"


@dataclass(frozen=True)
class ScoredChoice(ActionDistribution):
    """One of ``choices``, with the logits sharpness · ((1 + w₀) · gain + Σ_f w_f · feature_f).

    Attributes:
        weights: ``[*batch, 1 + features]``.
        gains: ``[*batch, choices]`` what each choice promises in each state; −inf marks one that cannot be made.
        features: ``[choices, features]``.
        sharpness: of all logits.
    """

    weights: Tensor
    gains: Tensor
    features: Tensor
    sharpness: Tensor
    _softmax: SoftmaxChoice = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_softmax", SoftmaxChoice(self._logits()))

    def _logits(self) -> Tensor:
        scored = self.gains + self._pushed(self.weights)
        return self.sharpness * scored.masked_fill(self.gains == -torch.inf, -torch.inf)

    def _pushed(self, weights: Tensor) -> Tensor:
        """What weights add to the scores."""
        possible = self.gains.nan_to_num(neginf=0.0)
        return weights[..., :1] * possible + weights[..., 1:] @ self.features.t()

    def _pulled(self, cotangents: Cotangents) -> Cotangents:
        """From cotangents of the logits to those of the weights."""
        of_logits = self.sharpness * cotangents[0]
        on_gain = (of_logits * self.gains.nan_to_num(neginf=0.0)).sum(-1, keepdim=True)
        return (torch.cat((on_gain, of_logits @ self.features), -1),)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The weights."""
        return (self.weights,)

    @property
    def n_dims(self) -> int:
        """One choice is one action."""
        return 1

    def with_parameters(self, parameters: tuple[Tensor, ...]) -> Self:
        """The same choices with other weights."""
        return replace(self, weights=parameters[0])

    def kl_to(self, new: Self) -> Tensor:
        """See ``SoftmaxChoice``."""
        return self._softmax.kl_to(new._softmax)

    def log_prob(self, action: Tensor) -> Tensor:
        """See ``SoftmaxChoice``."""
        return self._softmax.log_prob(action)

    def fisher(self, tangents: Tangents) -> Cotangents:
        """Gᵀ (diag(p) − p pᵀ) G applied to a change of the weights."""
        return self._pulled(self._softmax.fisher((self.sharpness * self._pushed(tangents[0]),)))

    def score(self, action: Tensor, weight: Tensor) -> Cotangents:
        """Weight · Gᵀ (indicator of the choice − p)."""
        return self._pulled(self._softmax.score(action, weight))

    def kl_gradient(self, new: Self) -> Cotangents:
        """G'ᵀ (p' − p)."""
        return new._pulled(self._softmax.kl_gradient(new._softmax))

    def entropy(self) -> Tensor:
        """See ``SoftmaxChoice``."""
        return self._softmax.entropy()

    def total_fisher(self) -> Tensor:
        """Σ over states of Gᵀ (diag(p) − p pᵀ) G."""
        unit = torch.eye(self.weights.shape[-1], dtype=self.weights.dtype, device=self.weights.device)
        columns = [self.fisher((row.expand_as(self.weights),))[0].flatten(0, -2).sum(0) for row in unit]
        return torch.stack(columns, 1)

    def canonical(self) -> tuple[Tensor, ...]:
        """Log-probabilities."""
        return self._softmax.canonical()

    def detached(self) -> Self:
        """See ``ActionDistribution``."""
        return replace(self, weights=self.weights.detach().clone(), gains=self.gains.detach())

    def take(self, rows: Tensor) -> Self:
        """See ``ActionDistribution``; what is promised goes with the rows."""
        return replace(
            self, weights=self.weights.index_select(0, rows), gains=self.gains.index_select(0, rows)
        )

    def __getitem__(self, index: Any) -> Self:
        """The distributions of some of the states."""
        return replace(self, weights=self.weights[index], gains=self.gains[index])


class ScoredCategorical(Categorical):
    """``ScoredChoice`` as torch and TorchRL know distributions.

    Args:
        choice: of the states.
    """

    def __init__(self, choice: ScoredChoice) -> None:
        super().__init__(logits=choice._softmax.logits, validate_args=False)
        self.choice = choice


class ChoiceScores(nn.Module):
    """Weights of the features of what may be chosen, and what each choice promises, in every state.

    A choice promises by how much it brings a cell nearer to its goal, less its price, by its expected shift alone:
    what a greedy planner would choose by. At first all weights are about 0, so the policy is the greedy planner that
    explores; what it learns is where the greedy choice is wrong.

    Attributes:
        shifts: ``[choices, latent]`` expected of each alone, in units of the way at the start; the first is none.
        prices: ``[choices]`` of each.
        features: ``[choices, features]`` what it is scored by beside.
        unit: the way at the start.
        sharpness: of the logits.

    Args:
        observation_dim: width of an observation.
        latent_dim: of the shifts.
        n_choices: how many there are, "none" the first of them.
        n_features: how many of each.
        n_perturbations: of which each may be received once; choice ``1 + j`` gives that of number ``j`` modulo
            ``n_perturbations``.
        most_used: different ones that a cell may receive.
        hidden_sizes: of the perceptron.
        normaliser: of observations.
    """

    shifts: Float[Tensor, "choices latent"]
    prices: Float[Tensor, " choices"]
    features: Float[Tensor, "choices features"]
    unit: Float[Tensor, ""]
    sharpness: Float[Tensor, ""]

    def __init__(
        self,
        observation_dim: int,
        latent_dim: int,
        n_choices: int,
        n_features: int,
        n_perturbations: int,
        most_used: int,
        hidden_sizes: Sequence[int] = (64, 64),
        normaliser: ObservationNormaliser | None = None,
    ) -> None:
        super().__init__()
        self.n_perturbations, self.most_used = n_perturbations, most_used
        self.trunk = mlp(observation_dim, hidden_sizes, 1 + n_features, out_gain=0.01, normaliser=normaliser)
        self.register_buffer("shifts", torch.zeros(n_choices, latent_dim))
        self.register_buffer("prices", torch.zeros(n_choices))
        self.register_buffer("features", torch.zeros(n_choices, n_features))
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("sharpness", torch.ones(()))

    def forward(
        self,
        observation: Float[Tensor, "*batch obs"],
        way: Float[Tensor, "*batch latent"],
        used: Bool[Tensor, "*batch perturbations"],
    ) -> tuple[Tensor, Tensor]:
        """Weights ``[*batch, 1 + features]`` and gains ``[*batch, choices]``."""
        return self.trunk(observation), self.gains(way, used)

    @torch.no_grad()
    def gains(
        self, way: Float[Tensor, "*batch latent"], used: Bool[Tensor, "*batch perturbations"]
    ) -> Float[Tensor, "*batch choices"]:
        """By how much each choice brings a cell nearer, less its price; −inf where it can no longer be received."""
        left = way / self.unit
        squares = self.shifts.square().sum(-1)
        distance = left.square().sum(-1, keepdim=True)
        after = (distance - 2 * left @ self.shifts.t() + squares).clamp_min(0).sqrt()
        gain = distance.sqrt() - after - self.prices
        levels = (len(self.shifts) - 1) // self.n_perturbations
        over = used | (used.sum(-1, keepdim=True) >= self.most_used)
        gain[..., 1:].masked_fill_(over.repeat(*(1,) * (used.ndim - 1), levels), -torch.inf)
        return gain

    def distribution(self, **parameters: Tensor) -> ScoredCategorical:
        """The distribution of weights and gains."""
        chosen = ScoredChoice(parameters[WEIGHTS], parameters[GAINS], self.features, self.sharpness)
        return ScoredCategorical(chosen)


def choosing_actor(scores: ChoiceScores) -> ProbabilisticActor:
    """A TorchRL actor that makes one of many choices by their features."""
    return ProbabilisticActor(
        TensorDictModule(scores, [schema.OBSERVATION, schema.WAY, schema.USED], [WEIGHTS, GAINS]),
        in_keys=[WEIGHTS, GAINS],
        out_keys=[schema.ACTION],
        distribution_class=scores.distribution,
        return_log_prob=True,
    )
