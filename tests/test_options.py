"""Options refuse what cannot work, and say what to give."""

import pytest

from perturbrl.errors import ConfigurationError
from perturbrl.training.options import CriticOptions, PPOOptions, RolloutOptions


@pytest.mark.parametrize(
    ("build", "option", "value"),
    [
        (lambda: RolloutOptions(n_cells=0), "rollout.n_cells", "0"),
        (lambda: RolloutOptions(horizon=0), "rollout.horizon", "0"),
        (lambda: RolloutOptions(steps=0), "rollout.steps", "0"),
        (lambda: RolloutOptions(gamma=1.5), "rollout.gamma", "1.5"),
        (lambda: RolloutOptions(gae_lambda=-0.1), "rollout.gae_lambda", "-0.1"),
        (lambda: PPOOptions(epochs=-1), "ppo.epochs", "-1"),
        (lambda: PPOOptions(minibatch_size=0), "ppo.minibatch_size", "0"),
        (lambda: PPOOptions(kl_coef=0.0), "ppo.kl_coef", "0.0"),
        (lambda: PPOOptions(kl_coef_factor=1.0), "ppo.kl_coef_factor", "1.0"),
        (lambda: PPOOptions(target_kl=0.0), "ppo.target_kl", "0.0"),
        (lambda: CriticOptions(epochs=-1), "critic.epochs", "-1"),
        (lambda: CriticOptions(minibatch_size=0), "critic.minibatch_size", "0"),
    ],
)
def test_an_impossible_value_is_named_with_its_option(build, option: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=option) as caught:
        build()
    assert value in str(caught.value)
    assert "give" in str(caught.value)
