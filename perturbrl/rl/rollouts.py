"""On-policy rollouts through TorchRL's collector, and advantages."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from tensordict import NestedKey, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModuleBase
from torch import Generator, Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal
from torchrl.collectors import Collector
from torchrl.envs import EnvBase
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives.value.functional import generalized_advantage_estimate

from perturbrl import schema
from perturbrl.errors import ConfigurationError
from perturbrl.rl.private_apis import after_each_step

_GOLDEN = 0x9E3779B97F4A7C15


def stream_seed(seed: int, iteration: int, stream: int) -> int:
    """A seed for one random stream of one iteration, so that nothing random outlives an iteration."""
    mixed = (seed * 0x100000001B3 + iteration * 8 + stream) * _GOLDEN
    return (mixed ^ (mixed >> 31)) & 0x7FFFFFFFFFFFFFFF


def draw_action(dist: Distribution, generator: Generator, first: int, total: int) -> Tensor:
    """Sample an action for each row, with the random numbers that belong to rows ``first...`` of ``total``.

    Numbers are drawn for all rows of all processes and sliced, so that a cell's action does not depend on the
    process it is simulated by.

    Raises:
        ConfigurationError: the distribution is none of Gaussian and categorical.
    """
    if isinstance(dist, Categorical):
        n, device = dist.probs.shape[0], dist.probs.device
        uniform = torch.rand(total, 1, generator=generator, device=device)[first : first + n]
        edges = dist.probs.cumsum(-1)
        return (uniform * edges[:, -1:] >= edges).sum(-1).clamp_max(edges.shape[-1] - 1)
    base = dist.base_dist if isinstance(dist, Independent) else dist
    if not isinstance(base, Normal):
        raise ConfigurationError(
            f"cannot sample from {type(base).__name__} reproducibly; use a Gaussian or a categorical policy"
        )
    shape = (total, *base.loc.shape[1:])
    noise = torch.randn(shape, generator=generator, device=base.loc.device)[first : first + base.loc.shape[0]]
    return base.loc + base.scale * noise


@torch.no_grad()
def best_action(actor: ProbabilisticActor, observed: TensorDictBase) -> Tensor:
    """The action a policy takes without exploring: its mean, or its most probable choice."""
    dist = actor.get_dist(observed.select(*actor.in_keys))
    return dist.probs.argmax(-1) if isinstance(dist, Categorical) else dist.mean


class _Explore(TensorDictModuleBase):
    """The actor with its own random stream.

    A parameter that all cells share (a view with stride 0) is kept aside as one row per step.
    """

    def __init__(self, actor: ProbabilisticActor, generator: Generator, first: int, total: int) -> None:
        super().__init__()
        self.actor, self.generator, self.first, self.total = actor, generator, first, total
        self.in_keys, self.out_keys = actor.in_keys, [schema.ACTION]
        self.shared: dict[NestedKey, list[Tensor]] = {}

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        tensordict = self.actor.get_dist_params(tensordict)
        dist = self.actor.build_dist_from_params(tensordict)
        for key in self.actor.dist_params_keys:
            value = tensordict.get(key)
            if len(value) > 1 and value.stride(0) == 0:
                self.shared.setdefault(key, []).append(value[0])
                tensordict.pop(key)
        return tensordict.set(schema.ACTION, draw_action(dist, self.generator, self.first, self.total))

    def add_shared(self, rollout: TensorDictBase) -> None:
        """Give every frame its view of what all cells share."""
        for key, rows in self.shared.items():
            by_step = torch.stack(rows)
            constant = bool((by_step == by_step[:1]).all())
            row = by_step[0] if constant else by_step
            rollout.set(key, row.expand(*rollout.batch_size, *by_step.shape[1:]))
        self.shared = {}


class _Record:
    """What TorchRL's environments call between a step and the reset that may follow.

    Stacking is most of what a collector costs beside the simulation, so only the asked entries are left for it.
    The reset after an iteration's last step is left out, because the next iteration starts with its own.
    """

    def __init__(self, env: EnvBase, steps: int, keys: Sequence[NestedKey] | None) -> None:
        self._steps, self._done_keys, self._keys = steps, env.done_keys, keys
        self.taken = 0

    def __call__(
        self, step: TensorDictBase, following: TensorDictBase
    ) -> tuple[TensorDictBase, TensorDictBase]:
        self.taken += 1
        if self.taken == self._steps:
            following.update({key: torch.zeros_like(following.get(key)) for key in self._done_keys})
        if self._keys is not None:
            step.select(*self._keys, strict=False, inplace=True)
        return step, following


class Rollouts:
    """Whole iterations of experience from a batch-locked environment.

    Each ``collect`` starts from a reset with random streams keyed by (seed, iteration): nothing of one
    iteration is left over for the next, so an iteration can be repeated from its number alone.

    Args:
        env: environment with one batch dimension, the cells.
        actor: the policy; its distribution's parameters are stored beside every action.
        steps: steps per iteration.
        seed: of all random streams.
        only_for_training: store what the optimiser reads and not, for example, states and doses, which makes
            collecting faster.
    """

    def __init__(
        self,
        env: EnvBase,
        actor: ProbabilisticActor,
        steps: int,
        seed: int,
        *,
        only_for_training: bool = False,
    ) -> None:
        self.env, self.steps, self.seed = env, steps, seed
        n_cells = env.batch_size.numel()
        self.generator = Generator(device=env.device or "cpu")
        first, total = getattr(env, "first_cell", 0), getattr(env, "total_cells", n_cells)
        self._explore = _Explore(actor, self.generator, first, total)
        self._record = _Record(env, steps, _training_keys(env, actor) if only_for_training else None)
        after_each_step(env, self._record)
        self._collector = Collector(
            env,
            self._explore,
            frames_per_batch=n_cells * steps,
            total_frames=-1,
            reset_at_each_iter=True,
            auto_register_policy_transforms=False,
            trust_policy=True,
            track_traj_ids=False,
            device=env.device,
            # Every iteration is stacked into memory of its own, once, instead of into a buffer that is then copied.
            use_buffers=False,
            return_same_td=True,
        )
        self._iterator = iter(self._collector)

    def collect(self, iteration: int) -> TensorDictBase:
        """One iteration's experience, ``[cells, time]``, the next step's values under ``next``."""
        self.env.set_seed(stream_seed(self.seed, iteration, 0), static_seed=True)
        self.generator.manual_seed(stream_seed(self.seed, iteration, 1))
        self._record.taken = 0
        self._explore.shared = {}
        rollout = next(self._iterator)
        self._explore.add_shared(rollout)
        return rollout

    def close(self) -> None:
        """Let go of the collector."""
        self._collector.shutdown()


def _training_keys(env: EnvBase, actor: ProbabilisticActor) -> list[NestedKey]:
    observed = [*actor.in_keys, schema.OBSERVATION]
    here = [*observed, *actor.dist_params_keys, schema.ACTION]
    after = [*observed, *env.reward_keys, *env.done_keys]
    return [*here, *(unravel_key((schema.NEXT, key)) for key in after)]


def returns(after: TensorDictBase) -> Float[Tensor, "2"]:
    """Sum of rewards and number of episodes in what steps led to, ``[cells, time]``.

    What follows a cell's last finished episode does not count; of a cell that finished none, all counts as one.
    """
    done, reward = after[schema.DONE][..., 0], after[schema.REWARD][..., 0]
    finished = done.flip(1).cumsum(1).flip(1) > 0
    counts = finished | ~done.any(1, keepdim=True)
    return torch.stack(((reward * counts).sum(), done.sum(1).clamp_min(1).sum().to(reward.dtype)))


@torch.no_grad()
def add_advantages(
    rollout: TensorDictBase, critic: ValueOperator, *, gamma: float, gae_lambda: float
) -> TensorDictBase:
    """Add ``state_value``, ``advantage`` and ``value_target``, each ``[cells, time, 1]``, to a rollout.

    Generalised advantage estimation (Schulman 2016, equation 16). A truncated episode bootstraps from the
    value of the state it was cut at, a terminated one does not.
    """
    value = _values(critic, rollout[schema.OBSERVATION])
    after = rollout[schema.NEXT]
    done, terminated = after[schema.DONE], after[schema.TERMINATED]
    next_value = torch.cat((value[:, 1:], value[:, -1:]), dim=1)
    # Where an episode goes on, the next state is the next row; only at its end is another value needed.
    ends = done.clone()
    ends[:, -1] = True
    at_end = ends.squeeze(-1)
    next_value[at_end] = _values(critic, after[schema.OBSERVATION][at_end])
    advantage, target = generalized_advantage_estimate(
        gamma, gae_lambda, value, next_value, after[schema.REWARD], done, terminated
    )
    rollout[schema.STATE_VALUE] = value
    rollout[schema.ADVANTAGE], rollout[schema.VALUE_TARGET] = advantage, target
    return rollout


def _values(critic: ValueOperator, observation: Float[Tensor, "*batch obs"]) -> Float[Tensor, "*batch 1"]:
    return critic.module(observation)
