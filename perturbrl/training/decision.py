"""Whether what a policy learned is used: on conditions that it was not trained on, it must be better than its start."""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Int
from scipy.stats import t as student
from tensordict import TensorDict
from torch import Generator, Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import step_mdp
from torchrl.modules import ProbabilisticActor

from perturbrl import schema
from perturbrl.envs.base import Gains
from perturbrl.rl.rollouts import best_action, draw_action
from perturbrl.schema import CellState

CONFIDENCE: Final = 0.95
# Of fewer, even gains that are all of one sign may be chance (sign test at 5 %). With two of Kang 2018's cell types to
# decide, 4 of 20 policies were kept, and all made the error on the held-out type larger than the start's.
FEWEST: Final = 5
ALONE: Final = "predictions are kriging's alone"


@torch.no_grad()
def episode_end(
    env: EnvBase,
    actor: ProbabilisticActor,
    start: CellState,
    steps: int,
    seed: int,
    exploring: Generator | None = None,
) -> CellState:
    """Where cells are after one episode of a policy.

    Args:
        env: of as many cells as ``start`` has.
        actor: the policy.
        start: ``[cells, latent]``.
        steps: of an episode.
        seed: of the environment's noise.
        exploring: random numbers for actions drawn from the policy; ``None`` takes its best ones.
    """
    env.set_seed(seed, static_seed=True)
    given = {schema.CELL_STATE: start}
    state = env.reset(TensorDict(given, batch_size=env.batch_size, device=start.device))
    for _ in range(steps):
        state[schema.ACTION] = (
            best_action(actor, state)
            if exploring is None
            else draw_action(actor.get_dist(state.select(*actor.in_keys)), exploring, 0, len(start))
        )
        state = step_mdp(env.step(state))
    end: Tensor = state[schema.CELL_STATE]
    return end


@dataclass(frozen=True)
class Decision:
    """Whether a policy is used.

    Attributes:
        kept: it is.
        n_units: what decided: perturbations, in all contexts and with all that contains them; contexts of a single
            one.
        gain: mean decrease of the error on them, in units of its mean at the start of training.
        at_least: lower bound of that mean (one-sided, ``CONFIDENCE``, over units).
        sentence: the same in words.
    """

    kept: bool
    n_units: int
    gain: float
    at_least: float
    sentence: str


def untrained() -> Decision:
    """No policy has learned anything."""
    return Decision(False, 0, 0.0, 0.0, f"No policy was trained: {ALONE}.")


def decide(gains: Gains | None, units: Int[Tensor, " conditions"]) -> Decision:
    """Keep a policy whose mean gain is certainly positive and that makes no kind of error larger on average.

    Args:
        gains: of the conditions that decide; ``None`` where there are none.
        units: a number of each; those with the same one are one observation, of which ``FEWEST`` are needed.
    """
    gains = None if gains is None else gains.by_unit(units)
    n = 0 if gains is None else len(gains.parts)
    if gains is None or n < FEWEST:
        few = (
            f"What reinforcement learning would correct in kriging's predictions cannot be tried out: {_kept_back(n)} "
            f"kept from its training, and {FEWEST} are needed; {ALONE}."
        )
        return Decision(False, n, 0.0, 0.0, few)
    total = gains.total.double()
    gain, error = float(total.mean()), float(total.std()) / n**0.5
    at_least = gain - float(student.ppf(CONFIDENCE, n - 1)) * error
    kept = at_least > 0 and bool((gains.parts.mean(0) >= 0).all())
    sentence = (
        f"Reinforcement learning looked for what to correct in kriging's predictions. Tried on {n} perturbations or "
        f"cell types kept from its training, its correction made their error {abs(gain):.0%} "
        f"{'smaller' if gain > 0 else 'larger'}{_doubt(gain, at_least, kept)}: "
        f"{'predictions include it' if kept else ALONE}."
    )
    return Decision(kept, n, gain, at_least, sentence.replace("%", " %"))


def _kept_back(n: int) -> str:
    return f"{n} perturbation{'s or cell types were' if n != 1 else ' or cell type was'}"


def _doubt(gain: float, at_least: float, kept: bool) -> str:
    if kept or gain <= 0:
        return ""
    if at_least <= 0:
        return ", which may be chance"
    return ", but that of the mean or that of the spread larger"
