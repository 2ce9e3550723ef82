"""The natural-gradient step under a KL trust region, as an ordinary ``torch.optim.Optimizer``.

Source: Schulman, Levine, Abbeel, Jordan and Moritz 2015 (TRPO), appendix C; the scaling by the undamped curvature
and the units of the constants are described in ``TrustRegion``.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from math import isfinite
from typing import Any, Final, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.errors import ConfigurationError
from perturbrl.rl.conjugate_gradient import LinearSolution, conjugate_gradient
from perturbrl.rl.fisher import MLPLinearisation, linearise
from perturbrl.rl.flat import FlatLayout, Vector
from perturbrl.rl.kronecker import KroneckerPreconditioner
from perturbrl.rl.outcomes import TrustRegionOutcome, TrustRegionStep
from perturbrl.rl.processes import ALONE, Processes
from perturbrl.rl.step_options import StepOptions

# dᵀHd at or below this multiple of ‖d‖² is no curvature to scale a step by.
SINGULAR: Final = 1e-10
DEFAULTS: Final = StepOptions()


class TrustRegion(torch.optim.Optimizer):
    """Maximises the surrogate E[π_θ(a|s) / π_old(a|s) · advantage] while the mean KL(π_old‖π_θ) ≤ ``max_kl``.

    The direction d solves (H + λI) d = g, with g the gradient of the surrogate and H the Fisher matrix; it is
    scaled to the radius by the quadratic model, then shortened until KL and surrogate, measured on all states of
    all ranks, are both good. A step whose KL is above the radius shrinks by sqrt(δ / KL), at least by
    ``line_search_shrinking_factor``.

    The Kronecker-factored preconditioner finds with three products what 15 find without; a warm start, sampled states
    and ``torch.compile`` did not pay (docs/decisions.md).

    ``state_dict`` holds the options and how often each outcome occurred.

    Args:
        actor: any TorchRL actor whose action distribution is a diagonal Gaussian, a tanh-bounded one, categorical
            or Bernoulli; all its trainable parameters take part. It must be deterministic in its parameters:
            dropout and batch statistics would be taken for a change of the policy.
        max_kl: radius δ in nats, the KL summed over action dimensions and averaged over states.
        cg_damping: λ added to the Fisher matrix, in the same units.
        cg_max_steps: largest number of Fisher-vector products per step.
        cg_tolerance: stop once a product brings less than this share of the quadratic model's gain.
        precondition: use the Kronecker-factored Fisher matrix where the actor is a multilayer perceptron.
        line_search_max_iter: step lengths tried before the step is given up.
        line_search_shrinking_factor: largest factor between one trial and the next.
        kl_scaling: ``undamped`` scales the direction by sqrt(2δ / dᵀHd), ``damped`` by sqrt(2δ / gᵀd).
        processes: that share the batch, each with any number of states: ``Processes.of_torch()`` where
            ``torch.distributed`` runs, or ``Processes(sum=...)`` with a sum of yours. Also an attribute, for where
            they are known later.

    Raises:
        ConfigurationError: an option is out of its range, or the actor has nothing to train.

    Source: Schulman 2015, appendix C; Martens 2020, sections 6 and 8 (damping, scaling); Pearlmutter 1994
    (exact products); arXiv 2510.13018 (the two-stage method that this is the first stage of).
    """

    def __init__(
        self,
        actor: ProbabilisticActor,
        max_kl: float = DEFAULTS.max_kl,
        cg_damping: float = DEFAULTS.cg_damping,
        cg_max_steps: int = DEFAULTS.cg_max_steps,
        cg_tolerance: float = DEFAULTS.cg_tolerance,
        precondition: bool = DEFAULTS.precondition,
        line_search_max_iter: int = DEFAULTS.line_search_max_iter,
        line_search_shrinking_factor: float = DEFAULTS.line_search_shrinking_factor,
        kl_scaling: Literal["undamped", "damped"] = DEFAULTS.kl_scaling,
        processes: Processes = ALONE,
    ) -> None:
        options = StepOptions(
            max_kl,
            cg_damping,
            cg_max_steps,
            cg_tolerance,
            precondition,
            line_search_max_iter,
            line_search_shrinking_factor,
            kl_scaling,
        )
        parameters = [parameter for parameter in actor.parameters() if parameter.requires_grad]
        if not parameters:
            raise ConfigurationError("The actor has no trainable parameter, so there is nothing to optimise.")
        super().__init__(parameters, dict(vars(options)))
        self.actor = actor
        self.processes = processes
        self.layout = FlatLayout(parameters)
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
                ``[*batch, 1]``). Batches of ranks may differ in size and may be empty, not all at once.

        Raises:
            ConfigurationError: the batch has no advantage or one of another shape, or the actor's distribution is
                not known.
        """
        if closure is not None:
            with torch.enable_grad():
                closure()
        result = _Step(self, batch).run()
        self.param_groups[0]["outcomes"][result.outcome.value] += 1
        return result


class _Step:
    """One step in the making: the batch, the policy that collected it, and sums over all ranks."""

    def __init__(self, optimizer: TrustRegion, batch: TensorDictBase) -> None:
        self._options = optimizer.param_groups[0]
        self._actor, self._layout = optimizer.actor, optimizer.layout
        self._processes = optimizer.processes
        n_states, self._advantage = batch.shape.numel(), _advantage(batch)
        self._action = batch[schema.ACTION].flatten(0, batch.ndim - 1)
        size = torch.tensor([n_states, 1.0], dtype=torch.float64, device=self._advantage.device)
        self._n_states, self._n_ranks = self._processes.sum(size).tolist()
        self._start = self._layout.gather()
        states = batch.select(*self._actor.in_keys).reshape(n_states)
        self._policy = linearise(self._actor, self._layout, states, self._processes)

    def run(self) -> TrustRegionStep:
        """The step's result."""
        gradient = self._mean(self._policy.score(self._action, self._advantage))
        if not bool(gradient.isfinite().all() & self._start.isfinite().all()):
            return TrustRegionStep(TrustRegionOutcome.NON_FINITE)
        if not bool(gradient.any()):
            return TrustRegionStep(TrustRegionOutcome.ZERO_GRADIENT)
        try:
            solution = self._solve(gradient)
        except torch.linalg.LinAlgError:
            # A factor of the preconditioner has no eigenvalues, on all ranks alike.
            return TrustRegionStep(TrustRegionOutcome.NON_FINITE)
        rejected = TrustRegionStep(
            TrustRegionOutcome.NON_FINITE, cg_residual=solution.residual, cg_steps=solution.steps
        )
        direction, curvature = solution.x, self._agreed_number(solution.x @ solution.product)
        if not (isfinite(curvature) and isfinite(solution.residual)):
            return replace(rejected, cg_residual=0.0)
        if curvature <= SINGULAR * self._agreed_number(direction @ direction):
            return replace(rejected, outcome=TrustRegionOutcome.SINGULAR_CURVATURE)
        if self._options["kl_scaling"] == "damped":
            curvature = self._agreed_number(gradient @ direction)
        scale = (2 * self._options["max_kl"] / curvature) ** 0.5
        return self._line_search(self._agreed(scale * direction), rejected)

    @cached_property
    def _old_log_prob(self) -> Tensor:
        return self._policy.distribution.log_prob(self._action)

    def _mean(self, total: Tensor) -> Tensor:
        return self._processes.sum(total).div_(self._n_states)

    def _agreed(self, value: Tensor) -> Tensor:
        """The mean over ranks, so that round-off of unlike processors cannot let them drift apart."""
        return self._processes.sum(value).div_(self._n_ranks)

    def _agreed_number(self, value: Tensor) -> float:
        return float(self._agreed(value.double()))

    def _solve(self, gradient: Vector) -> LinearSolution:
        damping, precondition = self._options["cg_damping"], None
        if isinstance(self._policy, MLPLinearisation) and self._options["precondition"]:
            precondition = KroneckerPreconditioner(self._policy, self._mean, damping)
        return conjugate_gradient(
            lambda v: self._mean(self._policy.fisher_product(v)),
            gradient,
            damping=damping,
            max_steps=self._options["cg_max_steps"],
            tolerance=self._options["cg_tolerance"],
            precondition=precondition,
            agreed=self._agreed_number,
        )

    def _line_search(self, step: Vector, rejected: TrustRegionStep) -> TrustRegionStep:
        max_kl, shrink = self._options["max_kl"], self._options["line_search_shrinking_factor"]
        n_trials = self._options["line_search_max_iter"]
        factor, result = 1.0, rejected
        try:
            for trial in range(n_trials):
                self._layout.assign(self._start + factor * step)
                result = self._judge(replace(rejected, backtracks=trial))
                if result.outcome is TrustRegionOutcome.ACCEPTED:
                    return result
                excess = result.kl / max_kl if result.outcome is TrustRegionOutcome.KL_EXCEEDED else 0.0
                factor *= min(shrink, excess**-0.5) if excess > 0 else shrink
            return replace(rejected, outcome=result.outcome, backtracks=n_trials)
        finally:
            if result.outcome is not TrustRegionOutcome.ACCEPTED:
                self._layout.assign(self._start)

    def _judge(self, trial: TrustRegionStep) -> TrustRegionStep:
        """The trial with its KL and improvement over all states, and whether they are good enough."""
        old, totals = self._policy.distribution, self._advantage.new_zeros(2, dtype=torch.float64)
        for rows, new in self._policy.current():
            compared = old[rows].compare(new, self._action[rows])
            log_ratio = compared.log_prob - self._old_log_prob[rows]
            totals += torch.stack((compared.kl, log_ratio.expm1() * self._advantage[rows])).sum(
                1, dtype=torch.float64
            )
        kl, improvement = self._mean(totals).tolist()
        measured = replace(trial, kl=kl, kl_per_dimension=kl / old.n_dims, improvement=improvement)
        if not (isfinite(kl) and isfinite(improvement)):
            return replace(measured, outcome=TrustRegionOutcome.NON_FINITE)
        if kl > self._options["max_kl"]:
            return replace(measured, outcome=TrustRegionOutcome.KL_EXCEEDED)
        accepted = improvement > 0
        return replace(
            measured,
            outcome=TrustRegionOutcome.ACCEPTED if accepted else TrustRegionOutcome.NO_IMPROVEMENT,
        )


def _advantage(batch: TensorDictBase) -> Tensor:
    advantage = batch.get(schema.ADVANTAGE, None)
    if advantage is None:
        raise ConfigurationError(
            "The batch has no advantage; compute it first, for example with TorchRL's GAE."
        )
    if advantage.numel() != batch.shape.numel():
        raise ConfigurationError(
            f"The advantage has shape {tuple(advantage.shape)} for a batch of shape {tuple(batch.shape)}; "
            "give one number per state, with or without a last dimension of 1."
        )
    return advantage.reshape(-1)
