import inspect
import re

import pytest

from perturbrl.errors import ConfigurationError
from perturbrl.rl.step_options import StepOptions
from perturbrl.rl.trust_region import TrustRegion
from perturbrl.training import options
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    SyntheticOptions,
    TrustRegionOptions,
)

ALL = (SyntheticOptions, PolicyOptions, RolloutOptions, TrustRegionOptions, PPOOptions, CriticOptions)


def described(group):
    return re.findall(r"^ {8}([a-z_]+): ", inspect.getdoc(group).replace("\n    ", "\n        "), re.M)


@pytest.mark.parametrize("group", ALL)
def test_defaults_are_valid_and_every_option_is_documented(group):
    group()
    documented = set().union(*(described(c) for c in group.__mro__ if c is not object))
    assert documented == set(group.__dataclass_fields__)


def test_no_group_is_forgotten_here():
    groups = {
        c for _, c in inspect.getmembers(options, inspect.isclass) if hasattr(c, "__dataclass_fields__")
    }
    assert groups == {*ALL, StepOptions}


@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        (RolloutOptions, "n_cells", 0),
        (RolloutOptions, "horizon", 0),
        (RolloutOptions, "steps", 0),
        (RolloutOptions, "gamma", 0.0),
        (RolloutOptions, "gamma", 1.1),
        (RolloutOptions, "gae_lambda", -0.1),
        (RolloutOptions, "restart_fraction", 1.0),
        (RolloutOptions, "entropy_bonus", -0.1),
        (RolloutOptions, "entropy_iterations", 0),
        (PPOOptions, "epochs", -1),
        (PPOOptions, "minibatch_size", 0),
        (PPOOptions, "kl_coef", 0.0),
        (PPOOptions, "kl_coef_factor", 0.9),
        (PPOOptions, "target_kl", 0.0),
        (PPOOptions, "kl_stop", 0.0),
        (PPOOptions, "learning_rate", 0.0),
        (PPOOptions, "clip_epsilon", 0.0),
        (PPOOptions, "max_grad_norm", 0.0),
        (CriticOptions, "epochs", -1),
        (CriticOptions, "minibatch_size", 0),
        (CriticOptions, "learning_rate", -1.0),
        (CriticOptions, "max_grad_norm", -1.0),
        (PolicyOptions, "hidden_sizes", (8, 0)),
        (PolicyOptions, "init_log_std", float("inf")),
        (PolicyOptions, "init_log_std", -45.0),
        (SyntheticOptions, "n_genes", 0),
        (SyntheticOptions, "n_combinations", 29),
        (SyntheticOptions, "effect_size", -1.0),
    ],
)
def test_a_value_that_cannot_work_is_named_with_its_option(group, option, value):
    with pytest.raises(ConfigurationError, match=rf"\.{option} is {re.escape(repr(value))}; give "):
        group(**{option: value})


def test_what_is_not_a_number_is_refused_too():
    with pytest.raises(ConfigurationError, match="target_kl is nan"):
        PPOOptions(target_kl=float("nan"))


def test_the_entropy_bonus_falls_to_nothing_in_a_straight_line():
    falling = RolloutOptions(entropy_bonus=0.8, entropy_iterations=4)
    assert [falling.entropy_bonus_at(i) for i in (0, 1, 3, 4, 9)] == pytest.approx([0.8, 0.6, 0.2, 0.0, 0.0])
    assert RolloutOptions(entropy_bonus=0.8).entropy_bonus_at(1000) == 0.8


def test_the_natural_step_has_one_set_of_defaults():
    defaults = {name: p.default for name, p in inspect.signature(TrustRegion).parameters.items()}
    for name, value in vars(StepOptions()).items():
        assert defaults[name] == vars(TrustRegionOptions())[name] == value, name
