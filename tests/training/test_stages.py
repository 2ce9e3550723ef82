"""Advantages in units of their spread, and step sizes that stay below what an iteration allows."""

import pytest
import torch
from smoke_run import build, quiet_trainer
from tensordict import TensorDict

from perturbrl.rl.processes import Processes
from perturbrl.training.algorithm import TwoStage
from perturbrl.training.stages import normalise_advantages


def test_advantages_get_mean_0_and_variance_1_over_all_processes() -> None:
    everything = torch.randn(50, 1, generator=torch.Generator().manual_seed(0)) * 7 + 3
    mine = TensorDict({"advantage": everything[:20].clone()}, [20])
    rest = everything[20:].double()

    def with_the_others(moments: torch.Tensor) -> torch.Tensor:
        return moments + torch.stack((rest.sum(), rest.square().sum(), rest.new_tensor(30.0)))

    normalise_advantages(mine, Processes(with_the_others))
    expected = (everything - everything.mean()) / everything.std(correction=0)
    torch.testing.assert_close(mine["advantage"], expected[:20])


def test_annealed_step_sizes_reach_the_optimisers() -> None:
    annealing = [f"--model.{key}_annealing=linear" for key in ("ppo.learning_rate", "critic.learning_rate")]
    built = build(
        *annealing, "--model.trust_region.max_kl_annealing=linear", "--model.trust_region.max_kl=0.4"
    )
    trainer = quiet_trainer(4)
    trainer.fit(built.model, built.data)
    natural, penalised, adaptive = (optimizer.param_groups[0] for optimizer in trainer.optimizers)
    assert natural["max_kl"] == natural["lr"] == pytest.approx(0.1)
    assert penalised["lr"] <= 1e-3 / 4
    assert adaptive["lr"] == pytest.approx(1e-3 / 4)
    assert built.model.last_iteration.natural_step.kl <= 0.1 * 1.001


def test_raw_advantages_are_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    step = TwoStage.natural_step

    def watch(self: TwoStage, batch: TensorDict, iteration: int):
        seen.append(batch["advantage"].clone())
        return step(self, batch, iteration)

    monkeypatch.setattr(TwoStage, "natural_step", watch)
    for normalised in ("true", "false"):
        built = build(f"--model.rollout.normalise_advantages={normalised}")
        quiet_trainer(1).fit(built.model, built.data)
    scaled, raw = seen
    assert float(scaled.std(correction=0)) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(scaled, (raw - raw.mean()) / raw.std(correction=0), rtol=1e-3, atol=1e-3)


def test_mixed_precision_leaves_the_policy_in_float32_and_still_trains_the_critic() -> None:
    """Only the critic's epochs may round: the first iteration's policy is the same bit for bit."""
    ends, errors = {}, {}
    for precision in ("32-true", "bf16-mixed"):
        built = build("--model.rollout.n_cells=256")
        quiet_trainer(1, precision=precision).fit(built.model, built.data)
        ends[precision] = [p.detach().clone() for p in built.model.actor.parameters()]
        errors[precision] = built.model.last_iteration.critic_error
    assert all(torch.equal(a, b) for a, b in zip(*ends.values(), strict=True))
    assert errors["32-true"] != errors["bf16-mixed"]
    assert errors["bf16-mixed"] == pytest.approx(errors["32-true"], rel=0.05)


@pytest.mark.parametrize(
    ("learning_rate", "far_enough"),
    [
        ("1e-3", lambda added, target: added > 1.5 * target),
        ("1e-5", lambda added, target: added < target / 1.5),
    ],
    ids=["up", "down"],
)
def test_the_penaltys_weight_follows_what_stage_two_itself_added(learning_rate: str, far_enough) -> None:
    """Of stage 1's KL it knows nothing, which is so much larger that what stage 2 adds would not show beside it."""
    options = ["--model.rollout.n_cells=128", "--model.trust_region.max_kl=0.5"]
    stage_two = {
        "minibatch_size": 64,
        "epochs": 2,
        "kl_coef": 0.1,
        "kl_stop": 100,
        "learning_rate": learning_rate,
    }
    built = build(*options, *(f"--model.ppo.{name}={value}" for name, value in stage_two.items()))
    quiet_trainer(1).fit(built.model, built.data)
    done, ppo = built.model.last_iteration, built.model.ppo
    assert done.natural_step.kl > 3 * ppo.target_kl
    assert far_enough(done.ppo.kl - done.natural_step.kl, ppo.target_kl)
    factor = ppo.kl_coef_factor if learning_rate == "1e-3" else 1 / ppo.kl_coef_factor
    assert built.model.kl_coef == done.kl_coef == pytest.approx(ppo.kl_coef * factor)


def test_momentum_towards_steps_that_were_taken_back_is_forgotten() -> None:
    ends = {}
    for kl_coef in (1, 1e6):  # at the larger, any step from the policy that collected is a loss
        options = {"kl_coef": kl_coef, "kl_stop": 1e6, "epochs": 1}
        stage_two = [f"--model.ppo.{name}={value}" for name, value in options.items()]
        built, trainer = build("--model.schedule=ppo_only", *stage_two), quiet_trainer(1)
        trainer.fit(built.model, built.data)
        ends[built.model.last_iteration.ppo.reverted] = len(trainer.optimizers[1].state)
    assert ends == {False: len(list(built.model.actor.parameters())), True: 0}
