"""An iteration's metrics and the line that shows them."""

from dataclasses import replace

from perturbrl.rl.outcomes import TrustRegionOutcome, TrustRegionStep
from perturbrl.rl.ppo_kl import PPOKLResult
from perturbrl.training.iteration import Iteration, iteration_line, outcome_column, outcome_in, short_line

DONE = Iteration(
    mean_return=0.5,
    natural_step=TrustRegionStep(TrustRegionOutcome.KL_EXCEEDED, kl=0.01, cg_steps=3),
    ppo=PPOKLResult(steps=0, stopped=True, reverted=False, kl=0.02, entropy=1.5),
    critic_error=0.25,
    kl_coef=2.0,
    learning_rate=1e-3,
    frames_per_second=12345.0,
)


def test_every_field_becomes_a_number_under_its_stage() -> None:
    metrics = DONE.metrics()
    assert metrics["trust_region/kl"] == 0.01
    outcomes = {outcome.value: metrics[f"trust_region/{outcome.value}"] for outcome in TrustRegionOutcome}
    assert outcomes == dict.fromkeys(outcomes, 0.0) | {"kl_exceeded": 1.0}
    assert metrics["trust_region/cg_steps"] == 3
    assert metrics["ppo/stopped"] == 1.0
    assert metrics["ppo/kl_coef"] == 2.0
    assert metrics["critic/error"] == 0.25


def test_a_line_says_what_both_stages_did() -> None:
    line = iteration_line(DONE.metrics())
    assert "return +0.500" in line
    assert "natural step kl_exceeded at KL 0.010" in line
    assert "PPO 0 steps to KL 0.020" in line
    assert "12,345 frames/s" in line


def test_an_ablation_shows_only_its_stage() -> None:
    only_ppo = {name: value for name, value in DONE.metrics().items() if not name.startswith("trust_region")}
    assert "natural step" not in iteration_line(only_ppo)


def test_the_short_line_has_everything_and_fits_beside_a_bar() -> None:
    line = short_line(DONE.metrics())
    assert line == "return +0.500, KL 0.01 0.02 kl_exceeded, β 2, 12,345 frames/s"
    only_ppo = {name: value for name, value in DONE.metrics().items() if not name.startswith("trust_region")}
    assert short_line(only_ppo) == "return +0.500, KL 0.02, β 2, 12,345 frames/s"


def test_an_outcome_is_read_back_by_its_name() -> None:
    for outcome in TrustRegionOutcome:
        row = replace(DONE, natural_step=TrustRegionStep(outcome)).metrics()
        assert outcome_in(row) is outcome
        assert f"natural step {outcome.value}" in iteration_line(row)
        assert outcome.value in short_line(row)
        assert not {column for column in row if column.startswith("trust_region/")} & {"trust_region/outcome"}
    assert outcome_in(replace(DONE, natural_step=None).metrics()) is None
    known = DONE.metrics() | {"trust_region/an_outcome_of_tomorrow": 1.0}
    assert outcome_in(known) is TrustRegionOutcome.KL_EXCEEDED
    del known[outcome_column(TrustRegionOutcome.SINGULAR_CURVATURE)]
    assert outcome_in(known) is TrustRegionOutcome.KL_EXCEEDED
