"""The documented example runs as it stands and learns to balance the pole."""

import re
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[1] / "docs" / "natural_step.md"


def _block():
    return re.search(r"```python\n(.*?)```", EXAMPLE.read_text(), re.DOTALL).group(1)


def test_example_has_fifteen_lines():
    assert len(_block().splitlines()) == 15


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_example_learns():
    pytest.importorskip("gymnasium", reason="CartPole comes with gymnasium")
    from torchrl.collectors import Collector
    from torchrl.envs import GymEnv
    from torchrl.envs.utils import ExplorationType, set_exploration_type
    from torchrl.objectives.value import GAE

    from perturbrl.rl.policies import categorical_actor, critic
    from perturbrl.rl.trust_region import TrustRegion

    names = (Collector, GAE, GymEnv, TrustRegion, categorical_actor, critic)
    printed: list[str] = []
    scope = {name.__name__: name for name in names} | {"torch": torch, "seed": 0, "print": printed.append}
    torch.manual_seed(0)
    exec(_block(), scope)
    env, actor = scope["env"], scope["actor"]
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        returns = [float(env.rollout(500, actor)["next", "reward"].sum()) for _ in range(5)]
    # A random policy balances about 20 steps, 500 is the most there is.
    assert sum(returns) / 5 > 400
    assert len(printed) == 30
    assert all(line.startswith("accepted") for line in printed)
    assert scope["trust_region"].param_groups[0]["outcomes"]["accepted"] == 30
