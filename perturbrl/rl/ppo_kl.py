"""Stage 2: PPO epochs with a KL penalty, and the critic's epochs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import torch
from jaxtyping import Float, Int
from tensordict import TensorDictBase
from torch import Generator, Tensor
from torch.distributions import Distribution
from torch.nn import functional as F
from torchrl.modules import ProbabilisticActor, ValueOperator

from perturbrl import schema
from perturbrl.rl.distributions import kl_divergence
from perturbrl.rl.fisher import FlatLayout

KL_COEF_BOUNDS: Final = (1e-4, 1e3)
RIDGE: Final = 1e-6

ReduceSum = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Minibatches:
    """Random minibatches over the rows of all processes.

    Minibatch j of all processes together is the same set of rows however the rows are spread over processes,
    and every process counts the same number of minibatches; its own share of one may be empty.

    Args:
        n_rows: rows of this process.
        first_row: index of its first row among all rows.
        total_rows: rows of all processes.
        size: rows of one minibatch, over all processes.
    """

    n_rows: int
    first_row: int
    total_rows: int
    size: int

    @property
    def per_epoch(self) -> int:
        """Minibatches of one epoch."""
        return -(-self.total_rows // self.size)

    def epoch(self, generator: Generator) -> Iterator[tuple[Int[Tensor, " rows"], int]]:
        """This process's rows of each minibatch of one epoch, and the minibatch's size over all processes."""
        order = torch.randperm(self.total_rows, generator=generator, device=generator.device)
        for chunk in order.split(self.size):
            mine = chunk
            if self.n_rows != self.total_rows:
                mine = chunk - self.first_row
                mine = mine[(mine >= 0) & (mine < self.n_rows)]
            yield mine, len(chunk)


@dataclass(frozen=True)
class PPOKLTerms:
    """Sums over a minibatch's rows: the objective's parts, each a scalar tensor."""

    surrogate: Tensor
    kl: Tensor
    entropy: Tensor


class PPOKLLoss:
    """The penalised surrogate -E[r A] + kl_coef * KL(old, new) - entropy_coef * H (Schulman 2017, eq. 8).

    Args:
        actor: the policy that is being improved.
        entropy_coef: weight of the entropy bonus.
        clip_epsilon: clip ratios to [1 - e, 1 + e] (Schulman 2017, eq. 7); ``None`` does not clip.
    """

    def __init__(self, actor: ProbabilisticActor, entropy_coef: float, clip_epsilon: float | None) -> None:
        self.actor, self.entropy_coef, self.clip_epsilon = actor, entropy_coef, clip_epsilon

    def terms(self, rows: TensorDictBase) -> PPOKLTerms:
        """The parts of the objective on rows with observation, action, advantage and old distribution."""
        if not len(rows):
            # This process has no share of the minibatch, and torch's distributions cannot sum over no rows.
            nothing = torch.stack([0.0 * parameter.sum() for parameter in self.actor.parameters()]).sum()
            return PPOKLTerms(nothing, nothing, nothing)
        old, new = _old_and_new(self.actor, rows)
        action, advantage = rows[schema.ACTION], rows[schema.ADVANTAGE].squeeze(-1)
        ratio = (new.log_prob(action) - old.log_prob(action)).exp()
        gain = ratio * advantage
        if self.clip_epsilon is not None:
            clipped = ratio.clamp(1 - self.clip_epsilon, 1 + self.clip_epsilon) * advantage
            gain = torch.minimum(gain, clipped)
        return PPOKLTerms(gain.sum(), kl_divergence(old, new).sum(), new.entropy().sum())

    def loss(self, terms: PPOKLTerms, kl_coef: float, n_rows: int) -> Tensor:
        """The loss of a minibatch of ``n_rows`` rows over all processes."""
        total = -terms.surrogate + kl_coef * terms.kl - self.entropy_coef * terms.entropy
        return total / n_rows


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
    reduce_sum: ReduceSum,
) -> PPOKLResult:
    """Run stage 2 on a flat batch; stops before any step on a minibatch whose KL exceeds ``kl_limit``.

    It stops, too, before a step whose gradient or KL is not finite. If the penalised objective of the whole
    batch ends worse than it began, the parameters return to where they began: one Adam step can be a long way
    in KL once the policy's standard deviation is small, and then the stop comes a step too late. Measured on a
    linear screen with 17 doses: without this, one seed of five drifted off a solution that it had held for 40
    iterations.

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
        reduce_sum: sums a tensor over processes.
    """
    parameters = [p for p in loss.actor.parameters() if p.requires_grad]
    # Indexing a rollout's other entries would cost more than the gradient step.
    batch = batch.select(*loss.actor.in_keys, *loss.actor.dist_params_keys, schema.ACTION, schema.ADVANTAGE)
    layout = FlatLayout(parameters)
    before, (loss_before, kl_before) = layout.gather(), batch_means(loss, batch, kl_coef, reduce_sum)
    steps, stopped, entropy = 0, False, float("nan")
    for rows, n_rows in chain.from_iterable(minibatches.epoch(generator) for _ in range(epochs)):
        terms = loss.terms(batch[rows])
        kl, entropy = (reduce_sum(torch.stack((terms.kl, terms.entropy)).detach()) / n_rows).tolist()
        objective = loss.loss(terms, kl_coef, n_rows)
        stopped = not (kl <= kl_limit and set_gradients(objective, parameters, reduce_sum, max_grad_norm))
        if stopped:
            break
        take_step()
        steps += 1
    loss_after, kl = batch_means(loss, batch, kl_coef, reduce_sum)
    if loss_after <= loss_before:
        return PPOKLResult(steps, stopped, False, kl, entropy)
    with torch.no_grad():
        layout.assign(before)
    return PPOKLResult(steps, stopped, True, kl_before, entropy)


def set_gradients(
    loss: Tensor, parameters: Sequence[Tensor], reduce_sum: ReduceSum, max_grad_norm: float | None
) -> bool:
    """Put d loss / d parameters, summed over processes and clipped, into ``.grad``.

    Returns whether all of it is finite; if not, ``.grad`` is left alone and no step must be taken.
    ``autograd.grad`` and an explicit reduction, because DistributedDataParallel's hooks fire only in the
    backward pass of its own forward.
    """
    gradients = torch.autograd.grad(loss, parameters)
    flat = reduce_sum(torch.cat([g.reshape(-1) for g in gradients]))
    norm = flat.norm()
    if not bool(norm.isfinite()):
        return False
    if max_grad_norm is not None:
        flat = flat * (max_grad_norm / norm.clamp_min(max_grad_norm))
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
    return True


def _old_and_new(actor: ProbabilisticActor, rows: TensorDictBase) -> tuple[Distribution, Distribution]:
    # get_dist writes its parameters into what it is given, which would replace the old ones.
    return actor.build_dist_from_params(rows), actor.get_dist(rows.select(*actor.in_keys))


@torch.no_grad()
def batch_means(
    loss: PPOKLLoss, batch: TensorDictBase, kl_coef: float, reduce_sum: ReduceSum
) -> tuple[float, float]:
    """The loss and the mean KL(old, current) in nats over the batches of all processes."""
    terms = loss.terms(batch)
    sums = torch.stack((loss.loss(terms, kl_coef, 1), terms.kl, terms.kl.new_tensor(len(batch)))).double()
    total, kl, count = reduce_sum(sums).tolist()
    return total / count, kl / count


def adapt_kl_coef(kl_coef: float, kl: float, threshold: float, factor: float) -> float:
    """The next iteration's penalty weight: up if the KL is above 1.5 x ``threshold``, down if below / 1.5.

    Called once per iteration with the full batch's KL; the result stays within ``KL_COEF_BOUNDS``, because a
    weight of 0 or infinity never comes back (Schulman 2017, section 4, gives the rule).
    """
    if kl > 1.5 * threshold:
        kl_coef *= factor
    elif kl < threshold / 1.5:
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


def critic_epochs(
    critic: ValueOperator,
    take_step: Callable[[], object],
    batch: TensorDictBase,
    minibatches: Minibatches,
    *,
    epochs: int,
    max_grad_norm: float | None,
    generator: Generator,
    reduce_sum: ReduceSum,
) -> Float[Tensor, ""]:
    """Regress the critic on ``value_target``; the mean squared error of the last epoch.

    A minibatch whose gradient is not finite changes nothing and shows in the error.
    """
    parameters = [p for p in critic.parameters() if p.requires_grad]
    observation, target = batch[schema.OBSERVATION], batch[schema.VALUE_TARGET]
    error = observation.new_zeros(())
    for _ in range(epochs):
        error = observation.new_zeros(())
        for rows, n_rows in minibatches.epoch(generator):
            squared = F.mse_loss(critic.module(observation[rows]), target[rows], reduction="sum")
            if set_gradients(squared / n_rows, parameters, reduce_sum, max_grad_norm):
                take_step()
            error = error + squared.detach() / minibatches.total_rows
    return reduce_sum(error)


@torch.no_grad()
def refit_head(critic: ValueOperator, batch: TensorDictBase, reduce_sum: ReduceSum) -> None:
    """Set the critic's last layer to the ridge regression of ``value_target`` on its hidden features.

    Gradient epochs leave a residual that does not shrink with the policy's standard deviation, while the
    advantages do; in the end they are all residual. Measured on a simulated screen after 100 iterations: root
    mean squared error 0.014 without, 0.0014 with it.
    """
    body, head = critic.module[:-1], critic.module[-1]
    hidden, target = body(batch[schema.OBSERVATION]).double(), batch[schema.VALUE_TARGET].double()
    features = torch.cat((hidden, torch.ones_like(hidden[..., :1])), dim=-1)
    gram, moment = reduce_sum(features.T @ features), reduce_sum(features.T @ target)
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    solution = torch.linalg.solve(gram, moment)
    if bool(solution.isfinite().all()):
        head.weight.copy_(solution[:-1].T)
        head.bias.copy_(solution[-1])
