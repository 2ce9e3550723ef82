"""One iteration in the order of Algorithm 1."""

import pytest
from smoke_run import build, quiet_trainer

from perturbrl.rl.normalisation import ObservationNormaliser
from perturbrl.rl.rollouts import Rollouts
from perturbrl.training.algorithm import TwoStage

STEPS = {
    (Rollouts, "collect"): "collect",
    (TwoStage, "with_advantages"): "advantages",
    (TwoStage, "natural_step"): "stage 1",
    (TwoStage, "ppo_epochs"): "stage 2",
    (TwoStage, "critic_epochs"): "critic",
    (ObservationNormaliser, "update"): "moments",
}


def test_an_iteration_collects_weighs_steps_and_ends_with_the_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for (owner, method), name in STEPS.items():
        original = getattr(owner, method)

        def watch(*args, name=name, original=original):
            order.append(name)
            return original(*args)

        monkeypatch.setattr(owner, method, watch)
    built = build("--model.policy.normalise_observations=true")
    quiet_trainer(2).fit(built.model, built.data)
    assert order == 2 * list(STEPS.values())


def test_a_warm_start_leaves_stage_1_for_stage_2() -> None:
    built = build("--model.schedule=warm_start", "--model.trust_region_iterations=1")
    quiet_trainer(1).fit(built.model, built.data)
    algorithm = built.model.algorithm
    assert algorithm is not None
    assert [algorithm.has_stage_one(k) for k in range(3)] == [True, False, False]
    assert [algorithm.has_stage_two(k) for k in range(3)] == [False, True, True]
