"""The documented example runs as it stands and learns to balance the pole."""

import re
from typing import Any

import pytest
import torch
from places import README
from torchrl.envs.utils import ExplorationType, set_exploration_type

SECTION = "## The natural-gradient step as an optimiser"


def _blocks():
    section = README.read_text().split(SECTION, 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_example_has_fifteen_lines():
    assert len(_blocks()) == 2
    assert len(_blocks()[1].splitlines()) == 15


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_example_learns():
    pytest.importorskip("gymnasium", reason="CartPole comes with gymnasium")
    printed: list[str] = []
    scope: dict[str, Any] = {"print": printed.append}
    exec("".join(_blocks()), scope)
    env, actor = scope["env"], scope["actor"]
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        returns = [float(env.rollout(500, actor)["next", "reward"].sum()) for _ in range(5)]
    # A random policy balances about 20 steps, 500 is the most there is.
    assert sum(returns) / 5 > 400
    assert len(printed) == 16
    assert all(line.startswith("accepted") for line in printed)
    assert scope["trust_region"].param_groups[0]["outcomes"]["accepted"] == 16
