"""What a user sees whose source, target or factors cannot be meant: one sentence, exit 2."""

import numpy as np
import pytest
from atlas import atlas
from places import CONFIGS
from refused import the_one_sentence

SOURCE, TARGET = "--data.source=cell_type=white", "--data.target=cell_type=red"
# Each with the sentence's parts.
BAD = {
    "a cell type of one cell": (
        ("--data.source=cell_type=lone", TARGET),
        ("none of the 1 cells of 'cell_type=lone' is in the half that judges", "choose a population of more"),
    ),
    "a target of one cell": (
        (SOURCE, "--data.target=cell_type=lone"),
        ("'cell_type=lone' has 1 cell; a target needs one to define the goal and one to judge",),
    ),
    "no cell that judges": (
        (SOURCE, TARGET, "--data.split.init_args.test_fraction=0"),
        ("is in the half that judges; change data.split.test_fraction",),
    ),
    "no source": (
        (TARGET,),
        ("source 'control' has all 30 cells of target 'cell_type=red'", "such as cell_type="),
    ),
    "a source inside the target": (
        ("--data.source=cell_type=red,day=1", TARGET),
        ("source 'cell_type=red,day=1' has 15 of the 30 cells of target 'cell_type=red'", "choose a source"),
    ),
    "one population": ((SOURCE, "--data.target=cell_type=white"), ("source and target are both",)),
    "an unknown column": (
        (SOURCE, "--data.target=celltyp=red"),
        ("the cells have no column 'celltyp'; did you mean cell_type?",),
    ),
    "an unknown value": (
        (SOURCE, "--data.target=cell_type=Redd"),
        ("no cell has cell_type 'Redd'; did you mean red?",),
    ),
    "a type without its column, misspelt": ((SOURCE, "--data.target=rde"), ("did you mean cell_type=red?",)),
    "half a query": ((SOURCE, "--data.target=cell_type="), ("is no query of cells; write column=value",)),
    "factors that are not measured": (
        (SOURCE, TARGET, "--data.allowed_perturbations=[Gene1,Gata1]"),
        ("nothing tells what Gata1 would do to these cells", "leave it out"),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_population_that_cannot_be_meant_is_one_sentence_and_exit_2(tmp_path, monkeypatch, capsys, name):
    options, expected = BAD[name]
    adata = atlas(30)
    adata.obs["cell_type"] = np.where(np.arange(90) == 0, "lone", adata.obs["cell_type"])
    adata.write_h5ad(tmp_path / "atlas.h5ad")
    command = [
        *("fit", f"--config={CONFIGS / 'landscape.yaml'}", f"--data.path={tmp_path}/atlas.h5ad"),
        *("--trainer.max_epochs=1", "--data.encoder.init_args.latent_dim=4"),
        *(f"--trainer.logger.init_args.save_dir={tmp_path}", *options),
    ]
    said = the_one_sentence(monkeypatch, capsys, *command)
    assert all(piece in said for piece in expected), said
