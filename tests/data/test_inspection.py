import os
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from atlas import atlas
from places import measured_file
from rich.console import Console

from perturbrl.data.inspection import Inspection, inspect_dataset
from perturbrl.data.presets import ColumnOptions
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import DataError


@pytest.fixture
def screen() -> AnnData:
    return simulate_screen(3, 20, 40, 25, 1)


def inspect(adata: AnnData, folder: Path, **options: str) -> Inspection:
    adata.write_h5ad(folder / "my screen.h5ad")
    return inspect_dataset(folder / "my screen.h5ad", ColumnOptions(**options))


def text(inspection: Inspection) -> str:
    return "\n".join(inspection.lines())


def rendered(inspection: Inspection) -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(inspection)
    return console.export_text()


def test_a_good_file_has_no_problems_and_says_what_to_run(screen: AnnData, tmp_path: Path) -> None:
    found = inspect(screen, tmp_path)
    assert (found.n_cells, found.n_genes, found.control_cells) == (140, 20, 40)
    assert found.value_kind == "counts"
    assert found.problems == ()
    pair = screen.uns["true_effect_labels"][3]
    assert found.perturbations == dict.fromkeys(sorted(screen.uns["true_effect_labels"]), 25)
    command = f"--data.path '{tmp_path / 'my screen.h5ad'}' --data.target \"{pair}\""
    assert command in found.uses[-1]
    assert "perturbrl fit --config configs/response.yaml" in found.uses[1]
    for shown in (text(found), rendered(found)):
        for fact in (
            "my screen.h5ad, 140 cells x 20 genes",
            "raw counts",
            "preset scperturb",
            "'control', 40 cells",
        ):
            assert fact in shown
        assert "3 single, 1 combinations" in shown
        assert "3 of 3 perturbed names are genes of the file" in shown


def test_a_file_of_combinations_alone_is_told_what_doses_them(tmp_path: Path) -> None:
    screen = simulate_screen(3, 20, 40, 25, 3)
    labels = screen.obs["perturbation"].astype(str)
    found = inspect(screen[(labels == "control") | labels.str.contains("+", regex=False)].copy(), tmp_path)
    assert found.uses[-1].endswith(" --model.twin GeneEffectTwin --model.twin.combinations true")


def test_problems_are_said(screen: AnnData, tmp_path: Path) -> None:
    screen.var_names = [f"OTHER{i}" for i in range(20)]
    counts = screen.X.toarray()
    counts[:, :2] = 0
    screen.X = counts
    controls = np.flatnonzero(screen.obs["perturbation"] == "control")
    few = np.flatnonzero(screen.obs["perturbation"] == "GENE0001")
    small = screen[np.setdiff1d(np.arange(140), np.concatenate([controls[5:], few[3:]]))].copy()
    problems = "\n".join(inspect(small, tmp_path).problems)
    assert "1 perturbations have fewer than 20 cells: GENE0001" in problems
    assert "only 5 control cells" in problems
    assert "2 of 20 genes are 0 in every cell" in problems
    assert "no perturbed name is a gene of the file" in problems


def test_a_covariate_that_goes_with_the_perturbation_is_said(screen: AnnData, tmp_path: Path) -> None:
    control = screen.obs["perturbation"] == "control"
    screen.obs["batch"] = np.where(control, "day1", "day2")
    found = inspect(screen, tmp_path)
    assert (
        "no control cells at batch day2: what batch does cannot be told from what the perturbation does"
        in found.problems
    )
    assert "only control cells at batch day1: no response was measured there" in found.problems
    assert found.covariates == {"batch": {"day2": 100, "day1": 40}}
    screen.obs["batch"] = ["day1", "day2"] * 70
    assert not inspect(screen, tmp_path).problems


def test_labels_that_nobody_recognises_are_a_problem_unless_they_were_asked_for(
    screen: AnnData, tmp_path: Path
) -> None:
    screen.obs = screen.obs.rename(columns={"perturbation": "guide"})
    found = inspect(screen, tmp_path)
    assert found.fields.perturbation_key is None
    assert "no perturbation labels recognised" in found.problems[0]
    assert "none recognised" in text(found)
    assert "none recognised" in rendered(found)
    with pytest.raises(DataError, match="expected gears"):
        inspect(screen, tmp_path, preset="gears")
    assert inspect(screen, tmp_path, perturbation_key="guide").control_cells == 40


def test_only_control_cells(screen: AnnData, tmp_path: Path) -> None:
    found = inspect(screen[screen.obs["perturbation"] == "control"].copy(), tmp_path)
    assert found.problems[0].startswith("no cell was perturbed")
    assert [use.split(":")[1].split(",")[0].strip() for use in found.uses] == [
        *("yes", "no", "no", "no", "yes", "no")
    ]


def test_other_measurements_are_listed_and_embeddings_are_not(screen: AnnData, tmp_path: Path) -> None:
    screen.obsm["ATAC"] = np.ones((140, 7))
    screen.obsm["X_umap"] = np.ones((140, 2))
    assert inspect(screen, tmp_path).modalities == ("obsm['ATAC'], 7 columns",)


def test_a_counts_layer_is_named_as_the_source(screen: AnnData, tmp_path: Path) -> None:
    screen.layers["counts"] = screen.X.copy()
    screen.X = np.log1p(screen.X)
    found = inspect(screen, tmp_path)
    assert (found.value_kind, found.value_source) == ("counts", "layers['counts']")


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        inspect_dataset(tmp_path / "nowhere.h5ad")


def test_a_large_screen_shows_its_largest_and_smallest_perturbations(tmp_path: Path) -> None:
    screen = simulate_screen(70, 70, 20, 3, 0)
    first = np.flatnonzero(screen.obs["perturbation"] == "GENE0035")
    found = inspect(screen[np.setdiff1d(np.arange(230), first[1:])].copy(), tmp_path)
    shown = [line.split() for line in found.lines() if line.endswith(" cells") and line.startswith("  ")]
    assert len(found.perturbations) == 70
    assert len(shown) == 61
    assert shown[-1][:2] == ["GENE0035", "1"]
    assert shown[30] == ["...", "10", "more", "between,", "in", "all", "208", "cells"]
    assert "GENE0035" in rendered(found)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "facts"),
    [
        (
            "norman2019_k562_crispra",
            ["17 single, 11 combinations", '--data.target "KLF1+MAP2K6"', "258 of 500 genes"],
        ),
        ("papalexi2021_thp1_eccite", ["22 single", "replicate", "obs['n_umis_full']", "JAK2", "none"]),
        ("kang2018_pbmc_ifnb", ["only control cells at cell_type NK", "CD4T (634)", "there are 1"]),
        ("cao2018_a549_dex_rna_atac", ["no control cells at time_h 1 and 3", "obsm['ATAC'], 5,000 columns"]),
        (
            "mimitou2019_pbmc_citeseq",
            ["none recognised", "healthy PBMC", "obsm['protein_counts'], 49 columns"],
        ),
        (
            "paul2015_myeloid_trajectory",
            ["no cell was perturbed", "SB19 (1,981)", "obs['pseudotime'], pseudotime"],
        ),
    ],
)
def test_published_files(file: str, facts: list[str]) -> None:
    path = measured_file(f"{file}.h5ad")
    shown = text(inspect_dataset(path))
    assert all(fact in shown for fact in facts)


def test_doses_are_listed_and_a_dose_of_zero_is_said(screen: AnnData, tmp_path: Path) -> None:
    labels = screen.obs["perturbation"].astype(str)
    dose = np.where(labels == "GENE0000", np.arange(140) % 3, 5)
    pairs = labels.str.contains("+", regex=False)
    screen.obs["dose"] = np.where(pairs, "5+5", dose.astype(str))
    found = inspect(screen, tmp_path)
    assert {"GENE0000:1", "GENE0000:2", "GENE0001"} < set(found.perturbations)
    zero = int((dose[~pairs] == 0).sum())
    assert found.control_cells == 40 + zero
    assert f"{zero} cells are named by a perturbation at dose 0 and count as control" in found.problems
    facts = [line for line in found.lines() if line.startswith("doses:")]
    assert [line.split(maxsplit=1)[1] for line in facts] == ["GENE0000 at 1, 2, 5"]


def test_an_atlas_without_perturbations_is_good_for_a_landscape(tmp_path: Path) -> None:
    found = inspect(atlas(30), tmp_path)
    assert "none recognised: without any, cells count as untreated" in text(found)
    landscape = next(use for use in found.uses if use.startswith("landscape"))
    assert landscape.startswith(
        "landscape: yes, ordered by obs['day'], for example perturbrl fit --config configs/"
    )
    assert "--data.source cell_type=red --data.target cell_type=stem" in landscape
    assert "--data.root" not in landscape


def order_of(adata: AnnData, folder: Path) -> str:
    line = next(line for line in inspect(adata, folder).lines() if line.startswith("order of cells"))
    return line.split(":", 1)[1].strip()


def test_what_orders_the_cells_is_said_or_what_to_give(tmp_path: Path) -> None:
    assert order_of(atlas(20, day=[0, 1, 2] * 20), tmp_path) == "obs['day'], 3 time points (0, 1 and 2)"
    place = np.linspace(0, 1, 60)
    unplain = atlas(20, pseudotime=place)
    del unplain.obs["day"]
    assert order_of(unplain, tmp_path) == "obs['pseudotime'], pseudotime"
    assert (
        order_of(atlas(20, day=["d0", "d1", "d2"] * 20, pseudotime=place), tmp_path)
        == "obs['pseudotime'], pseudotime (obs['day'] holds text such as 'd0', 'd1' and 'd2', no numbers)"
    )
    once = atlas(20, time=4)
    del once.obs["day"]
    said = order_of(once, tmp_path)
    assert said.startswith(
        "nothing orders the cells: all 60 cells to learn from have obs['time'] 4; give data.time_key"
    )


@pytest.mark.parametrize(
    ("controls_of", "said"),
    [
        (
            ("red", "stem"),
            "yes, ordered by obs['day'], for example perturbrl fit --config configs/joint.yaml",
        ),
        (("stem",), "no, it needs two types of control cells of at least 8 cells and there are 1"),
    ],
)
def test_a_screen_of_an_ordered_atlas_supports_both_halves_joined(
    tmp_path: Path, controls_of: tuple[str, ...], said: str
) -> None:
    adata = atlas(60, day=[0, 1, 2] * 60)
    labels = np.array(["A", "B"] * 90, dtype=object)
    labels[adata.obs["cell_type"].isin(controls_of).to_numpy() & (np.arange(180) % 2 == 0)] = "control"
    adata.obs["perturbation"] = labels
    joint = next(use for use in inspect(adata, tmp_path).uses if use.startswith("joint"))
    assert joint.startswith(f"joint (landscape and measured effects): {said}")
    assert ("--data.source cell_type=red,perturbation=control" in joint) == (len(controls_of) == 2)


def test_the_example_leads_to_cells_that_are_late(tmp_path: Path) -> None:
    adata = atlas(30)
    adata.obs["day"] = (adata.obs["cell_type"] != "stem").astype(float)
    landscape = next(use for use in inspect(adata, tmp_path).uses if use.startswith("landscape"))
    assert "--data.source cell_type=white --data.target cell_type=red" in landscape


def test_what_a_landscape_lacks_is_said(tmp_path: Path) -> None:
    unordered = atlas(30)
    del unordered.obs["day"]
    assert "--data.root cell_type=white" in "".join(inspect(unordered, tmp_path).uses)
    untyped = unordered.copy()
    del untyped.obs["cell_type"]
    assert any(
        use.startswith("landscape: no, the file does not say the type")
        for use in inspect(untyped, tmp_path).uses
    )
    assert any(
        use.startswith("landscape: no, it needs two cell types of at least 8 cells")
        for use in inspect(atlas(3), tmp_path).uses
    )


def test_a_screen_without_control_is_good_for_nothing_yet(screen: AnnData, tmp_path: Path) -> None:
    found = inspect(screen[screen.obs["perturbation"] != "control"].copy(), tmp_path)
    assert found.fields is None
    assert found.uses[0].startswith("nothing until the labels are known")
