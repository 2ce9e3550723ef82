"""sb3-contrib's TRPO brought to the same policy and batch."""

import warnings

import gymnasium
import numpy as np
import torch
from sb3_contrib import TRPO
from stable_baselines3.common.buffers import RolloutBufferSamples
from stable_baselines3.common.logger import Logger
from tensordict import TensorDict
from torchrl.modules import ProbabilisticActor


class _Spaces(gymnasium.Env):
    """Nothing but the shapes of observations and actions."""

    def __init__(self, observation_dim: int, n_actions: int) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (observation_dim,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (n_actions,), np.float32)


class PeerTRPO:
    """One policy update of sb3-contrib, without its critic, from given weights on a given batch.

    Its defaults otherwise; ``max_kl`` and ``damping`` are in nats summed over action dimensions and converted.
    """

    def __init__(
        self, actor: ProbabilisticActor, batch: TensorDict, *, max_kl: float, damping: float
    ) -> None:
        n_states, n_actions = batch["action"].shape
        hidden = [layer.out_features for layer in actor.module[0].module.trunk[:-1:2]]
        self._model = TRPO(
            "MlpPolicy",
            _Spaces(batch["observation"].shape[-1], n_actions),
            n_steps=16,
            batch_size=16,
            target_kl=max_kl / n_actions,
            cg_damping=damping / n_actions,
            n_critic_updates=0,
            policy_kwargs={"net_arch": hidden},
            device="cpu",
        )
        self._model.set_logger(Logger(None, []))
        self._copy(actor, self._model.policy)
        with torch.no_grad():
            log_prob = self._model.policy.get_distribution(batch["observation"]).log_prob(batch["action"])
        zeros = torch.zeros(n_states)
        samples = RolloutBufferSamples(
            batch["observation"], batch["action"], zeros, log_prob, batch["advantage"], zeros
        )
        self._model.rollout_buffer.get = lambda batch_size: iter([samples])
        self._start = {k: v.clone() for k, v in self._model.policy.state_dict().items()}

    def step(self) -> None:
        """Take the step from the weights given at the start."""
        self._model.policy.load_state_dict(self._start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no critic losses
            self._model.train()

    def copy_to(self, actor: ProbabilisticActor) -> None:
        """Give the actor the weights after the last step."""
        self._copy(self._model.policy, actor)

    @staticmethod
    @torch.no_grad()
    def _copy(source: torch.nn.Module, target: torch.nn.Module) -> None:
        for into, out_of in zip(_policy_weights(target), _policy_weights(source), strict=True):
            into.copy_(out_of)


def _policy_weights(policy: torch.nn.Module) -> list[torch.Tensor]:
    """Deviation, then weight and bias of each layer of the policy's network."""
    if isinstance(policy, ProbabilisticActor):
        module = policy.module[0].module
        return [module.log_std, *module.trunk.parameters()]
    return [policy.log_std, *policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()]
