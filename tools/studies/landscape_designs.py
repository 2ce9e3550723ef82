"""Paul 2015: which two factors turn one mature type into another, and who finds them.

Designs are made on members of an ensemble that one half of the cells taught. They are judged on a landscape that the
other half taught, with start cells of that half, after dosing has stopped and cells have settled.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer
from quiet import quiet_trainer
from rich.console import Console
from rich.table import Table

from perturbrl.data.reading import read_cells
from perturbrl.data.splits import HeldOutCells
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.design import MADE_ON
from perturbrl.evaluation.simulation import simulate
from perturbrl.planning.cross_entropy import CrossEntropySearch
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.differential_expression import DifferentialExpressionDesign
from perturbrl.planning.exhaustive import ExhaustiveSearch
from perturbrl.planning.greedy import GreedyDesign
from perturbrl.planning.planners import NoOpDesign, RandomDesign
from perturbrl.reporting.callback import design_problem, policy_design
from perturbrl.reporting.judging_twins import judging_problems
from perturbrl.reporting.report_tables import OTHER_HALF
from perturbrl.schema import Population
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    StageSchedule,
    TrustRegionOptions,
)
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.landscape import LandscapeTwin
from studies.landscape_drivers import factors

FILE: Final = "paul2015_myeloid_trajectory.h5ad"
DIRECTIONS: Final = (("Monocytes", "Erythrocyte"), ("Erythrocyte", "Monocytes"))
SCHEDULES: Final[tuple[StageSchedule, ...]] = ("alternate", "trust_region_only", "ppo_only")
HORIZON: Final = 4
SHORTER: Final = (1, 2)
ITERATIONS: Final = 60
N_CELLS: Final = 512
N_CANDIDATES: Final = 12
ENOUGH: Final = 0.9
FEWEST_CELLS: Final = 20
TARGET_LEFT_ALONE: Final = "target_left_alone"
_LOOKS: Final = 5
_SEEN: Final = 128
RECIPES: Final = ("exhaustive", "cem", "greedy", "differential_expression")


class KeptLandscape(LandscapeTwin):
    """A landscape that is learned once, for all schedules of a seed."""

    def fit(self, cells: EncodedCells, encoder: Encoder) -> "KeptLandscape":
        """Learn, unless it has."""
        return self if len(self.pushes) else super().fit(cells, encoder)


@dataclass(frozen=True, eq=False)
class Setting:
    """One direction and draw of the cells.

    Attributes:
        source: type that cells are of.
        target: type that they should become.
        seed: of the split, the landscape and the policies.
        twin: learned, for all policies.
        data: cells.
    """

    source: str
    target: str
    seed: int
    twin: KeptLandscape
    data: PerturbationDataModule


class FramesToEnough(Callback):
    """Frames after which so many training cells arrive for the first time; nan where they never do."""

    def __init__(self) -> None:
        self.frames = float("nan")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look every few iterations."""
        assert isinstance(pl_module, TwoStageModule)
        iteration = trainer.current_epoch + 1
        if iteration % _LOOKS or self.frames == self.frames:
            return
        problem = design_problem(pl_module)
        done = simulate(problem, policy_design(pl_module), problem.twin.start_cells[:_SEEN])
        if float(done.success.float().mean()) >= ENOUGH:
            self.frames = float(iteration * pl_module.rollout.n_cells * pl_module.rollout.horizon)


def rows(folder: Path, seeds: int) -> dict[str, object]:
    """The keys of this part."""
    found = [
        row
        for source, target in DIRECTIONS
        for seed in range(seeds)
        for row in one_setting(folder, source, target, seed)
    ]
    table = pd.DataFrame(found)
    _print(table)
    return keys(table)


def keys(table: pd.DataFrame) -> dict[str, object]:
    """Means over seeds, and where a policy beats every fixed recipe."""
    success, frames, ahead = {}, {}, {}
    for direction, own in table.groupby("direction", sort=False):
        full = own[own["horizon"] == HORIZON]
        success[str(direction)] = full.groupby("design", sort=False)["success"].mean().round(3).to_dict()
        reached = full[full["design"].isin(SCHEDULES)].groupby("design", sort=False)["frames_to_90"]
        frames[str(direction)] = {
            str(design): {
                "median": None if runs.isna().all() else int(runs.median()),
                "of": len(runs),
                "reached": int(runs.notna().sum()),
            }
            for design, runs in reached
        }
        ahead[str(direction)] = {str(horizon): round(_lead(at), 3) for horizon, at in own.groupby("horizon")}
    return {"success": success, "frames_to_90": frames, "policy_ahead_of_recipes": ahead}


def _lead(table: pd.DataFrame) -> float:
    """Mean over seeds of a policy's success less that of the recipe that is best where designs are made."""
    leads = []
    for _, own in table.groupby("seed"):
        recipes = own[own["design"].isin(RECIPES)].sort_values("success_made_on")
        policy = own[own["design"] == "alternate"]
        leads.append(float(policy["success"].iloc[0]) - float(recipes["success"].iloc[-1]))
    return sum(leads) / len(leads)


def one_setting(folder: Path, source: str, target: str, seed: int) -> list[dict[str, object]]:
    """Every method at the full horizon; policy and recipes at shorter ones."""
    setting = _setting(folder, source, target, seed)
    found = []
    for horizon in (HORIZON, *SHORTER):
        judge: DesignProblem | None = None
        for schedule in SCHEDULES if horizon == HORIZON else SCHEDULES[:1]:
            module, frames = _trained(setting, schedule, horizon)
            problem = design_problem(module)
            if judge is None:
                judge = _judge(problem, setting)
                found += _baselines(setting, problem, judge)
            own = _row(setting, policy_design(module, schedule), problem, judge)
            found.append(own | {"frames_to_90": frames})
    return found


def _setting(folder: Path, source: str, target: str, seed: int) -> Setting:
    adata = read_cells(folder / FILE)
    # A factor seen in a few cells may not vary in one half, where nothing would tell what it does.
    seen = np.asarray((adata.X > 0).sum(axis=0)).ravel()
    measured = set(adata.var_names[seen >= FEWEST_CELLS])
    data = PerturbationDataModule(
        path=str(folder / FILE),
        source=f"cell_type={source}",
        target=f"cell_type={target}",
        learn_target=True,
        split=HeldOutCells(0.5, seed=seed),
        n_top_genes=None,
        encoder=PCAEncoder(20),
        allowed_perturbations=[name for name in factors(folder) if name in measured],
        max_perturbations=2,
        pseudotime_key="pseudotime",
    )
    data.setup("fit")
    twin = KeptLandscape(n_members=4, judging_members=1, seed=seed)
    return Setting(source, target, seed, twin, data)


def _trained(setting: Setting, schedule: StageSchedule, horizon: int) -> tuple[TwoStageModule, float]:
    """The same help for every schedule: candidates tried alone, and pay for where cells come to rest."""
    module = TwoStageModule(
        twin=setting.twin,
        task=ReachCellState(goal="centroid", cost_l1=0.005, arrival=1.0),
        schedule=schedule,
        policy=PolicyOptions(normalise_observations=True),
        rollout=RolloutOptions(n_cells=N_CELLS, horizon=horizon, settle=True),
        trust_region=TrustRegionOptions(max_kl=0.3),
        ppo=PPOOptions(minibatch_size=512),
        critic=CriticOptions(minibatch_size=512),
        seed=setting.seed,
        n_candidates=N_CANDIDATES,
    )
    reached = FramesToEnough()
    trainer = quiet_trainer(ITERATIONS, callbacks=[reached])
    trainer.fit(module, setting.data)
    return module, reached.frames


def _judge(problem: DesignProblem, setting: Setting) -> DesignProblem:
    """The same problem on a landscape that the other half teaches."""
    untaught = LandscapeTwin(n_members=3, seed=setting.seed)
    untaught.start_from(problem.twin.start_cells)
    every = setting.data.restrict(setting.twin)
    judge = judging_problems(replace(problem, twin=untaught, space=every), setting.data)[OTHER_HALF]
    return replace(judge, space=judge.space.restrict(problem.space.names))


def _baselines(setting: Setting, problem: DesignProblem, judge: DesignProblem) -> list[dict[str, object]]:
    """Searches among the policy's candidates; what searches nothing, among all factors."""
    data = setting.data
    sides = data.expression(data.source, "train"), data.expression(str(data.target), "goal")
    every = data.restrict(setting.twin)
    own = judge.twin.perturbations.restrict(every.names, max_perturbations=every.max_perturbations)
    among_all = replace(problem, space=every), replace(judge, space=own)
    simple = (
        NoOpDesign(),
        RandomDesign(),
        DifferentialExpressionDesign(*sides, tuple(data.genes)),
        GreedyDesign(),
    )
    searches = (CrossEntropySearch(10, 400), ExhaustiveSearch())
    return [
        _undosed_target(setting, *among_all),
        *(_row(setting, planner, *among_all) for planner in simple),
        *(_row(setting, planner, problem, judge) for planner in searches),
    ]


def _undosed_target(setting: Setting, problem: DesignProblem, judge: DesignProblem) -> dict[str, object]:
    """What cells of the target keep when nobody doses them: as much as a design could reach."""
    cells = setting.data.cells(str(setting.data.target), "test")
    return _row(setting, NoOpDesign(), problem, judge, cells) | {"design": TARGET_LEFT_ALONE}


def _row(
    setting: Setting,
    planner: Planner,
    problem: DesignProblem,
    judge: DesignProblem,
    start: Population | None = None,
) -> dict[str, object]:
    """Success of a design from cells of the source, or from others."""
    if not planner.plan(problem):
        raise ConfigurationError(f"'{planner.name}' cannot treat the problem; leave it out of the study")
    start = setting.data.cells(setting.data.source, "test") if start is None else start
    done = {"success_made_on": simulate(problem, planner, start), "success": simulate(judge, planner, start)}
    doses = done["success"].doses
    strength = doses.sum(1).mean(0)
    named = [problem.space.names[i] for i in strength.abs().argsort(descending=True)[:2].tolist()]
    signs = ["+" if strength[problem.space.names.index(name)] > 0 else "-" for name in named]
    return {
        "direction": f"{setting.source} to {setting.target}",
        "seed": setting.seed,
        "horizon": problem.horizon,
        "design": planner.name,
        **{name: _arrived(own.success) for name, own in done.items()},
        "dose": float(doses.abs().sum((1, 2)).mean()),
        "dosed": " ".join(sign + name for sign, name in zip(signs, named, strict=True)),
        "frames_to_90": float("nan"),
    }


def _arrived(success: torch.Tensor) -> float:
    return float(success.float().mean())


def _print(table: pd.DataFrame) -> None:
    means = table.groupby(["direction", "horizon", "design"], sort=False)
    shown = Table(
        "direction", "actions", "design", f"{MADE_ON}, %", "other half, %", "dose", "dosed (seed 0)"
    )
    for (direction, horizon, design), own in means:
        shares = [100 * own[name].mean() for name in ("success_made_on", "success")]
        shown.add_row(
            str(direction),
            str(horizon),
            str(design),
            *(f"{share:.0f}" for share in shares),
            f"{own['dose'].mean():.1f}",
            str(own["dosed"].iloc[0]),
        )
    Console(width=160).print(shown)
