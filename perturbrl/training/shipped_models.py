"""The models of the shipped configurations, for calls from Python."""

from typing import Final

from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.envs.tasks import ReachCellState
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    TrustRegionOptions,
)
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.landscape import LandscapeTwin
from perturbrl.twins.response import ResponseTwin

TOP_GENES: Final = 2000
SCREEN_ITERATIONS: Final = 80
LANDSCAPE_ITERATIONS: Final = 60


def screen_model(steps: int = 3) -> TwoStageModule:
    """The model of ``configs/gene_screen.yaml``, with so many perturbations at most, one a step."""
    return TwoStageModule(
        ResponseTwin(),
        ReachCellState(cost_per_perturbation=0.02),
        n_candidates=256,
        policy=PolicyOptions(kind="choices", exploration=0.5),
        rollout=RolloutOptions(n_cells=512, horizon=steps),
        trust_region=TrustRegionOptions(max_kl=0.3),
        ppo=PPOOptions(minibatch_size=512),
        critic=CriticOptions(minibatch_size=512),
    )


def screen_encoder() -> PCAEncoder:
    """The encoder of ``configs/gene_screen.yaml``."""
    return PCAEncoder(20, whiten=True)


def landscape_model() -> TwoStageModule:
    """The model of ``configs/landscape.yaml``."""
    return TwoStageModule(
        twin=LandscapeTwin(n_members=6, judging_members=2),
        task=ReachCellState(goal="centroid", cost_l1=0.005, arrival=1.0),
        policy=PolicyOptions(normalise_observations=True),
        rollout=RolloutOptions(n_cells=512, horizon=4, settle=True),
        trust_region=TrustRegionOptions(max_kl=0.3),
        ppo=PPOOptions(minibatch_size=512),
        critic=CriticOptions(minibatch_size=512),
        n_candidates=12,
    )
