"""Normal distributions of continuous actions such as doses."""

from dataclasses import dataclass, replace
from math import e, log, pi
from typing import Any, Final, Self

from torch import Tensor
from torch.distributions import Transform

from perturbrl.rl.distributions import ActionDistribution, Comparison, Cotangents, Tangents

HALF_LOG_2_PI_E: Final = log(2 * pi * e) / 2


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
