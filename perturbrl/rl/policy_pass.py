"""A policy's pass over the rows of a batch: distributions forward, cotangents back to one flat gradient."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Int
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.rl.actor_distributions import distribution_from, distribution_of
from perturbrl.rl.distributions import ActionDistribution, Cotangents
from perturbrl.rl.fisher import MLPLinearisation, hand_written
from perturbrl.rl.flat import FlatLayout
from perturbrl.rl.processes import Processes


@dataclass(frozen=True)
class PolicyRows:
    """What a surrogate reads of a batch, taken out of it once, because indexing a rollout is slow.

    Attributes:
        inputs: the actor's inputs.
        action: what was done.
        advantage: ``[rows]``.
        old: the distributions that the actions were drawn from.
        old_log_prob: ``old.log_prob(action)``, ``[rows]``.
    """

    inputs: TensorDictBase
    action: Tensor
    advantage: Tensor
    old: ActionDistribution
    old_log_prob: Tensor

    @staticmethod
    def of(actor: ProbabilisticActor, batch: TensorDictBase) -> "PolicyRows":
        """The rows of a flat batch with the actor's inputs, its old parameters, action and advantage."""
        old = distribution_from(actor, batch.select(*actor.dist_params_keys))
        action, advantage = batch[schema.ACTION], batch[schema.ADVANTAGE].reshape(len(batch))
        return PolicyRows(batch.select(*actor.in_keys), action, advantage, old, old.log_prob(action))

    def __len__(self) -> int:
        return len(self.advantage)

    def take(self, rows: Int[Tensor, " rows"]) -> "PolicyRows":
        """Some of the rows."""
        of = {key: value.index_select(0, rows) for key, value in self.inputs.items(True, True)}
        return PolicyRows(
            TensorDict(of, [len(rows)]),
            self.action.index_select(0, rows),
            self.advantage.index_select(0, rows),
            self.old.take(rows),
            self.old_log_prob.index_select(0, rows),
        )

    def blocks(self, size: int) -> Iterator["PolicyRows"]:
        """All of the rows, some at a time."""
        for start in range(0, len(self), size):
            some = slice(start, start + size)
            yield PolicyRows(
                self.inputs[some],
                self.action[some],
                self.advantage[some],
                self.old[some],
                self.old_log_prob[some],
            )


class PolicyPass(Protocol):
    """The distributions of a policy in some states, and their derivative's transpose."""

    distribution: ActionDistribution

    def pull_back_into(self, views: Sequence[Tensor], cotangents: Cotangents) -> None:
        """Add the gradient of the weights that belongs to one of the distributions' parameters."""


class _Recorded:
    """The same for any module, by automatic differentiation."""

    def __init__(self, actor: ProbabilisticActor, layout: FlatLayout, inputs: TensorDictBase) -> None:
        with torch.enable_grad():
            self._outputs = distribution_of(actor, inputs)
        self._layout = layout
        self.distribution = self._outputs.with_parameters(
            tuple(parameter.detach() for parameter in self._outputs.parameters)
        )

    def pull_back_into(self, views: Sequence[Tensor], cotangents: Cotangents) -> None:
        """Add the gradient of the weights that belongs to one of the distributions' parameters."""
        pairs = zip(self._outputs.parameters, cotangents, strict=True)
        # A parameter of the distribution may be fixed, and one of the policy may be unused.
        live = [(output, cotangent) for output, cotangent in pairs if output.requires_grad]
        gradients = torch.autograd.grad(
            [output for output, _ in live],
            self._layout.parameters,
            [cotangent for _, cotangent in live],
            allow_unused=True,
            materialize_grads=True,
        )
        for view, gradient in zip(views, gradients, strict=True):
            view.add_(gradient)


def policy_passes(
    actor: ProbabilisticActor,
    layout: FlatLayout,
    inputs: TensorDictBase,
    processes: Processes,
) -> Callable[[TensorDictBase], PolicyPass]:
    """How to pass over inputs like these: by hand where the layers are known, otherwise recorded."""
    known = hand_written(actor, layout, inputs, processes)
    if known is None:
        return lambda rows: _Recorded(actor, layout, rows)
    structure, template = known
    return lambda rows: MLPLinearisation(structure, layout, rows, template)
