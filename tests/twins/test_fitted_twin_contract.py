"""A user's twin that is fitted on cells goes through fit, test and predict, with every shipped encoder."""

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
import yaml
from smoke_run import fit_in
from users_twin import PulledTwin

from perturbrl.cli import run
from perturbrl.data.synthetic import simulate_screen
from perturbrl.embeddings.autoencoder import AutoencoderEncoder
from perturbrl.embeddings.pca import PCAEncoder

ENCODERS = {
    "components": ("perturbrl.embeddings.pca.PCAEncoder", {"latent_dim": 4}),
    "autoencoder": (
        "perturbrl.embeddings.autoencoder.AutoencoderEncoder",
        {"latent_dim": 3, "hidden_sizes": [16], "max_epochs": 5},
    ),
}


def overlay(folder: Path, encoder: str, **twin: object) -> str:
    class_path, options = ENCODERS[encoder]
    content = {
        "model": {"twin": {"class_path": "users_twin.PulledTwin", "init_args": twin}},
        "data": {"target": "GENE0000+GENE0001", "encoder": {"class_path": class_path, "init_args": options}},
    }
    content["data"]["synthetic"] = {"n_combinations": 15, "cells_per_perturbation": 40}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overlay.yaml").write_text(yaml.safe_dump(content))
    return f"--config={folder / 'overlay.yaml'}"


@pytest.fixture(scope="module", params=ENCODERS)
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return fit_in(folder, overlay(folder, request.param), "--trainer.max_epochs=1")


def again(command: str, folder: Path, *options: str) -> None:
    """The command on the run, module and data module freshly built."""
    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    run([command, f"--config={folder / 'config.yaml'}", checkpoint, *options])


def decoded(folder: Path, adata: anndata.AnnData) -> np.ndarray:
    """What the saved encoder makes of the saved cell states."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    saved = content["PerturbationDataModule"]["encoder"]["state"]
    encoder = AutoencoderEncoder(3, (16,)) if any("weight" in name for name in saved) else PCAEncoder(4)
    encoder.load_state_dict(saved)
    return encoder.decode(torch.from_numpy(adata.obsm["X_latent"])).clamp_min(0).numpy()


def test_it_is_judged_and_its_cells_have_genes(fitted: Path) -> None:
    again("test", fitted)
    metrics = json.loads((fitted / "report" / "metrics.json").read_text())
    assert {"policy", "twin"} <= {row["predictor"] for row in metrics["response"]}
    predictions = anndata.read_h5ad(fitted / "predictions.h5ad")
    assert list(predictions.var_names[:2]) == ["GENE0000", "GENE0001"]
    assert predictions.n_vars == 60
    assert np.allclose(predictions.X, decoded(fitted, predictions), atol=1e-5)
    assert predictions.X.std() > 0


def test_it_is_applied_to_the_same_and_to_new_cells(fitted: Path, tmp_path: Path) -> None:
    again("predict", fitted)
    simulate_screen(6, 60, 50, 20, seed=4).write_h5ad(tmp_path / "new.h5ad")
    again("predict", fitted, f"--data.path={tmp_path / 'new.h5ad'}", "--data.synthetic=null")
    found = sorted(fitted.glob("predictions*.h5ad"), key=lambda path: path.stat().st_mtime)[-2:]
    same, new = (anndata.read_h5ad(path) for path in found)
    assert (same.n_obs, new.n_obs) == (2 * 60, 2 * 50)
    assert np.allclose(new.X, decoded(fitted, new), atol=1e-5)


def test_the_encoder_is_saved_once(fitted: Path) -> None:
    content = torch.load(fitted / "checkpoints" / "last.ckpt", weights_only=True)
    assert not [name for name in content["state_dict"] if "encoder" in name or "decoder" in name]
    assert "mean" in content["PerturbationDataModule"]["encoder"]["state"]


def test_what_its_perturbations_are_comes_back(tmp_path: Path) -> None:
    run_folder = fit_in(tmp_path, overlay(tmp_path, "components", discrete=True), "--trainer.max_epochs=1")
    again("test", run_folder)
    designs = json.loads((run_folder / "report" / "metrics.json").read_text())["designs"]
    assert {"policy", "no_op", "random", "greedy"} <= designs.keys()


def test_an_encoder_stored_by_its_user_is_no_second_one() -> None:
    twin, encoder = PulledTwin(), PCAEncoder(2).fit(torch.rand(9, 5))
    twin.encoder = twin.mine = encoder
    assert not [name for name in twin.state_dict() if "components" in name]
    assert torch.equal(twin.expression(torch.zeros(1, 2)), encoder.mean[None])
    twin.to("meta")
    assert encoder.components.device.type == "meta"
