"""Small trained modules and what judging them leaves behind, made once per process."""

from functools import cache

import numpy as np
from anndata import AnnData
from smoke_run import build, quiet_trainer

from perturbrl.cli import Built
from perturbrl.data.synthetic import simulate_screen
from perturbrl.reporting.callback import cells_to_dose, judged_of, unseen_cells
from perturbrl.reporting.judge import Finished, judge, predict
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.two_stage import TwoStageModule

PAIR = "GENE0000+GENE0001"
SCREEN = ("--data.synthetic.n_combinations=15", "--data.synthetic.cells_per_perturbation=40")


def fitted(built: Built, epochs: int = 2) -> Built:
    quiet_trainer(epochs).fit(built.model, built.data)
    return built


@cache
def trained() -> Built:
    """On counts, aiming at a pair whose two parts may be dosed."""
    return fitted(build(*SCREEN, f"--data.target={PAIR}"))


@cache
def trained_on_nothing() -> Built:
    """On a screen without any effect, with so many genes that components fit noise."""
    return fitted(
        build(
            "--data.synthetic={n_perturbations: 4, n_genes: 2000, n_control: 120, cells_per_perturbation: 100, "
            "n_combinations: 0, effect_size: 0}",
            "--data.encoder.init_args.latent_dim=20",
        ),
        1,
    )


def judge_module(module: TwoStageModule, **options: object) -> Finished:
    return judge(judged_of(module), unseen_cells(module), **options)


def predict_with(module: TwoStageModule) -> Finished:
    return predict(judged_of(module), cells_to_dose(module))


@cache
def judged() -> Finished:
    return judge_module(trained().model)


@cache
def trained_on_logs() -> Built:
    """On log values with pseudotime and cell types, aiming at a single perturbation that may not be dosed."""
    screen = simulate_screen(6, 60, 60, 40, n_combinations=0)
    counts = screen.X.toarray()
    logs = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    rng = np.random.default_rng(0)
    obs = screen.obs.assign(
        pseudotime=rng.random(screen.n_obs), cell_type=rng.choice(["B", "T"], screen.n_obs)
    )
    built = build()
    data = PerturbationDataModule.from_adata(
        AnnData(logs, obs, screen.var), "GENE0000", encoder=built.data.encoder
    )
    return fitted(Built(built.model, data, 1), 1)
