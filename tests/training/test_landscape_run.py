"""A landscape in training: names that tables call otherwise, and a price on what members disagree about."""

from pathlib import Path

import torch
from landscape_run import SOURCE, TARGET, landscape_data, landscape_module
from smoke_run import quiet_trainer

from perturbrl.envs.tasks import ReachCellState
from perturbrl.evaluation.simulation import PolicyDesign, simulate
from perturbrl.reporting.callback import judged_of, unseen_cells
from perturbrl.training.options import RolloutOptions
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.landscape import LandscapeTwin


def test_a_table_of_regulators_is_read_by_the_names_that_are_meant(tmp_path: Path) -> None:
    data = landscape_data()
    data.setup("fit")
    genes = data.genes
    (tmp_path / "regulators.csv").write_text(
        "tf,target,mor\n" + "".join(f"boss,{gene.upper()}x,1\n" for gene in genes[:6])
    )
    (tmp_path / "aliases.csv").write_text("".join(f"{gene.upper()}x,{gene}\n" for gene in genes))
    module = landscape_module()
    module.twin = LandscapeTwin(str(tmp_path / "regulators.csv"), n_members=2, cells_per_component=15)
    data = landscape_data(
        aliases=str(tmp_path / "aliases.csv"), allowed_perturbations=["boss", genes[0], genes[1]]
    )
    quiet_trainer(1).fit(module, data)
    told = dict(zip(module.twin.perturbations.names, module.twin.evidence, strict=True))
    assert told["boss"] == "regulators"


def test_disagreement_of_members_has_its_price() -> None:
    returns = {}
    for price in (0.0, 5.0):
        module = TwoStageModule(
            twin=LandscapeTwin(n_members=3, judging_members=1, cells_per_component=15),
            task=ReachCellState(goal="centroid", cost_uncertainty=price),
            rollout=RolloutOptions(n_cells=32, horizon=2, settle=True, restart_fraction=0.25),
        )
        quiet_trainer(1).fit(module, landscape_data())
        returns[price] = float(module.trainer.callback_metrics["return"])
        assert module.twin.accounts == (price > 0)
        judged = judged_of(module)
        found = simulate(judged.problem, PolicyDesign(module.actor), unseen_cells(module).start)
        assert found.path.shape[2] == found.final.shape[1] == module.twin.place_dim
        assert bool(torch.isfinite(found.final).all())
    assert returns[5.0] < returns[0.0]
    assert (judged.source, judged.target) == (SOURCE, TARGET)
