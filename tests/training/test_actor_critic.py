"""Networks for boxes and choices, reproducible from a seed that disturbs nothing else."""

import torch

from perturbrl.rl.trust_region import TrustRegion
from perturbrl.training.actor_critic import build_networks, build_optimizers
from perturbrl.training.options import CriticOptions, PolicyOptions, PPOOptions, TrustRegionOptions
from perturbrl.training.plain_env import ActionBox

BOX = ActionBox(False, 0, -torch.ones(3), torch.ones(3))
CHOICES = ActionBox(True, 4, torch.empty(0), torch.empty(0))


def test_outputs_match_the_actions() -> None:
    options = PolicyOptions(hidden_sizes=(8,))
    for actions, width in ((BOX, 3), (CHOICES, 4)):
        actor, value, normaliser = build_networks(5, actions, options, seed=0)
        output = actor.module[0].module(torch.zeros(2, 5))
        output = output if isinstance(output, torch.Tensor) else output[0]
        assert output.shape == (2, width)
        assert value.module(torch.zeros(2, 5)).shape == (2, 1)
        assert normaliser is None


def test_weights_depend_on_the_seed_and_on_nothing_else() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    weights = [
        torch.cat([p.flatten() for p in build_networks(5, BOX, PolicyOptions(), seed)[0].parameters()])
        for seed in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.rand(1), expected)


def test_one_normaliser_serves_both_networks() -> None:
    actor, value, normaliser = build_networks(5, BOX, PolicyOptions(normalise_observations=True), seed=0)
    assert normaliser is not None
    assert value.module[0] is normaliser
    assert actor.module[0].module.trunk[0] is normaliser


def test_optimisers_are_those_of_the_options_in_order() -> None:
    actor, value, _ = build_networks(5, BOX, PolicyOptions(), seed=0)
    natural, penalised, adaptive = build_optimizers(
        actor,
        value,
        TrustRegionOptions(max_kl=0.2),
        PPOOptions(learning_rate=1e-2),
        CriticOptions(learning_rate=1e-4),
    )
    assert isinstance(natural, TrustRegion)
    assert natural.param_groups[0]["max_kl"] == natural.param_groups[0]["lr"] == 0.2
    assert penalised.param_groups[0]["lr"] == 1e-2
    assert adaptive.param_groups[0]["lr"] == 1e-4
