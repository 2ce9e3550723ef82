"""The Python call is the same path as the commands."""

from inspect import signature
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from landscape_run import SOURCE, TARGET, landscape_module, ordered_atlas
from places import CONFIGS, measured_file
from renamed_screen import renamed_screen

import perturbrl
from perturbrl.cli import parse_config
from perturbrl.data.synthetic import simulate_screen
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import ConfigurationError
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import RolloutOptions
from perturbrl.training.saved_data import PRIOR_FILES
from perturbrl.training.shipped_models import (
    LANDSCAPE_ITERATIONS,
    SCREEN_ITERATIONS,
    TOP_GENES,
    landscape_model,
    screen_encoder,
    screen_model,
)
from perturbrl.training.two_stage import TwoStageModule


def test_design_returns_a_written_report(tmp_path: Path) -> None:
    adata = simulate_screen(3, 40, 60, 30, n_combinations=1)
    target = next(label for label in adata.obs["perturbation"].unique() if "+" in label)
    report = perturbrl.design(
        adata,
        target,
        model=TwoStageModule(),
        max_epochs=2,
        folder=tmp_path,
        encoder=PCAEncoder(4),
        max_perturbations=2,
    )
    assert report.folder == tmp_path / "design" / "version_0" / "report"
    assert (report.folder / "report.html").is_file()
    assert len(report.hits) == 3
    assert report.evaluation is not None
    assert report.evaluation.target == target


def test_results_go_where_a_key_says(tmp_path: Path) -> None:
    adata = simulate_screen(3, 40, 60, 30, n_combinations=1)
    given = {"model": TwoStageModule(), "max_epochs": 1, "folder": tmp_path, "encoder": PCAEncoder(4)}
    report = perturbrl.design(adata, "GENE0000", key_added="towards", **given)
    assert adata.uns["towards"]["answer"] == report.answer
    assert adata.uns["towards"]["folder"] == str(report.folder)
    assert adata.obsm["X_towards"].shape == (adata.n_obs, 4)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    found = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert list(found.uns["towards"]["guides"].columns) == list(report.to_frame("guides").columns)
    np.testing.assert_array_equal(found.obsm["X_towards"], adata.obsm["X_towards"])


def test_without_a_key_cells_stay_as_they_are(tmp_path: Path) -> None:
    adata = simulate_screen(3, 40, 60, 30, n_combinations=1)
    perturbrl.design(
        adata, "GENE0000", model=TwoStageModule(), max_epochs=1, folder=tmp_path, encoder=PCAEncoder(4)
    )
    assert set(adata.uns) == {"true_effect_labels"}
    assert not len(adata.obsm)


@pytest.mark.realdata
def test_control_cells_as_the_target_are_answered_with_nothing(tmp_path: Path) -> None:
    """Papalexi 2021: 300 control cells called a knock-out; of ten such draws one has p below 5 %, and not this one."""
    adata = anndata.read_h5ad(measured_file("papalexi2021_thp1_eccite.h5ad"))
    labels = adata.obs["perturbation"].astype(str).to_numpy()
    controls = np.random.default_rng(1).permutation(np.flatnonzero(labels == "control"))
    labels[controls[:300]] = "NULL"
    adata.obs["perturbation"] = labels
    kept = adata[np.isin(labels, ["control", "NULL", "STAT1", "IRF1", "CAV1", "SMAD4"])].copy()
    report = perturbrl.design(kept, "NULL", max_epochs=2, folder=tmp_path)
    assert report.answer.startswith("No effect is detectable, so doing nothing is the right design")
    assert report.guides.empty
    assert {hit.share_of_cells for hit in report.hits} == {0.0}


def test_perturbations_with_a_plus_in_their_names_are_dosed_and_judged(tmp_path: Path) -> None:
    adata = renamed_screen({"GENE0000": "(+)-JQ1", "GENE0001": "Ca2+"})
    report = perturbrl.design(
        adata, "Ca2++(+)-JQ1", model=TwoStageModule(), max_epochs=1, folder=tmp_path, encoder=PCAEncoder(4)
    )
    assert {hit.perturbation for hit in report.hits} == {"(+)-JQ1", "Ca2+", "GENE0002"}
    assert report.evaluation is not None
    assert report.evaluation.target == "(+)-JQ1+Ca2+"
    assert max(row.recall for row in report.evaluation.rows) == 1.0
    assert "twin" in set(report.response["predictor"])


def test_a_dose_is_a_target_and_other_doses_of_it_are_learned_from(tmp_path: Path) -> None:
    adata = renamed_screen({"GENE0000": "dex", "GENE0001": "C18:1"}, n_combinations=0)
    adata.obs["dose"] = np.where(
        adata.obs["perturbation"] == "dex", np.arange(adata.n_obs) % 3 * 4.5 + 1, 2.0
    )
    model = TwoStageModule()
    report = perturbrl.design(
        adata, "dex:5.50", model=model, max_epochs=1, folder=tmp_path, encoder=PCAEncoder(4)
    )
    assert report.evaluation is not None
    assert report.evaluation.target == "dex:5.5"
    assert model.twin.perturbations.names == ("C18:1", "GENE0002", "dex")
    assert model.twin.perturbations.measured_doses == ((), (), (1.0, 10.0))
    assert report.question["measured doses"] == "dex at 1, 10 (10 is dose 1)"
    assert all(row.gap >= 0 for row in report.evaluation.rows)
    assert "twin" in set(report.response["predictor"])
    with pytest.raises(
        perturbrl.PerturbRLError,
        match=r"'dex' is none of the doses measured; choose one of dex:1, dex:5.5 and dex:10",
    ):
        perturbrl.design(adata, "dex", model=TwoStageModule(), folder=tmp_path)


def test_errors_are_the_same_as_the_commands(tmp_path: Path) -> None:
    with pytest.raises(perturbrl.PerturbRLError, match="NOT_THERE"):
        perturbrl.design(simulate_screen(3, 40, 60, 30, n_combinations=1), "NOT_THERE", folder=tmp_path)


def test_the_default_model_is_that_of_the_configuration() -> None:
    built = parse_config([f"--config={CONFIGS / 'gene_screen.yaml'}"])
    ours, theirs = screen_model(), built.model
    assert vars(screen_encoder())["whiten"] is vars(built.data.encoder)["whiten"] is True
    assert screen_encoder().latent_dim == built.data.encoder.latent_dim
    for options in ("rollout", "trust_region", "ppo", "critic_options", "schedule", "n_candidates"):
        assert getattr(ours, options) == getattr(theirs, options), options
    assert type(ours.twin) is type(theirs.twin)
    assert list(ours.policy.hidden_sizes) == list(theirs.policy.hidden_sizes)
    assert ours.task.cost_per_perturbation == theirs.task.cost_per_perturbation > 0
    for option in ("kind", "exploration", "dose_levels", "init_log_std"):
        assert getattr(ours.policy, option) == getattr(theirs.policy, option), option


def test_a_mistyped_option_is_named_with_the_closest() -> None:
    adata = simulate_screen(3, 40, 60, 30, n_combinations=1)
    with pytest.raises(
        perturbrl.PerturbRLError, match="no option 'max_perturbation'; did you mean 'max_perturbations'"
    ):
        perturbrl.design(adata, "GENE0000", max_perturbation=2)
    with pytest.raises(
        perturbrl.PerturbRLError, match="respond has no option 'geneset'; did you mean 'gene_sets'"
    ):
        perturbrl.respond(adata, ["GENE0000"], geneset="x.gmt")


def test_the_landscape_model_is_that_of_the_configuration() -> None:
    ours, theirs = landscape_model(), parse_config([f"--config={CONFIGS / 'landscape.yaml'}"]).model
    for name in ("schedule", "n_candidates", "rollout", "trust_region", "ppo", "critic_options"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert list(ours.policy.hidden_sizes) == list(theirs.policy.hidden_sizes)
    assert ours.policy.init_log_std == theirs.policy.init_log_std
    assert ours.policy.normalise_observations == theirs.policy.normalise_observations
    for name in ("goal", "cost_l1", "success"):
        assert getattr(ours.task, name) == getattr(theirs.task, name), name
    assert (ours.twin.n_members, ours.twin.judging_members) == (
        theirs.twin.n_members,
        theirs.twin.judging_members,
    )


class Enough(Exception):
    """Before anything is trained."""


@pytest.mark.parametrize(
    ("config", "target", "iterations", "genes"),
    [
        ("landscape", TARGET, LANDSCAPE_ITERATIONS, None),
        ("gene_screen", "GENE0000", SCREEN_ITERATIONS, TOP_GENES),
    ],
)
def test_what_is_not_given_is_as_in_the_configuration(
    config: str, target: str, iterations: int, genes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = parse_config([f"--config={CONFIGS / f'{config}.yaml'}"])
    told: dict[str, object] = {}

    def trained(module: object, data: PerturbationDataModule, max_epochs: int, folder: object) -> None:
        told.update(genes=data.preprocessor.n_top_genes, iterations=max_epochs)
        raise Enough

    monkeypatch.setattr("perturbrl.api._trained_and_judged", trained)
    adata = ordered_atlas() if config == "landscape" else simulate_screen(3, 40, 60, 30, n_combinations=0)
    source = SOURCE if config == "landscape" else "control"
    with pytest.raises(Enough):
        perturbrl.design(adata, target, source=source)
    assert (told["genes"], told["iterations"]) == (genes, iterations)
    assert theirs.data.preprocessor.n_top_genes == genes
    assert yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())["trainer"]["max_epochs"] == iterations
    with pytest.raises(Enough):
        perturbrl.design(adata, target, source=source, n_top_genes="all")
    assert told["genes"] is None


def test_a_cell_type_by_its_name_alone_is_reached_on_a_landscape(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[PerturbationDataModule] = []

    def trained(module: object, data: PerturbationDataModule, max_epochs: int, folder: object) -> None:
        asked.append(data)
        raise Enough

    monkeypatch.setattr("perturbrl.api._trained_and_judged", trained)
    with pytest.raises(Enough):
        perturbrl.design(ordered_atlas(), "red", source="white", encoder=PCAEncoder(4))
    assert asked[0].learn_target
    asked[0].setup("fit")
    assert (asked[0].source, asked[0].target) == (SOURCE, TARGET)


def test_a_cell_type_as_target_is_reached_on_a_landscape(tmp_path: Path) -> None:
    adata = ordered_atlas()
    report = perturbrl.design(
        adata,
        source=SOURCE,
        target=TARGET,
        max_perturbations=2,
        encoder=PCAEncoder(4),
        model=landscape_module(),
        max_epochs=1,
        folder=tmp_path,
    )
    assert report.question["digital twin"] == "LandscapeTwin"
    assert set(report.evaluation.arrived["policy"]) == {
        *("made on", "members kept back", "learned from the other half")
    }
    with pytest.raises(ConfigurationError, match="source 'control' has all 60 cells of target"):
        perturbrl.design(adata, TARGET, folder=tmp_path)


def test_options_are_those_of_the_data_module() -> None:
    """Whoever reads ``help(perturbrl.design)`` sees every option of its data, with the same default.

    What only responses are asked by is an option of ``perturbrl.respond``. How many genes are kept depends on the
    kind of design, see above.
    """
    ours, theirs, asking = (
        signature(call).parameters for call in (perturbrl.design, PerturbationDataModule, perturbrl.respond)
    )
    elsewhere = {"path", "synthetic", "target"}  # the AnnData, and the target that has to be given
    of_responses = {"queries", *PRIOR_FILES}
    for name in set(theirs) - elsewhere - of_responses:
        assert name == "n_top_genes" or ours[name].default == theirs[name].default, name
        assert f"        {name}: " in (perturbrl.design.__doc__ or ""), name
    for name in of_responses:
        assert name not in ours, name
        assert name in asking, name
        assert f"        {name}: " in (perturbrl.respond.__doc__ or ""), name


def test_the_seed_is_heeded_where_a_model_is_given(tmp_path: Path) -> None:
    adata = simulate_screen(3, 40, 60, 30, n_combinations=1)
    weights = []
    for i, seed in enumerate((1, 1, 2)):
        model = TwoStageModule(rollout=RolloutOptions(n_cells=32))
        perturbrl.design(
            adata,
            "GENE0000",
            model=model,
            max_epochs=1,
            folder=tmp_path / str(i),
            encoder=PCAEncoder(4),
            seed=seed,
        )
        weights.append(torch.cat([p.detach().flatten() for p in model.actor.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_text_is_one_name() -> None:
    """It is a sequence of letters, too, which nobody means."""
    adata = simulate_screen(3, 40, 60, 30, n_combinations=1)
    assert list(perturbrl.respond(adata, "GENE0000").evidence) == ["measured"]
    with pytest.raises(perturbrl.PerturbRLError, match=r"\['GENE'\]"):
        perturbrl.design(adata, "GENE0000", allowed_perturbations="GENE")


def test_columns_are_a_plain_dict_or_options() -> None:
    adata = simulate_screen(3, 40, 60, 30, n_combinations=1)
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2, "T", "B")
    named, options = (
        perturbrl.respond(adata, "GENE0000", columns=columns).delta
        for columns in ({"cell_type_key": "kind"}, perturbrl.ColumnOptions(cell_type_key="kind"))
    )
    assert list(named.index) == ["GENE0000@B", "GENE0000@T"]
    np.testing.assert_array_equal(named, options)
    wrong = r"columns has no key 'celltype_key'; did you mean 'cell_type_key'\?"
    for call in (perturbrl.respond, perturbrl.design):
        with pytest.raises(perturbrl.PerturbRLError, match=wrong):
            call(adata, "GENE0000", columns={"celltype_key": "kind"})


def test_wrong_types_and_no_question_are_errors_of_the_user() -> None:
    adata = simulate_screen(3, 40, 60, 30, n_combinations=1)
    with pytest.raises(perturbrl.PerturbRLError, match="adata is str, not AnnData; read the file with"):
        perturbrl.design("screen.h5ad", "GENE0000")  # type: ignore[arg-type]
    with pytest.raises(perturbrl.PerturbRLError, match="columns is str, not ColumnOptions or Mapping; give"):
        perturbrl.respond(adata, ["GENE0000"], columns="kind")  # type: ignore[arg-type]
    for nothing in ([], "", np.array([])):
        with pytest.raises(perturbrl.PerturbRLError, match="queries is empty"):
            perturbrl.respond(adata, nothing)
    with pytest.raises(
        perturbrl.PerturbRLError, match="queries is NoneType, not str or Collection; name the"
    ):
        perturbrl.respond(adata, None)  # type: ignore[arg-type]
    with pytest.raises(perturbrl.PerturbRLError, match=r"queries holds 1, of type int; give names as text"):
        perturbrl.respond(adata, [1])  # type: ignore[list-item]
    with pytest.raises(perturbrl.PerturbRLError, match=r"n_cells is -1; give 0 for none, or how many"):
        perturbrl.respond(adata, "GENE0000", n_cells=-1)


def test_queries_are_an_array_or_a_column_too() -> None:
    adata = simulate_screen(3, 40, 60, 30, n_combinations=1)
    for queries in (np.array(["GENE0000", "GENE0001"]), pd.Index(["GENE0000", "GENE0001"])):
        assert list(perturbrl.respond(adata, queries).evidence) == ["measured", "measured"]
