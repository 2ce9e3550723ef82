"""The networks that a run trains, and what trains them."""

from typing import Any

import torch
from torchrl.modules import ProbabilisticActor, ValueOperator

from perturbrl.rl.normalisation import ObservationNormaliser
from perturbrl.rl.policies import categorical_actor, critic, gaussian_actor
from perturbrl.rl.scored_choice import ChoiceScores, choosing_actor
from perturbrl.rl.trust_region import TrustRegion
from perturbrl.training.choices import n_features
from perturbrl.training.options import CriticOptions, PolicyOptions, PPOOptions, TrustRegionOptions
from perturbrl.training.plain_env import ActionBox
from perturbrl.twins.perturbations import PerturbationSpace


def build_networks(
    observation_dim: int,
    actions: PerturbationSpace | ActionBox,
    options: PolicyOptions,
    seed: int,
    latent_dim: int = 0,
) -> tuple[ProbabilisticActor, ValueOperator, ObservationNormaliser | None]:
    """Actor, critic, and what both pass observations through; the global random stream stays as it is.

    Args:
        observation_dim: width of an observation.
        actions: what may be done; of policies that choose, their menu.
        options: sizes and first spread.
        seed: of the first weights.
        latent_dim: of the shifts that a policy that chooses scores by.
    """
    sizes = options.hidden_sizes
    normaliser = ObservationNormaliser(observation_dim) if options.normalise_observations else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(actions, PerturbationSpace) and options.kind == "choices":
            counts = actions.n_actions, n_features(latent_dim), actions.n_perturbations, actions.most_used
            actor = choosing_actor(ChoiceScores(observation_dim, latent_dim, *counts, sizes, normaliser))
        elif actions.discrete:
            actor = categorical_actor(observation_dim, actions.n_actions, sizes, normaliser)
        else:
            actor = gaussian_actor(
                observation_dim, actions.low, actions.high, sizes, options.init_log_std, normaliser
            )
        return actor, critic(observation_dim, sizes, normaliser), normaliser


def step_options(options: TrustRegionOptions) -> dict[str, Any]:
    """What ``TrustRegion`` takes of stage 1's options."""
    return {name: value for name, value in vars(options).items() if name != "max_kl_annealing"}


def build_optimizers(
    actor: ProbabilisticActor,
    critic: ValueOperator,
    trust_region: TrustRegionOptions,
    ppo: PPOOptions,
    critic_options: CriticOptions,
) -> list[torch.optim.Optimizer]:
    """Stage 1, stage 2 and the critic's, in this order."""
    natural = TrustRegion(actor, **step_options(trust_region))
    # Lightning's LearningRateMonitor reads this of every optimiser; stage 1's step size is its radius.
    natural.param_groups[0]["lr"] = trust_region.max_kl
    return [
        natural,
        torch.optim.Adam(actor.parameters(), lr=ppo.learning_rate, fused=True),
        torch.optim.Adam(critic.parameters(), lr=critic_options.learning_rate, fused=True),
    ]
