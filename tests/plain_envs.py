"""Environments that know nothing of cells, as a user would bring them."""

import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

GOAL = 0.5


class Drift(EnvBase):
    """A point on a line that moves by its action; the episode is cut, not ended, after three steps."""

    def __init__(self, n_cells: int, n_choices: int = 0) -> None:
        super().__init__(batch_size=(n_cells,))
        shape = (n_cells, 1)
        self.n_choices = n_choices
        self.observation_spec = Composite(
            observation=Unbounded(shape), step=Unbounded(shape, dtype=torch.int64), shape=(n_cells,)
        )
        self.action_spec = (
            Categorical(n_choices, shape=(n_cells,)) if n_choices else Bounded(-1.0, 1.0, shape)
        )
        self.reward_spec = Unbounded(shape)
        flag = Categorical(2, shape=shape, dtype=torch.bool)
        self.full_done_spec = Composite(
            done=flag, terminated=flag.clone(), truncated=flag.clone(), shape=(n_cells,)
        )
        self.generator = torch.Generator()

    def _set_seed(self, seed: int | None) -> None:
        self.generator.manual_seed(seed or 0)

    def _reset(self, tensordict=None, **kwargs) -> TensorDict:
        n = self.batch_size[0]
        position = torch.rand(n, 1, generator=self.generator) * 10 + 100
        return TensorDict({"observation": position, "step": torch.zeros(n, 1, dtype=torch.int64)}, [n])

    def _step(self, tensordict) -> TensorDict:
        action = tensordict["action"].float()
        if self.n_choices:
            action = (action[:, None] - 1) / (self.n_choices - 1)
        following = tensordict["observation"] + action.clamp(-1, 1)
        step = tensordict["step"] + 1
        cut = step >= 3
        values = {
            "observation": following,
            "step": step,
            "reward": -(action - GOAL).square(),
            "done": cut,
            "terminated": torch.zeros_like(cut),
            "truncated": cut,
        }
        return TensorDict(values, self.batch_size)


def choices(n_cells: int) -> Drift:
    return Drift(n_cells, n_choices=3)


def unbatched(n_cells: int) -> Drift:
    return Drift(1)


def nothing(n_cells: int) -> None:
    return None
