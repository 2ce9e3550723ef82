"""The natural-gradient step under a KL trust region, as an ordinary ``torch.optim.Optimizer``.

Source: Schulman, Levine, Abbeel, Jordan and Moritz 2015 (TRPO), appendix C; the scaling by the undamped curvature
and the units of the constants are described in ``TrustRegion``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any, Final, Literal

import torch
from jaxtyping import Float
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import Distribution
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.errors import ConfigurationError
from perturbrl.rl.conjugate_gradient import conjugate_gradient
from perturbrl.rl.distributions import distribution_of
from perturbrl.rl.fisher import FlatLayout, PolicyLinearisation, linearise

Vector = Float[Tensor, " parameters"]

# dᵀHd at or below this multiple of ‖d‖² is no curvature to scale a step by.
SINGULAR: Final = 1e-10


class TrustRegionOutcome(StrEnum):
    """How a step ended; in every case but the first the parameters are bit for bit as before."""

    ACCEPTED = "accepted"
    KL_EXCEEDED = "kl_exceeded"
    NO_IMPROVEMENT = "no_improvement"
    NON_FINITE = "non_finite"
    ZERO_GRADIENT = "zero_gradient"
    SINGULAR_CURVATURE = "singular_curvature"


@dataclass(frozen=True)
class TrustRegionStep:
    """What one step did.

    ``kl`` is the mean over all states of all ranks of KL(π_old‖π_new) in nats, summed over action dimensions, and
    ``improvement`` the rise of the surrogate; both are 0 if the step was rejected. ``cg_residual`` is relative,
    ``cg_steps`` counts Fisher-vector products and ``backtracks`` the trials that failed.
    """

    outcome: TrustRegionOutcome
    kl: float = 0.0
    kl_per_dimension: float = 0.0
    improvement: float = 0.0
    cg_residual: float = 0.0
    cg_steps: int = 0
    backtracks: int = 0


def _identity(value: Tensor) -> Tensor:
    return value


class TrustRegion(torch.optim.Optimizer):
    """Maximises the surrogate E[π_θ(a|s) / π_old(a|s) · advantage] while the mean KL(π_old‖π_θ) ≤ ``max_kl``.

    Args:
        actor: any TorchRL actor whose action distribution is a diagonal Gaussian, a tanh-bounded one, categorical
            or Bernoulli; all its trainable parameters take part.
        max_kl: radius δ in nats, the KL summed over action dimensions and averaged over states.
        cg_damping: λ added to the Fisher matrix, in the same units.
        cg_max_steps: largest number of Fisher-vector products per step.
        line_search_max_iter: step lengths tried before the step is given up.
        line_search_shrinking_factor: largest factor between one trial and the next.
        kl_scaling: ``undamped`` scales the direction d by sqrt(2δ / dᵀHd), ``damped`` by sqrt(2δ / gᵀd).
        reduce_sum: sums a tensor over ranks; may be set later as an attribute.

    Raises:
        ConfigurationError: an option is out of its range, or the actor has nothing to train.
    """

    def __init__(
        self,
        actor: ProbabilisticActor,
        max_kl: float = 0.01,
        cg_damping: float = 0.1,
        cg_max_steps: int = 10,
        line_search_max_iter: int = 10,
        line_search_shrinking_factor: float = 0.8,
        kl_scaling: Literal["undamped", "damped"] = "undamped",
        reduce_sum: Callable[[Tensor], Tensor] = _identity,
    ) -> None:
        options = {
            "max_kl": max_kl,
            "cg_damping": cg_damping,
            "cg_max_steps": cg_max_steps,
            "line_search_max_iter": line_search_max_iter,
            "line_search_shrinking_factor": line_search_shrinking_factor,
            "kl_scaling": kl_scaling,
        }
        _check_options(options)
        parameters = [parameter for parameter in actor.parameters() if parameter.requires_grad]
        if not parameters:
            raise ConfigurationError("The actor has no trainable parameter, so there is nothing to optimise.")
        super().__init__(parameters, options)
        self.actor = actor
        self.reduce_sum = reduce_sum
        self._layout = FlatLayout(parameters)
        self.param_groups[0]["outcomes"] = {outcome.value: 0 for outcome in TrustRegionOutcome}

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], Any] | None = None, *, batch: TensorDictBase
    ) -> TrustRegionStep:
        """Take one step on a batch that the current parameters collected.

        Args:
            closure: called once before anything else and its value ignored; Lightning passes one through and runs
                its hooks inside.
            batch: ``[*batch]`` with the actor's inputs, ``action`` and ``advantage`` (``[*batch]`` or
                ``[*batch, 1]``).
        """
        if closure is not None:
            with torch.enable_grad():
                closure()
        with _unvalidated_distributions():
            result = _Step(self, batch).run()
        self.param_groups[0]["outcomes"][result.outcome.value] += 1
        return result


class _Step:
    """One step in the making: the batch, the policy that collected it, and sums over all ranks."""

    def __init__(self, optimizer: TrustRegion, batch: TensorDictBase) -> None:
        self._options = optimizer.param_groups[0]
        self._actor, self._layout = optimizer.actor, optimizer._layout
        self._reduce_sum = optimizer.reduce_sum
        self._batch = batch
        self._advantage = batch[schema.ADVANTAGE].reshape(batch.shape)
        self._count = float(self._reduce_sum(torch.tensor(float(batch.numel()), dtype=torch.float64)))
        self._start = self._layout.gather()

    def run(self) -> TrustRegionStep:
        policy = linearise(self._actor, self._layout, self._batch)
        gradient = self._mean(policy.pull_back(self._score(policy)))
        if not bool(gradient.isfinite().all()):
            return TrustRegionStep(TrustRegionOutcome.NON_FINITE)
        if not bool(gradient.any()):
            return TrustRegionStep(TrustRegionOutcome.ZERO_GRADIENT)
        solution = conjugate_gradient(
            lambda v: self._mean(policy.fisher_product(v)),
            gradient,
            damping=self._options["cg_damping"],
            max_steps=self._options["cg_max_steps"],
        )
        direction = solution.x
        curvature = float(direction @ solution.product)
        found = {"cg_residual": solution.residual, "cg_steps": solution.steps}
        if not (isfinite(curvature) and isfinite(solution.residual)):
            return TrustRegionStep(TrustRegionOutcome.NON_FINITE, **found)
        if curvature <= SINGULAR * float(direction @ direction):
            return TrustRegionStep(TrustRegionOutcome.SINGULAR_CURVATURE, **found)
        if self._options["kl_scaling"] == "damped":
            curvature = float(gradient @ direction)
        step = direction * (2 * self._options["max_kl"] / curvature) ** 0.5
        return self._line_search(policy, step, found)

    def _mean(self, total: Tensor) -> Tensor:
        return self._reduce_sum(total) / self._count

    def _score(self, policy: PolicyLinearisation) -> tuple[Tensor, ...]:
        shape = policy.distribution.parameters[0].shape[:-1]
        action = self._batch[schema.ACTION]
        action = action.reshape(*shape, *action.shape[self._batch.ndim :])
        return policy.distribution.score(action, self._advantage.reshape(shape))

    def _line_search(
        self, policy: PolicyLinearisation, step: Vector, found: dict[str, Any]
    ) -> TrustRegionStep:
        factor, outcome = 1.0, TrustRegionOutcome.NO_IMPROVEMENT
        max_kl, shrink = self._options["max_kl"], self._options["line_search_shrinking_factor"]
        for trial in range(self._options["line_search_max_iter"]):
            self._layout.assign(self._start + factor * step)
            kl, improvement = self._evaluate(policy)
            outcome = _judge(kl, improvement, max_kl)
            if outcome is TrustRegionOutcome.ACCEPTED:
                per_dim = kl / policy.distribution.n_dims
                return TrustRegionStep(outcome, kl, per_dim, improvement, backtracks=trial, **found)
            factor *= (
                min(shrink, (max_kl / kl) ** 0.5) if outcome is TrustRegionOutcome.KL_EXCEEDED else shrink
            )
        self._layout.assign(self._start)
        return TrustRegionStep(outcome, backtracks=self._options["line_search_max_iter"], **found)

    def _evaluate(self, policy: PolicyLinearisation) -> tuple[float, float]:
        shape = policy.distribution.parameters[0].shape[:-1]
        new = distribution_of(self._actor, self._batch)
        new = new.with_parameters(
            tuple(
                p.reshape(o.shape)
                for p, o in zip(new.parameters, policy.distribution.parameters, strict=True)
            )
        )
        action = self._batch[schema.ACTION]
        action = action.reshape(*shape, *action.shape[self._batch.ndim :])
        kl = policy.distribution.kl_to(new).sum(dtype=torch.float64)
        ratio = policy.distribution.log_ratio(new, action)
        rise = (ratio.expm1() * self._advantage.reshape(shape)).sum(dtype=torch.float64)
        kl_mean, rise_mean = self._mean(torch.stack([kl, rise])).tolist()
        return kl_mean, rise_mean


def _judge(kl: float, improvement: float, max_kl: float) -> TrustRegionOutcome:
    if not (isfinite(kl) and isfinite(improvement)):
        return TrustRegionOutcome.NON_FINITE
    if kl > max_kl:
        return TrustRegionOutcome.KL_EXCEEDED
    return TrustRegionOutcome.ACCEPTED if improvement > 0 else TrustRegionOutcome.NO_IMPROVEMENT


def _check_options(options: dict[str, Any]) -> None:
    for name in ("max_kl", "cg_max_steps", "line_search_max_iter"):
        if not options[name] > 0:
            raise ConfigurationError(f"{name} is {options[name]}; give a number above 0.")
    if not options["cg_damping"] >= 0:
        raise ConfigurationError(f"cg_damping is {options['cg_damping']}; give 0 or more.")
    if not 0 < options["line_search_shrinking_factor"] < 1:
        value = options["line_search_shrinking_factor"]
        raise ConfigurationError(f"line_search_shrinking_factor is {value}; give a number between 0 and 1.")
    if options["kl_scaling"] not in ("undamped", "damped"):
        raise ConfigurationError(f"kl_scaling is {options['kl_scaling']!r}; give 'undamped' or 'damped'.")


@contextmanager
def _unvalidated_distributions() -> Iterator[None]:
    """A trial that is not finite is an outcome here, not the exception that argument checks would raise."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
