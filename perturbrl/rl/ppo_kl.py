"""Stage 2: PPO epochs with a KL penalty."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Final

import torch
from tensordict import TensorDictBase
from torch import Generator, Tensor
from torchrl.modules import ProbabilisticActor

from perturbrl.rl.actor_distributions import distribution_of
from perturbrl.rl.distributions import ActionDistribution, Cotangents
from perturbrl.rl.flat import FlatGradient, FlatLayout
from perturbrl.rl.minibatches import Minibatches
from perturbrl.rl.policy_pass import PolicyPass, PolicyRows, policy_passes
from perturbrl.rl.processes import Processes

KL_COEF_BOUNDS: Final = (1e-4, 1e3)
# Rows whose actions and means stay in a processor's cache.
CACHED_ROWS: Final = 1024


@dataclass(frozen=True)
class PPOKLTerms:
    """Sums over a minibatch's rows: the objective's parts, each a scalar tensor."""

    surrogate: Tensor
    kl: Tensor


class PPOKLLoss:
    """The penalised surrogate -E[r A] + kl_coef * KL(old, new) (Schulman 2017, equation 8).

    Args:
        actor: the policy that is being improved.
        clip_epsilon: clip ratios to [1 - e, 1 + e] (Schulman 2017, eq. 7); ``None`` does not clip.
    """

    def __init__(self, actor: ProbabilisticActor, clip_epsilon: float | None = None) -> None:
        self.actor, self.clip_epsilon = actor, clip_epsilon

    def terms(self, batch: TensorDictBase) -> PPOKLTerms:
        """The parts of the objective on rows with observation, action, advantage and old distribution."""
        rows = PolicyRows.of(self.actor, batch)
        return self.terms_of(rows, distribution_of(self.actor, rows.inputs))

    def terms_of(self, rows: PolicyRows, new: ActionDistribution) -> PPOKLTerms:
        """The same, given the policy's distributions in the states of ``rows``."""
        compared = rows.old.compare(new, rows.action)
        gain = self._gain(rows, compared.log_prob)[0]
        return PPOKLTerms(gain.sum(), compared.kl.sum())

    def kl_and_gradient(
        self, rows: PolicyRows, new: ActionDistribution, kl_coef: float, n_rows: int
    ) -> tuple[Tensor, Cotangents]:
        """The sum of KL(old, new), and the derivative of ``loss`` with respect to the parameters of ``new``."""
        compared = rows.old.compare(new, rows.action)
        weight = self._gain(rows, compared.log_prob)[1]
        return compared.kl.sum(), compared.gradient(weight / -n_rows, kl_coef / n_rows)

    def loss(self, terms: PPOKLTerms, kl_coef: float, n_rows: int) -> Tensor:
        """The loss of a minibatch of ``n_rows`` rows over all processes."""
        return (kl_coef * terms.kl - terms.surrogate) / n_rows

    def _gain(self, rows: PolicyRows, log_prob: Tensor) -> tuple[Tensor, Tensor]:
        """Each row's part of the surrogate, and the weight of its score in the gradient."""
        ratio = (log_prob - rows.old_log_prob).exp()
        gain = ratio * rows.advantage
        if self.clip_epsilon is None:
            return gain, gain
        clipped = ratio.clamp(1 - self.clip_epsilon, 1 + self.clip_epsilon) * rows.advantage
        return torch.minimum(gain, clipped), torch.where(gain <= clipped, gain, 0.0)


@dataclass(frozen=True)
class Moved:
    """How far a policy has come since it collected a batch, as means over the batches of all processes.

    Attributes:
        kl: KL(old, current) in nats.
        improvement: rise of the surrogate E[ratio · advantage].
    """

    kl: float = 0.0
    improvement: float = 0.0


@dataclass(frozen=True)
class PPOKLResult:
    """What stage 2 did.

    Attributes:
        steps: gradient steps taken.
        stopped: whether the KL limit, or a gradient that is not finite, ended it early.
        reverted: whether the steps were taken back, because the whole batch's objective had become worse.
        kl: mean KL(old, new) over the whole batch afterwards, in nats.
        entropy: mean entropy of the last minibatch seen, in nats.
    """

    steps: int
    stopped: bool
    reverted: bool
    kl: float
    entropy: float


@torch.no_grad()
def ppo_kl_epochs(
    loss: PPOKLLoss,
    take_step: Callable[[], object],
    batch: TensorDictBase,
    minibatches: Minibatches,
    *,
    epochs: int,
    kl_coef: float,
    kl_limit: float,
    max_grad_norm: float | None,
    generator: Generator,
    moved: Moved | None = None,
) -> PPOKLResult:
    """Run stage 2 on a flat batch; stops before any step on a minibatch whose KL exceeds ``kl_limit``.

    It stops, too, before a step whose gradient or KL is not finite. If the penalised objective of the whole batch ends
    worse than it began, the parameters return to where they began: where the policy's standard deviation is small, one
    Adam step is a long way in KL, and the stop comes a step too late.

    Args:
        loss: the penalised surrogate.
        take_step: applies the gradients that lie in the actor's ``.grad``.
        batch: ``[rows]`` with observation, action, advantage and the old distribution's parameters.
        minibatches: how rows are drawn.
        epochs: passes over the batch.
        kl_coef: weight of the KL penalty, fixed for the call.
        kl_limit: mean KL in nats beyond which no further step is taken.
        max_grad_norm: clip the gradient's norm; ``None`` does not.
        generator: order of the rows, equal on all processes.
        moved: what stage 1 measured on this batch, from which the unclipped objective before the first step
            follows. ``None`` measures that objective here.
    """
    layout = FlatLayout([p for p in loss.actor.parameters() if p.requires_grad])
    data = PolicyRows.of(loss.actor, batch)
    processes = minibatches.processes
    passes = policy_passes(loss.actor, layout, data.inputs, processes)
    before = layout.gather()
    if moved is not None:
        total = torch.stack((data.advantage.sum(), data.advantage.new_tensor(len(data)))).double()
        gain = float(torch.div(*processes.sum(total))) + moved.improvement
        loss_before, kl_before = kl_coef * moved.kl - gain, moved.kl
    else:
        loss_before, kl_before = _means(loss, data, passes, kl_coef, processes)
    steps, stopped, gradient = 0, False, FlatGradient(layout, processes)
    last: tuple[ActionDistribution, int] | None = None
    for index, n_rows in chain.from_iterable(minibatches.epoch(generator) for _ in range(epochs)):
        rows = data if len(index) == len(data) else data.take(index)
        policy = passes(rows.inputs)
        kl_sum, cotangents = loss.kl_and_gradient(rows, policy.distribution, kl_coef, n_rows)
        policy.pull_back_into(gradient.start(), cotangents)
        kl, norm = gradient.sum_up(kl_sum)
        last = policy.distribution, n_rows
        stopped = not (kl <= kl_limit * n_rows and gradient.clip(norm, max_grad_norm))
        if stopped:
            break
        take_step()
        steps += 1
    loss_after, kl = _means(loss, data, passes, kl_coef, processes)
    reverted = not loss_after <= loss_before and steps > 0
    if reverted:
        layout.assign(before)
    entropy = float("nan") if last is None else float(processes.sum(last[0].entropy().sum() / last[1]))
    return PPOKLResult(steps, stopped, reverted, kl_before if reverted else kl, entropy)


def _means(
    loss: PPOKLLoss,
    rows: PolicyRows,
    passes: Callable[[TensorDictBase], PolicyPass],
    kl_coef: float,
    processes: Processes,
) -> tuple[float, float]:
    """The loss and the mean KL(old, current) in nats over the batches of all processes."""
    sums = rows.advantage.new_zeros(3, dtype=torch.float64)
    for block in rows.blocks(CACHED_ROWS):
        terms = loss.terms_of(block, passes(block.inputs).distribution)
        sums += torch.stack((loss.loss(terms, kl_coef, 1), terms.kl, terms.kl.new_tensor(len(block))))
    total, kl, count = processes.sum(sums).tolist()
    return total / count, kl / count


def adapt_kl_coef(kl_coef: float, added: float, target_kl: float, factor: float) -> float:
    """The next iteration's penalty weight: higher where stage 2 added more KL than it should, lower where less.

    More is above 1.5 ``target_kl``, less is below ``target_kl`` / 1.5. Called once per iteration. The result stays
    within ``KL_COEF_BOUNDS``, because a weight of 0 or infinity never comes back.

    Args:
        kl_coef: the weight of this iteration.
        added: the whole batch's mean KL after stage 2 less that after stage 1, in nats.
        target_kl: what stage 2 should add, in nats.
        factor: what the weight is multiplied or divided by.

    Source: Schulman 2017, section 4.
    """
    if added > 1.5 * target_kl:
        kl_coef *= factor
    elif added < target_kl / 1.5:
        kl_coef /= factor
    low, high = KL_COEF_BOUNDS
    return min(max(kl_coef, low), high)


def adapt_learning_rate(
    rate: float, result: PPOKLResult, minibatches: int, largest: float, factor: float
) -> float:
    """The next iteration's step size: down where stage 2 was cut within its first epoch, up where it was not cut.

    The KL of an Adam step grows as the policy's standard deviation shrinks, so no fixed rate fits a whole run.
    It stays between ``largest`` / 1000 and ``largest``.
    """
    if result.reverted or (result.stopped and result.steps < minibatches):
        rate /= factor
    elif not result.stopped:
        rate *= factor
    return min(max(rate, largest / 1000), largest)
