"""What a policy that chooses knows of its choices, and how far its first exploring leads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from linear_twin import linear_twin
from smoke_run import build, quiet_trainer, weights

from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.simulation import PolicyDesign, simulate
from perturbrl.planning.greedy import GreedyDesign
from perturbrl.planning.planners import NoOpDesign
from perturbrl.reporting.callback import design_problem
from perturbrl.rl.policies import GaussianMLP
from perturbrl.rl.scored_choice import ChoiceScores
from perturbrl.training.choices import ChoiceTable, n_features, sharpness, way_to_goal
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import PolicyOptions, RolloutOptions, StageSchedule
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.gene_effect import GeneEffectTwin

EFFECTS = torch.tensor([[0.5, 0.0], [1.0, 3.0], [0.0, 1.0], [1.0, -3.0], [0.0, -0.2]])
SHIFT = torch.tensor([2.0, 0.0])
CHOOSES = ("--model.policy.kind=choices", "--data.max_perturbations=2")


def aimed(**prices: float) -> tuple[GeneEffectTwin, ReachCellState]:
    twin, task = linear_twin(EFFECTS, low=-1.0), ReachCellState(**prices)
    task.aim(twin.start_cells, twin.start_cells + SHIFT)
    return twin, task


def filled(exploration: float = 0.5, **prices: float) -> tuple[ChoiceTable, ChoiceScores]:
    twin, task = aimed(**prices)
    menu = twin.perturbations.menu(2)
    scores = ChoiceScores(4, 2, menu.n_actions, n_features(2), 5, 5, (4,))
    table = ChoiceTable.of(twin, task, menu, 0)
    table.fill(scores, way_to_goal(twin, task), exploration)
    return table, scores


def test_the_table_says_where_each_choice_brings_cells_and_what_it_costs() -> None:
    table, _ = filled(cost_l1=0.1, cost_per_perturbation=0.3)
    half_up, up, half_down, down = (0.5 * EFFECTS, EFFECTS, -0.5 * EFFECTS, -EFFECTS)
    expected = torch.cat((torch.zeros(1, 2), half_up, up, half_down, down))
    torch.testing.assert_close(table.shifts, expected)
    doses = torch.tensor([0.0, *[0.5] * 5, *[1.0] * 5, *[0.5] * 5, *[1.0] * 5])
    torch.testing.assert_close(table.doses, doses)
    torch.testing.assert_close(table.prices, 0.1 * doses + 0.3 * (doses > 0))
    assert not table.spread.any()


def test_a_choice_promises_the_way_that_it_shortens_less_its_price() -> None:
    table, scores = filled(cost_per_perturbation=0.05)
    way = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    used = torch.zeros(2, 5, dtype=torch.bool)
    used[1, 2] = True
    gains = scores.gains(way, used)
    for cell, choice in np.ndindex(*gains.shape):
        before, after = way[cell].norm(), (way[cell] - table.shifts[choice]).norm()
        expected = (before - after) / 2 - table.prices[choice]
        if cell == 1 and choice in (3, 8, 13, 18):  # both doses of the one received, up and down
            assert gains[cell, choice] == -torch.inf
        else:
            torch.testing.assert_close(gains[cell, choice], expected)


def test_who_has_received_all_that_is_allowed_can_only_stop() -> None:
    _, scores = filled()
    scores.most_used = 2
    gains = scores.gains(torch.ones(1, 2), torch.tensor([[True, False, True, False, False]]))
    assert gains[0, 0] == 0
    assert bool((gains[0, 1:] == -torch.inf).all())


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 3000), st.floats(0.05, 0.95), st.integers(0, 99))
def test_exploring_gives_up_the_same_share_of_five_choices_and_of_thousands(
    n: int, share: float, seed: int
) -> None:
    gains = torch.randn(4, n, generator=torch.Generator().manual_seed(seed)).cumsum(0).abs() / 10
    gains[:, 0] = 0
    best = gains.amax(1).mean()
    uniform = gains.mean(1).mean()
    expected = ((sharpness(gains, share) * gains).softmax(1) * gains).sum(1).mean()
    # Choosing evenly may give up less than that.
    torch.testing.assert_close(expected, torch.maximum((1 - share) * best, uniform), rtol=1e-3, atol=1e-4)


def test_where_nothing_gains_exploring_is_left_as_it_is() -> None:
    assert float(sharpness(torch.tensor([[0.0, -1.0, -2.0]]), 0.5)) == 1.0


def test_what_completes_the_best_is_kept_though_it_leads_nowhere_alone() -> None:
    effects = torch.tensor([[1.0, 1.0], [0.9, 0.8], [0.8, 0.8], [1.0, -1.0], [0.0, 0.01], [0.01, 0.0]])
    twin, task = linear_twin(effects), ReachCellState()
    task.aim(twin.start_cells, twin.start_cells + torch.tensor([2.0, 0.3]))
    table = ChoiceTable.of(twin, task, twin.perturbations.menu(1), 0)
    way = way_to_goal(twin, task)
    alone = (way.mean(0) - table.shifts).norm(dim=1).argsort()[:3]
    assert 4 not in alone.tolist()
    kept = table.promising(way, 4)
    assert 4 in kept.tolist()
    assert len(kept) == 4
    assert 0 not in kept.tolist()


def test_the_deviation_of_doses_is_lowered_to_what_exploring_may_lead_to() -> None:
    twin, task = aimed()
    table, way = ChoiceTable.of(twin, task, twin.perturbations.menu(1), 0), way_to_goal(twin, task)
    wide, narrow = (GaussianMLP(4, torch.zeros(5), torch.ones(5), (4,), log_std) for log_std in (1.0, -6.0))
    table.limit(wide, way, 0.25)
    table.limit(narrow, way, 0.25)
    led = (EFFECTS * wide.log_std.detach().exp()[:, None]).norm() / 2.0
    torch.testing.assert_close(led, torch.tensor(0.25))
    assert bool((narrow.log_std == -6.0).all())


def test_the_first_policy_is_the_greedy_planner() -> None:
    twin = "--model.twin=perturbrl.twins.response.ResponseTwin"
    built = build(*CHOOSES, twin, "--data.synthetic.n_perturbations=9", "--model.policy.dose_levels=8")
    quiet_trainer(1, limit_train_batches=0).fit(built.model, built.data)
    with torch.no_grad():
        built.model.actor.module[0].module.trunk[-1].weight.zero_()
    problem, start = design_problem(built.model), built.model.twin.start_cells[:20]
    planners = PolicyDesign(built.model.actor, menu=built.model.menu), GreedyDesign(), NoOpDesign()
    assert all(planner.plan(problem) for planner in planners)
    mine, theirs, none = (simulate(problem, planner, start) for planner in planners)
    left, least, whole = (
        float(problem.task.distance(done.final, problem.task.goal_state(done.start)).mean())
        for done in (mine, theirs, none)
    )
    assert left <= least + 0.02 * whole
    assert least < 0.95 * whole


class OnTwoDimensions(TwoStageModule):
    """A module whose first perturbation is best alone, while the two others, each bad alone, lead all the way."""

    def _aim(self, data: PerturbationDataModule) -> None:
        effects = torch.tensor([[1.2, 0.0], [1.0, 1.5], [1.0, -1.5], [0.0, 0.3], [0.1, 0.1]])
        self.twin, self._fitted_to = linear_twin(effects), data
        self.goal_cells = self.twin.start_cells + SHIFT
        self.task.aim(self.twin.start_cells, self.goal_cells)
        self.space = self.twin.perturbations.restrict(max_perturbations=2)

    def left(self) -> float:
        """Share of the way that its best choices leave."""
        policy = PolicyDesign(self.actor, menu=self.menu)
        done = simulate(design_problem(self), policy, self.twin.start_cells)
        return float(self.task.distance(done.final, self.twin.start_cells + SHIFT).mean())


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["alternate", "trust_region_only", "ppo_only"])
def test_it_learns_where_the_greedy_choice_is_wrong(schedule: StageSchedule) -> None:
    module = OnTwoDimensions(
        GeneEffectTwin(),
        ReachCellState(),
        schedule,
        policy=PolicyOptions(kind="choices", hidden_sizes=(32,), dose_levels=1),
        rollout=RolloutOptions(n_cells=512, horizon=2),
    )
    data = build().data
    quiet_trainer(1, limit_train_batches=0).fit(module, data)
    assert module.left() == pytest.approx(0.4, abs=0.06)
    quiet_trainer(40).fit(module, data)
    assert module.left() < 0.05


def test_a_policy_that_chooses_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    built = build(*CHOOSES)
    saver = ModelCheckpoint(tmp_path, filename="last")
    quiet_trainer(2, enable_checkpointing=True, callbacks=[saver]).fit(built.model, built.data)
    again = build(*CHOOSES)
    quiet_trainer(1).test(again.model, again.data, ckpt_path=tmp_path / "last.ckpt", verbose=False)
    assert np.array_equal(weights(again), weights(built))
    n, width = 7, built.model._observation_dim
    seen = torch.randn(n, width), torch.randn(n, 5), torch.rand(n, 5) < 0.3
    one, other = (model.actor.module[0].module(*seen) for model in (built.model, again.model))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_more_perturbations_than_steps_are_refused() -> None:
    built = build("--model.policy.kind=choices", "--data.max_perturbations=3")
    with pytest.raises(ConfigurationError, match=r"max_perturbations is 3; give as many steps .*horizon 3"):
        quiet_trainer(1).fit(built.model, built.data)


def test_the_number_of_weights_does_not_depend_on_how_many_there_are() -> None:
    few, many = (ChoiceScores(30, 5, 1 + n, n_features(5), n, 3, (16,)) for n in (5, 20_000))
    count = [sum(p.numel() for p in scores.parameters()) for scores in (few, many)]
    assert count[0] == count[1]
