"""A policy learns what is systematically left over, and is used then; what is not there is not learned."""

from functools import cache

import pytest
import torch
from smoke_run import quiet_trainer
from users_twin import PulledTwin

from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.envs.match_response import MatchResponse
from perturbrl.errors import ConfigurationError
from perturbrl.reporting.callback import ReportCallback, responding
from perturbrl.reporting.response_run import judged_run
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    SyntheticOptions,
    TrustRegionOptions,
)
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.base import EpisodeCells
from perturbrl.twins.corrected_kriging import CorrectedKriging
from perturbrl.twins.residual import ResidualTwin


class HalfWayTwin(ResidualTwin):
    """Cells measured under every condition are its start cells, moved on by half of the expected shift."""

    def episodes(self):
        found = super().episodes()
        goals = (self._on(cells) for cells in (found.start, found.deciding_start))
        return found._replace(goal=next(goals), deciding_goal=next(goals))

    def _on(self, cells):
        dose = torch.tensor([[0.5 / self.reach, 0.0]]).expand(len(cells), -1)
        return self.transition(cells, dose, torch.empty(len(cells), 0))


def trained(twin, schedule, iterations=25):
    data = PerturbationDataModule(
        synthetic=SyntheticOptions(n_perturbations=16, n_genes=60, n_combinations=0), encoder=PCAEncoder(4)
    )
    module = TwoStageModule(
        twin=twin,
        task=MatchResponse(),
        schedule=schedule,
        policy=PolicyOptions((16,), init_log_std=-1.5),
        rollout=RolloutOptions(n_cells=512),
        trust_region=TrustRegionOptions(max_kl=0.05, max_kl_annealing="cosine"),
        ppo=PPOOptions(minibatch_size=128, target_kl=0.02),
        critic=CriticOptions(minibatch_size=128),
    )
    trainer = quiet_trainer(iterations)
    trainer.fit(module, data)
    return module, trainer


@cache
def half_way(schedule):
    """Read by several tests."""
    return trained(HalfWayTwin(cells_per_condition=32), schedule)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "schedule",
    [
        "alternate",
        *(pytest.param(name, marks=SLOW) for name in ("ppo_only", "trust_region_only", "warm_start")),
    ],
)
def test_a_systematic_error_is_learned_and_taken_away(schedule):
    module, _ = half_way(schedule)
    decision = module.decision()
    assert decision.kept, decision.sentence
    assert decision.gain > 0.5


def test_a_policy_that_is_kept_stands_beside_kriging():
    module, trainer = half_way("alternate")
    module.trainer = trainer
    run = responding(module, 0)
    assert isinstance(run.used, CorrectedKriging)
    judged = judged_run(run, ()).report.judged
    assert {"kriging", "corrected_kriging"} <= set(judged.table["predictor"])
    means = {name: own["l2"].mean() for name, own in judged.table.groupby("predictor")}
    assert means["kriging"] != means["corrected_kriging"]


def test_where_nothing_is_left_over_the_start_is_kept():
    class Right(HalfWayTwin):
        def _on(self, cells):
            noise = torch.randn(cells.shape, generator=torch.Generator().manual_seed(0))
            noise[:, self.scale.shape[0] :] = 0
            return cells + 0.05 * noise

    module, trainer = trained(Right(cells_per_condition=32), "alternate")
    module.trainer = trainer
    assert not module.decision().kept
    assert responding(module, 0).used is module.twin.response


def doing(twin, along, apart):
    """What a policy of one dose does to cells."""

    def move(cells):
        dose = torch.tensor([[along, apart]]).expand(len(cells), -1)
        return twin.transition(cells, dose, torch.empty(len(cells), 0))

    return move


@pytest.mark.parametrize(("dose", "kept"), [((0.3, 0.0), True), ((0.0, 0.5), False), ((0.3, 0.5), True)])
def test_what_decides_is_what_is_used_of_a_policy(dose, kept):
    """The mean's movement: of a policy that only spreads cells nothing is used, however right it is."""

    class MovedAndSpread(HalfWayTwin):
        def _on(self, cells):
            return doing(self, 0.3, 0.5)(cells)

    module, _ = trained(MovedAndSpread(cells_per_condition=32), "alternate", iterations=1)
    module.move = doing(module.twin, *dose)
    decision = module.decision()
    assert decision.kept == kept, decision.sentence
    assert (decision.gain > 0.1) == kept
    if not kept:
        assert decision.gain == pytest.approx(0.0, abs=1e-4)


def test_a_twin_of_the_users_without_target_is_refused_before_it_is_trained():
    class OfItsOwn(PulledTwin):
        def episodes(self):
            cells = self.rest + torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
            none = cells[:0]
            return EpisodeCells(cells, cells + self.effects[0], cells, none, none, torch.empty(0).long())

    data = PerturbationDataModule(synthetic=SyntheticOptions(n_genes=60), encoder=PCAEncoder(4))
    module = TwoStageModule(OfItsOwn(), rollout=RolloutOptions(n_cells=32))
    steps = []
    module.on_train_epoch_start = lambda: steps.append(1)
    with pytest.raises(ConfigurationError, match="and OfItsOwn predicts no responses"):
        quiet_trainer(1, callbacks=[ReportCallback()]).fit(module, data)
    assert not steps
    quiet_trainer(1).fit(module, data)  # who asks for no report may train it
    assert steps
