"""Cells reach the right part of the split, and nothing is learned from the others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from atlas import atlas

from perturbrl.data.splits import HeldOutCells
from perturbrl.data.synthetic import simulate_screen
from perturbrl.embeddings.autoencoder import AutoencoderEncoder
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import CheckpointError, ConfigurationError, DataError, LeakageError
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.goals import start_and_goal
from perturbrl.training.options import SyntheticOptions
from perturbrl.twins.gene_effect import GeneEffectTwin

TARGET = "GENE0000+GENE0001"


def screen(seed: int = 0, n_perturbations: int = 3):
    return simulate_screen(n_perturbations, 40, 60, 30, n_combinations=3, seed=seed)


def module(adata=None, **options) -> PerturbationDataModule:
    options = {"target": TARGET, "encoder": PCAEncoder(4), **options}
    return PerturbationDataModule.from_adata(screen() if adata is None else adata, **options)


def fitted(**options) -> PerturbationDataModule:
    data = module(**options)
    data.setup("fit")
    return data


def test_no_target_cell_is_trained_on_and_the_goal_never_judges() -> None:
    data = fitted()
    assert TARGET not in data.training_cells().labels
    assert len(data.rows(TARGET, "train")) == 0
    goal, judged = set(data.rows(TARGET, "goal")), set(data.rows(TARGET, "test"))
    assert goal
    assert judged
    assert not goal & judged
    assert goal | judged == set(data.rows(TARGET, "all"))


def test_what_may_be_dosed_may_be_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("GENE0002\nNOWHERE\nGENE0030\nGENE0001\n")
    data = fitted(allowed_perturbations=str(tmp_path / "names.txt"))
    cells = data.training_cells()
    assert cells.allowed == (
        "GENE0002",
        "GENE0030",
        "GENE0001",
    )  # a gene that was measured, but not perturbed
    twin = GeneEffectTwin().fit(cells, data.encoder)
    assert data.restrict(twin).names == ("GENE0002", "GENE0001")
    assert fitted().training_cells().allowed is None


def test_reference_cells_are_as_unseen_as_the_goal() -> None:
    data = fitted()
    reference = set(data.rows("control", "reference"))
    assert len(reference) == 10  # a fifth of the 48 that do not judge
    assert reference < set(data.rows("control", "train"))
    assert torch.equal(data.reference_cells(), data.cells("control", "reference"))
    assert fitted(reference_fraction=0.0).reference_cells().shape == (0, 4)


def test_genes_and_encoder_are_not_learned_from_reference_cells_and_the_twin_is() -> None:
    adata = screen()
    plain = fitted(adata=adata)
    changed = adata.copy()
    changed.X[plain.split.reference] = changed.X[plain.split.reference][:, ::-1]
    other = fitted(adata=changed)
    assert other.genes == plain.genes
    for name, value in plain.encoder.state_dict().items():
        torch.testing.assert_close(other.encoder.state_dict()[name], value, rtol=0, atol=0)
    assert not torch.equal(other.reference_cells(), plain.reference_cells())
    assert not torch.equal(other.training_cells().latent, plain.training_cells().latent)


def test_what_is_learned_does_not_change_when_held_out_cells_do() -> None:
    adata = screen()
    plain = fitted(adata=adata)
    held_out = np.setdiff1d(np.arange(adata.n_obs), plain.split.train)
    spoiled = adata.copy()
    dense = spoiled.X.toarray()
    dense[held_out] = np.random.default_rng(0).poisson(50, dense[held_out].shape)
    spoiled.X = dense
    other = fitted(adata=spoiled)
    assert plain.genes == other.genes
    assert torch.equal(plain.encoder.components, other.encoder.components)
    assert torch.equal(plain.training_cells().latent, other.training_cells().latent)


def test_the_order_of_a_combination_does_not_matter() -> None:
    assert fitted(target="GENE0001+GENE0000").target == TARGET


def test_state_comes_back_with_the_same_cells_and_genes() -> None:
    data = fitted()
    again = module()
    again.setup("test")
    again.load_state_dict(data.state_dict())
    assert again.genes == data.genes
    assert torch.equal(again.cells(TARGET, "test"), data.cells(TARGET, "test"))


def test_the_checkpoints_encoder_wins_where_the_options_still_fit_it() -> None:
    data = fitted()
    again = module(encoder=PCAEncoder(7))
    again.setup("test")
    again.load_state_dict(data.state_dict())
    assert again.encoder.latent_dim == 4
    assert again.cells(TARGET, "test").shape[1] == 4


def test_another_kind_of_encoder_than_the_checkpoints_is_refused() -> None:
    again = module(encoder=AutoencoderEncoder(4))
    again.setup("test")
    with pytest.raises(CheckpointError, match=r"encoder is PCAEncoder of 4 .* and AutoencoderEncoder as"):
        again.load_state_dict(fitted().state_dict())


def test_judging_needs_the_cells_of_the_checkpoint_but_predicting_does_not() -> None:
    state = fitted().state_dict()
    others = screen(seed=1)
    others.obs_names = [f"other{i}" for i in range(others.n_obs)]
    judging = module(adata=others)
    judging.setup("test")
    with pytest.raises(CheckpointError, match="trained on other cells"):
        judging.load_state_dict(state)
    predicting = module(adata=others)
    predicting.setup("predict")
    predicting.load_state_dict(state)
    assert predicting.target == TARGET


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"split": HeldOutCells(seed=7)}, r"holds other cells out \(data\.split"),
        ({"goal_fraction": 0.3}, r"holds other cells out .*goal_fraction"),
        ({"root": "control"}, r"orders its cells otherwise \(data\.time_key"),
        ({"n_top_genes": 20}, r"keeps other genes \(data\.n_top_genes\)"),
        ({"features": "features.csv"}, r"has other prior knowledge \(data\.gene_sets"),
    ],
)
def test_a_run_does_not_go_on_with_data_that_were_prepared_otherwise(option, message, tmp_path, monkeypatch):
    """A twin was fitted to them when the checkpoint is read: what it holds out may be what the twin has seen."""
    monkeypatch.chdir(tmp_path)
    Path("features.csv").write_text("name,a,b\nGENE0000,1,2\nGENE0001,2,1\n")
    state = fitted().state_dict()
    other = module(**option)
    other.setup("fit")
    with pytest.raises(CheckpointError, match=f"{message}.*without --ckpt_path"):
        other.load_state_dict(state)
    other.setup("test")
    other.load_state_dict(state)  # to judge, the checkpoint's hold
    assert other.split.to_dict() == state["split"]


def test_clear_errors() -> None:
    with pytest.raises(DataError, match="GENE0009"):
        fitted(target="GENE0009")
    with pytest.raises(ConfigurationError, match="source and target"):
        fitted(target="GENE0000", source="GENE0000")
    with pytest.raises(DataError, match="at least 2"):
        fitted(adata=simulate_screen(1, 40, 60, 30, n_combinations=0), target="GENE0000")
    with pytest.raises(ConfigurationError, match="synthetic"):
        PerturbationDataModule(path="x.h5ad", synthetic=SyntheticOptions())
    with pytest.raises(ConfigurationError, match=r"data\.reference 'b/\.\./x\.h5ad' is data\.path itself"):
        PerturbationDataModule(path="x.h5ad", reference="b/../x.h5ad")
    with pytest.raises(ConfigurationError, match=r"both data\.target 'A' and data\.queries"):
        PerturbationDataModule(target="A", queries=["B"])
    with pytest.raises(ConfigurationError, match="no cells are loaded"):
        PerturbationDataModule().rows("control", "all")
    empty = fitted(goal_fraction=0.5)
    with pytest.raises(DataError, match="train part"):
        empty.cells(TARGET, "train")


def test_an_encoder_needs_no_perturbation() -> None:
    controls = screen()
    controls = controls[controls.obs["perturbation"] == "control"].copy()
    data = fitted(adata=controls, target=None)
    assert data.encoder.encode(data.expression("control", "all")).shape[1] == 4


def single_target(cls=PerturbationDataModule, **options) -> PerturbationDataModule:
    return cls.from_adata(screen(), target="GENE0000", encoder=PCAEncoder(4), **options)


def test_combinations_with_the_target_teach_nothing() -> None:
    data = single_target()
    data.setup("fit")
    learned = {label for label in data.training_cells().labels if "GENE0000" in label.names}
    assert learned == set()
    assert any("GENE0000" in label.names for label in data.dataset.combinations)


class LeavesCombinationsIn(HeldOutCells):
    """What a user may write: only the target's own cells are held out."""

    def split(self, dataset, *args, **kwargs):
        split = super().split(dataset, *args, **kwargs)
        unused = [row for row in range(dataset.n_cells) if split.part_of(row) == "unused"]
        return replace(split, train=np.union1d(split.train, unused), held_out_perturbations=())


class LearnsFromTheGoal(PerturbationDataModule):
    def training_rows(self):
        return np.union1d(super().training_rows(), self.split.goal[:1])


class HandsOutTheGoal(PerturbationDataModule):
    def training_cells(self):
        cells = super().training_cells()
        return replace(cells, labels=("GENE0000+GENE0001", *cells.labels[1:]))


def test_a_leak_is_caught_where_genes_and_encoder_are_learned() -> None:
    with pytest.raises(LeakageError, match=r"cells under GENE0000\+GENE0001.* would be learned from"):
        single_target(split=LeavesCombinationsIn()).setup("fit")
    with pytest.raises(LeakageError, match=r"1 of \d+ cells to learn from are held out .*part goal"):
        single_target(LearnsFromTheGoal).setup("fit")


def test_a_leak_is_caught_where_the_twin_is_learned() -> None:
    data = single_target()
    data.setup("fit")
    data.training_rows = lambda: data.split.goal[:1]
    with pytest.raises(LeakageError, match="part goal"):
        start_and_goal(GeneEffectTwin(), data, torch.Generator())
    labels = single_target(HandsOutTheGoal)
    labels.setup("fit")
    with pytest.raises(LeakageError, match=r"cells under GENE0000\+GENE0001 would be learned from"):
        start_and_goal(GeneEffectTwin(), labels, torch.Generator())


def atlas_module(**options) -> PerturbationDataModule:
    options = {
        "target": "cell_type=red",
        "source": "cell_type=stem",
        "learn_target": True,
        "split": HeldOutCells(0.5),
        "encoder": PCAEncoder(4),
        **options,
    }
    return PerturbationDataModule.from_adata(atlas(), **options)


def test_an_atlas_is_learned_from_with_the_half_of_the_target_that_defines_the_goal() -> None:
    data = atlas_module()
    data.setup("fit")
    learned = data.training_cells()
    assert set(learned.labels) == {"control"}
    assert learned.contexts.count("red") == len(data.rows("cell_type=red", "goal")) == 15
    assert len(data.rows("cell_type=red", "test")) == 15
    changed = atlas_module()
    rows = data.split.test
    changed.adata.X[rows] = changed.adata.X[rows][:, ::-1]
    changed.setup("fit")
    assert torch.equal(changed.encoder.components, data.encoder.components)
    other = atlas_module()
    other.adata.X[data.split.goal] = other.adata.X[data.split.goal][:, ::-1]
    other.setup("fit")
    assert not torch.equal(other.encoder.components, data.encoder.components)


def test_an_atlas_comes_back_from_a_checkpoint_and_serves_to_predict() -> None:
    data = atlas_module()
    data.setup("fit")
    again = atlas_module()
    again.setup("test")
    again.load_state_dict(data.state_dict())
    assert torch.equal(again.cells(again.target, "test"), data.cells("cell_type=red", "test"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"learn_target": False}, DataError, "no perturbation labels recognised"),
        ({"source": "control"}, ConfigurationError, "source 'control' has all 30 cells of target"),
        ({"source": "cell_type=rod"}, DataError, r"no cell has cell_type 'rod'; did you mean red\?"),
        ({"target": "rde"}, DataError, r"'rde' is no cell type.*did you mean cell_type=red\?"),
        ({"split": HeldOutCells(0.0)}, DataError, "is in the half that judges"),
    ],
)
def test_populations_that_cannot_be_meant(options, error, message) -> None:
    with pytest.raises(error, match=message):
        atlas_module(**options).setup("fit")
