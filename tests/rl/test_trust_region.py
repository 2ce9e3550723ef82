import math
import threading

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torch.distributions import Distribution, Normal
from torch.utils.data import DataLoader
from torchrl.modules import ProbabilisticActor
from toy_policies import ACTORS, collect, flat_parameters, make_actor

from perturbrl.errors import ConfigurationError
from perturbrl.rl.actor_distributions import distribution_of, kl_divergence
from perturbrl.rl.outcomes import TrustRegionOutcome, TrustRegionStep
from perturbrl.rl.policies import bernoulli_actor, independent_normal
from perturbrl.rl.processes import Processes
from perturbrl.rl.trust_region import TrustRegion


class _Bandit(nn.Module):
    """One Gaussian for all states: mean and log-deviation are the weights themselves."""

    def __init__(self, n_actions):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(n_actions))
        self.log_std = nn.Parameter(torch.linspace(-1, 1, n_actions))

    def forward(self, observation):
        shape = (*observation.shape[:-1], -1)
        return self.loc.expand(shape), self.log_std.exp().expand(shape)


def _bandit(n_actions=3):
    return ProbabilisticActor(
        TensorDictModule(_Bandit(n_actions), ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=independent_normal,
        return_log_prob=True,
    ).double()


def test_natural_gradient_of_a_bandit_in_closed_form():
    """Δloc ∝ E[Â (a − μ)] and Δlog σ ∝ E[Â (z² − 1)] / 2, scaled to a quadratic KL of δ."""
    actor, max_kl = _bandit(), 1e-6
    batch = collect(actor, 500)
    bandit = actor.module[0].module
    advantage, deviation = batch["advantage"][:, None], bandit.log_std.detach().exp()
    z = (batch["action"] - bandit.loc.detach()) / deviation
    on_loc, on_log_std = (advantage * z).mean(0) * deviation, (advantage * (z.square() - 1)).mean(0) / 2
    quadratic_kl = (on_loc / deviation).square().sum() / 2 + on_log_std.square().sum()
    scale = (max_kl / quadratic_kl).sqrt()
    before = (bandit.loc.detach().clone(), bandit.log_std.detach().clone())
    step = TrustRegion(actor, max_kl, cg_damping=0.0, cg_max_steps=20, cg_tolerance=0.0).step(batch=batch)
    assert step.outcome is TrustRegionOutcome.ACCEPTED
    trials = 1.0 if step.backtracks == 0 else 0.8
    torch.testing.assert_close(
        bandit.loc.detach() - before[0], trials * scale * on_loc, rtol=1e-6, atol=1e-12
    )
    torch.testing.assert_close(
        bandit.log_std.detach() - before[1], trials * scale * on_log_std, rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize("kind", sorted(ACTORS))
def test_predicted_kl_is_the_realised_one(kind):
    """The undamped scaling aims at a KL of δ to second order, whatever the damping."""
    actor, max_kl = make_actor(kind, dtype=torch.float64), 1e-4
    batch = collect(actor, 300)
    step = TrustRegion(actor, max_kl, cg_damping=0.5).step(batch=batch)
    assert step.outcome is TrustRegionOutcome.ACCEPTED
    predicted = max_kl * 0.8 ** (2 * step.backtracks)
    assert step.backtracks <= 1
    assert step.kl == pytest.approx(predicted, rel=0.1)
    assert step.kl <= max_kl


@pytest.mark.parametrize("kind", sorted(ACTORS))
def test_reported_values_are_those_of_torch(kind):
    actor = make_actor(kind, dtype=torch.float64)
    batch = collect(actor, 40, 5)
    with torch.no_grad():
        old = distribution_of(actor, batch).detached()
        before = actor.get_dist(batch).log_prob(batch["action"])
    step = TrustRegion(actor, 0.05).step(batch=batch)
    with torch.no_grad():
        kl = kl_divergence(old, distribution_of(actor, batch)).mean()
        ratio = (actor.get_dist(batch).log_prob(batch["action"]) - before).exp()
    assert step.outcome is TrustRegionOutcome.ACCEPTED
    assert step.kl == pytest.approx(float(kl))
    assert step.kl_per_dimension == pytest.approx(float(kl) / old.n_dims)
    assert step.improvement == pytest.approx(float(((ratio - 1) * batch["advantage"]).mean()))
    assert step.improvement > 0


@pytest.mark.parametrize("scaling", ["undamped", "damped"])
def test_both_scalings_of_a_bandit_in_closed_form(scaling):
    """With a diagonal H: d = g / (h + λ), divided by dᵀHd = Σ h g² / (h + λ)² or by gᵀd = Σ g² / (h + λ)."""
    actor, max_kl, damping = _bandit(), 1e-6, 0.7
    batch = collect(actor, 500)
    bandit = actor.module[0].module
    advantage, deviation = batch["advantage"][:, None], bandit.log_std.detach().exp()
    z = (batch["action"] - bandit.loc.detach()) / deviation
    g = torch.cat(((advantage * z).mean(0) / deviation, (advantage * (z.square() - 1)).mean(0)))
    h = torch.cat((deviation**-2, torch.full_like(deviation, 2.0)))
    d = g / (h + damping)
    divisor = {"undamped": (h * d.square()).sum(), "damped": (g * d).sum()}[scaling]
    before = flat_parameters(actor)
    optimizer = TrustRegion(actor, max_kl, damping, cg_max_steps=20, cg_tolerance=0.0, kl_scaling=scaling)
    step = optimizer.step(batch=batch)
    assert step.outcome is TrustRegionOutcome.ACCEPTED
    full = (2 * max_kl / divisor).sqrt() * d
    torch.testing.assert_close(
        flat_parameters(actor) - before, 0.8**step.backtracks * full, rtol=1e-5, atol=1e-12
    )
    share = (h * d.square()).sum() / divisor * 0.8 ** (2 * step.backtracks)
    assert step.kl == pytest.approx(float(share) * max_kl, rel=1e-2)


def test_shape_of_the_batch_does_not_matter():
    steps = []
    for shape, unsqueeze in (((60,), False), ((20, 3), False), ((20, 3), True)):
        actor = make_actor("gaussian", dtype=torch.float64)
        batch = collect(actor, 60).reshape(*shape)
        if unsqueeze:
            batch["advantage"] = batch["advantage"].unsqueeze(-1)
        TrustRegion(actor, 0.01).step(batch=batch)
        steps.append(flat_parameters(actor))
    torch.testing.assert_close(steps[0], steps[1])
    torch.testing.assert_close(steps[0], steps[2])


def test_preconditioning_changes_the_way_not_the_end():
    ends = []
    for precondition in (True, False):
        actor = make_actor("gaussian", dtype=torch.float64)
        optimizer = TrustRegion(actor, 1e-3, cg_max_steps=200, cg_tolerance=0.0, precondition=precondition)
        optimizer.step(batch=collect(actor, 100))
        ends.append(flat_parameters(actor))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-8)


def _poisoned(key, value):
    def poison(actor, batch):
        batch[key].view(-1)[0] = value

    return poison


def _bad_parameter(value):
    def poison(actor, batch):
        next(actor.parameters()).data.view(-1)[0] = value

    return poison


def _zero_advantage(actor, batch):
    batch["advantage"].zero_()


NON_FINITE, ZERO = TrustRegionOutcome.NON_FINITE, TrustRegionOutcome.ZERO_GRADIENT
FAULTS = {
    "advantage nan": (_poisoned("advantage", math.nan), NON_FINITE),
    "advantage inf": (_poisoned("advantage", math.inf), NON_FINITE),
    "observation nan": (_poisoned("observation", math.nan), NON_FINITE),
    "observation inf": (_poisoned("observation", math.inf), NON_FINITE),
    "parameter nan": (_bad_parameter(math.nan), NON_FINITE),
    "parameter inf": (_bad_parameter(math.inf), NON_FINITE),
    "advantage zero": (_zero_advantage, ZERO),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
@pytest.mark.parametrize("kind", ["gaussian", "categorical", "state_dependent_gaussian", "checked_gaussian"])
def test_faulty_input_ends_in_its_outcome(fault, kind):
    actor = make_actor(kind)
    batch = collect(actor, 16)
    poison, expected = FAULTS[fault]
    poison(actor, batch)
    _expect_rejection(actor, batch, TrustRegion(actor), expected)


def _expect_rejection(actor, batch, optimizer, expected) -> TrustRegionStep:
    before = flat_parameters(actor)
    step = optimizer.step(batch=batch)
    assert step.outcome is expected
    assert flat_parameters(actor).view(torch.int32).equal(before.view(torch.int32)), (
        "not bit for bit as before"
    )
    assert step.kl == step.kl_per_dimension == step.improvement == 0
    assert optimizer.param_groups[0]["outcomes"][expected.value] == 1
    return step


def test_singular_fisher():
    """A switch that is surely off, and a batch that says it was on: a gradient, but no curvature."""
    actor = bernoulli_actor(4, 2, ())
    actor.module[0].module[0].bias.data.fill_(-60.0)
    batch = TensorDict(
        {"observation": torch.randn(8, 4), "action": torch.ones(8, 2), "advantage": torch.ones(8)}, [8]
    )
    for damping in (0.0, 0.1):
        _expect_rejection(
            actor, batch, TrustRegion(actor, cg_damping=damping), TrustRegionOutcome.SINGULAR_CURVATURE
        )


def test_negative_curvature(monkeypatch):
    """Round-off that makes every product point backwards leaves no direction."""
    actor = make_actor("state_dependent_gaussian")
    monkeypatch.setattr("perturbrl.rl.fisher.ModuleLinearisation.fisher_product", lambda self, v: -v)
    optimizer = TrustRegion(actor, cg_damping=0.1)
    _expect_rejection(actor, collect(actor, 8), optimizer, TrustRegionOutcome.SINGULAR_CURVATURE)


def test_products_that_overflow(monkeypatch):
    actor = make_actor("state_dependent_gaussian")
    monkeypatch.setattr(
        "perturbrl.rl.fisher.ModuleLinearisation.fisher_product", lambda self, v: v * math.inf
    )
    _expect_rejection(actor, collect(actor, 8), TrustRegion(actor), TrustRegionOutcome.NON_FINITE)


def test_a_kl_that_no_trial_satisfies():
    """One trial at a radius where the quadratic model is far off."""
    actor = make_actor("gaussian")
    optimizer = TrustRegion(actor, max_kl=50.0, line_search_max_iter=1, cg_damping=1e-3)
    step = _expect_rejection(actor, collect(actor, 64), optimizer, TrustRegionOutcome.KL_EXCEEDED)
    assert step.backtracks == 1


def test_no_improvement():
    """Advantages that call every action bad as soon as the policy moves: the ratio's mean falls below one."""
    actor = make_actor("gaussian")
    batch = collect(actor, 64)
    optimizer = TrustRegion(actor, max_kl=0.5, cg_max_steps=1, precondition=False, line_search_max_iter=1)
    optimizer.processes = Processes(_FlipLast())
    _expect_rejection(actor, batch, optimizer, TrustRegionOutcome.NO_IMPROVEMENT)


class _FlipLast:
    """Stands for other ranks whose states lose what this rank's states win."""

    def __call__(self, total):
        is_trial = total.shape == (2,) and total.dtype is torch.float64 and float(total[1]) != 1.0
        return total * torch.tensor([0.01, -1.0], dtype=torch.float64) if is_trial else total


def test_trials_that_are_not_finite():
    """A radius so large that the deviation overflows."""
    actor = make_actor("gaussian")
    optimizer = TrustRegion(actor, max_kl=1e30, line_search_max_iter=2)
    step = _expect_rejection(actor, collect(actor, 16), optimizer, NON_FINITE)
    assert step.backtracks == 2


def test_no_states_at_all():
    actor = make_actor("gaussian")
    _expect_rejection(actor, collect(actor, 3)[:0], TrustRegion(actor), NON_FINITE)


@pytest.mark.parametrize("kind", sorted(ACTORS))
def test_a_batch_of_one(kind):
    actor = make_actor(kind)
    batch = collect(actor, 1)
    before = flat_parameters(actor)
    step = TrustRegion(actor, 0.01).step(batch=batch)
    assert step.outcome is TrustRegionOutcome.ACCEPTED
    assert step.kl <= 0.01
    assert not torch.equal(before, flat_parameters(actor))


def test_an_interrupted_trial_restores_the_parameters(monkeypatch):
    actor = make_actor("gaussian")
    batch, before = collect(actor, 16), flat_parameters(actor)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("perturbrl.rl.fisher.MLPLinearisation.current", interrupt)
    with pytest.raises(KeyboardInterrupt):
        TrustRegion(actor).step(batch=batch)
    assert torch.equal(before, flat_parameters(actor))


def test_steps_leave_the_checks_of_other_threads_alone(monkeypatch):
    """Another thread's invalid distribution raises at any moment of a step, also of one that meets NaN itself."""
    monkeypatch.setattr(Distribution, "_validate_args", True)  # importing torchrl turns them off
    done, missed, checks = threading.Event(), [], 0

    def check_until_done():
        nonlocal checks
        while not done.is_set():
            try:
                Normal(torch.zeros(1), -torch.ones(1))
                missed.append(checks)
            except ValueError:
                checks += 1

    thread = threading.Thread(target=check_until_done)
    thread.start()
    try:
        for actor in (make_actor("state_dependent_gaussian"), make_actor("checked_gaussian")):
            optimizer, batch = TrustRegion(actor), collect(actor, 256)
            outcomes = [optimizer.step(batch=batch).outcome for _ in range(5)]
            batch["observation"][0, 0] = math.nan
            outcomes.append(optimizer.step(batch=batch).outcome)
            assert outcomes == [TrustRegionOutcome.ACCEPTED] * 5 + [NON_FINITE]
    finally:
        done.set()
        thread.join()
    assert not missed
    assert checks > 0


def test_a_refused_trial_is_an_outcome_too():
    """A radius so large that the deviation, which is checked, overflows."""
    actor = make_actor("checked_gaussian")
    step = _expect_rejection(
        actor, collect(actor, 16), TrustRegion(actor, max_kl=1e38, line_search_max_iter=2), NON_FINITE
    )
    assert step.backtracks == 2


def test_an_actor_that_builds_no_distribution_says_why():
    """What is refused for other reasons than its values is no outcome."""

    def refuse(loc, scale):
        raise ValueError("nothing is right for me")

    actor = make_actor("checked_gaussian")
    batch = collect(actor, 8)
    broken = ProbabilisticActor(
        actor.module[0], in_keys=["loc", "scale"], distribution_class=refuse, return_log_prob=True
    )
    with pytest.raises(ValueError, match="nothing is right for me"):
        TrustRegion(broken).step(batch=batch)


def test_state_dict_round_trip(tmp_path):
    actor = make_actor("gaussian")
    optimizer = TrustRegion(actor, max_kl=0.03)
    for seed in range(3):
        optimizer.step(batch=collect(actor, 32, seed=seed))
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    other = TrustRegion(make_actor("gaussian"), max_kl=0.5)
    other.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    assert other.param_groups[0]["outcomes"] == optimizer.param_groups[0]["outcomes"]
    assert other.param_groups[0]["outcomes"]["accepted"] == 3
    assert other.param_groups[0]["max_kl"] == 0.03
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("max_kl", 0.0, "above 0"),
        ("cg_max_steps", 0, "above 0"),
        ("line_search_max_iter", -1, "above 0"),
        ("cg_damping", -0.1, "0 or more"),
        ("cg_damping", math.nan, "0 or more"),
        ("line_search_shrinking_factor", 1.0, "between 0 and 1"),
        ("kl_scaling", "half", "damped"),
    ],
)
def test_options_out_of_range_are_refused(option, value, advice):
    arguments = {"max_kl": 0.01, option: value}
    if option == "kl_scaling":
        pytest.importorskip("beartype")
        with pytest.raises(Exception, match="half"):
            TrustRegion(make_actor("gaussian"), **arguments)
        return
    with pytest.raises(ConfigurationError, match=f"{option} is .*{advice}"):
        TrustRegion(make_actor("gaussian"), **arguments)


def test_nothing_to_train_is_refused():
    actor = make_actor("gaussian").requires_grad_(False)
    with pytest.raises(ConfigurationError, match="no trainable parameter"):
        TrustRegion(actor)


@pytest.mark.parametrize("shape", [(8, 2), (4,)])
def test_advantage_of_another_shape_is_refused(shape):
    actor = make_actor("gaussian")
    batch = collect(actor, 8).exclude("advantage").to_dict()
    wrong = TensorDict({**batch}, [])
    wrong.batch_size = [8]
    if shape[0] == 8:
        wrong["advantage"] = torch.zeros(shape)
        with pytest.raises(ConfigurationError, match=r"advantage has shape \(8, 2\).*\(8,\)"):
            TrustRegion(actor).step(batch=wrong)
    else:
        with pytest.raises(ConfigurationError, match="no advantage"):
            TrustRegion(actor).step(batch=wrong)


class _Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.actor = make_actor("gaussian")
        self.steps, self.hooks = [], 0

    def configure_optimizers(self):
        return TrustRegion(self.actor)

    def on_before_optimizer_step(self, optimizer):
        self.hooks += 1

    def training_step(self, _):
        optimizer = self.optimizers()
        optimizer.optimizer.processes = Processes(
            lambda total: self.trainer.strategy.reduce(total, reduce_op="sum")
        )
        self.steps.append(optimizer.step(batch=collect(self.actor, 32, seed=self.global_step)))


def test_lightning_counts_the_steps_and_runs_its_hooks(tmp_path):
    module = _Module()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(range(3)))
    assert trainer.global_step == 3
    assert module.hooks == 3
    assert [step.outcome for step in module.steps] == [TrustRegionOutcome.ACCEPTED] * 3


def test_a_fixed_deviation_has_no_part_in_the_step():
    actor = make_actor("gaussian")
    actor.module[0].module.log_std.requires_grad_(False)
    before = actor.module[0].module.log_std.clone()
    step = TrustRegion(actor, 0.01).step(batch=collect(actor, 64))
    assert step.outcome is TrustRegionOutcome.ACCEPTED
    assert 0 < step.kl <= 0.01
    assert torch.equal(actor.module[0].module.log_std, before)


def test_a_curvature_beyond_the_largest_number_is_an_outcome():
    actor = make_actor("gaussian")
    actor.module[0].module.log_std.data.fill_(-45.0)
    before = flat_parameters(actor)
    step = TrustRegion(actor).step(batch=collect(actor, 16))
    assert step.outcome is TrustRegionOutcome.NON_FINITE
    assert torch.equal(before, flat_parameters(actor))
