"""A response twin goes through fit, test and predict, in several steps and with a price of what it does not know."""

import json
from pathlib import Path

import pytest
import yaml
from smoke_run import fit_in

from perturbrl.cli import run


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("response")
    content = {
        "model": {
            "twin": {"class_path": "perturbrl.twins.response.ResponseTwin", "init_args": {"n_members": 2}},
            "task": {
                "class_path": "perturbrl.envs.tasks.ReachCellState",
                "init_args": {"cost_uncertainty": 0.1},
            },
            "rollout": {"horizon": 2},
        },
        "data": {
            "target": "GENE0000+GENE0001",
            "max_perturbations": 2,
            "synthetic": {"n_combinations": 15, "cells_per_perturbation": 40},
            "encoder": {
                "class_path": "perturbrl.embeddings.pca.PCAEncoder",
                "init_args": {"latent_dim": 4},
            },
        },
    }
    (folder / "overlay.yaml").write_text(yaml.safe_dump(content))
    return fit_in(folder, f"--config={folder / 'overlay.yaml'}", "--trainer.max_epochs=1")


def again(command: str, folder: Path) -> None:
    """The command on the run, module and data module freshly built."""
    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    run([command, f"--config={folder / 'config.yaml'}", checkpoint])


def test_it_is_judged_beside_every_planner_that_needs_no_linear_twin(fitted: Path) -> None:
    again("test", fitted)
    metrics = json.loads((fitted / "report" / "metrics.json").read_text())
    assert {"policy", "nearest_perturbation", "greedy", "exhaustive", "mpc"} <= metrics["designs"].keys()
    assert not {"optimum", "nnls"} & metrics["designs"].keys()
    assert "twin" in {row["predictor"] for row in metrics["response"]}
    assert "measured" in (fitted / "report" / "hits.csv").read_text()
    assert "measured" in (fitted / "report" / "per_perturbation.csv").read_text()


def test_it_is_applied_to_cells(fitted: Path) -> None:
    again("predict", fitted)
    assert list(fitted.glob("predictions*.h5ad"))
