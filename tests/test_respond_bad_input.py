"""What a user sees when something about a response run is wrong: one sentence with value, cause and remedy, exit 2."""

import sys

import anndata
import numpy as np
import pytest
from places import CONFIGS

from perturbrl.cli import main
from perturbrl.data.synthetic import simulate_screen

FILES = {
    "comma.gmt": "A,B,C\n",
    "mouse.gmt": "a\tx\tGata1\tSpi1\tCebpa\n",
    "ensembl.gmt": "a\tx\tENSG00000115415\tENSG00000096968\tENSG00000027697\n",
    "words.csv": "a,b,w\nGENE0000,GENE0001,strong\n",
    "pairs.sif": "GENE0000 GENE0001\n",
    "holes.csv": "gene,x\nGENE0000,1\nGENE0001,\n",
    "text.csv": "gene,x\nGENE0000,1\nGENE0001,high\n",
    "lower.gmt": "a\tx\tgene0000\tgene0001\tgene0002\n",
    "silent.csv": "GENE0000,GENE0001,0\nGENE0002,GENE0003,0\n",
    "header.csv": "gene,x\n",
}
OF_FILES = {
    "comma.gmt": ("gene_sets", "'comma.gmt' is no GMT file: line 1 ('A,B,C')", "on every line"),
    "mouse.gmt": ("gene_sets", "'mouse.gmt' knows none of the", "capitalised symbols, as of mouse genes"),
    "ensembl.gmt": ("gene_sets", "'ensembl.gmt' knows none of the", "look like Ensembl ids"),
    "words.csv": ("edges", "no weight of 'words.csv' is a number (first: 'strong')", "give numbers"),
    "pairs.sif": ("edges", "'pairs.sif' is no SIF file ('GENE0000 GENE0001'", "give a source"),
    "holes.csv": ("features", "1 of 2 features of 'holes.csv' are missing", "give a name and then numbers"),
    "lower.gmt": (
        "gene_sets",
        "look like lower-case names and the others like upper-case symbols",
        "convert one",
    ),
    "silent.csv": ("edges", "all their features are 0", "give weights"),
    "header.csv": (
        "features",
        "'header.csv' has features of no perturbation",
        "give a name and then numbers",
    ),
    "text.csv": ("features", "(first: of GENE0001)", "give a name and then numbers"),
}


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    adata = simulate_screen(6, 60, 90, 30, n_combinations=1, seed=3)
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2, "T", "B")
    adata.write_h5ad(path)
    return path


@pytest.fixture
def said(monkeypatch, capsys):
    """What a command says before it exits with 2."""

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["perturbrl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        lines = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("perturbrl: error:")
        ]
        assert len(lines) == 1
        return lines[0]

    return run


def fit(folder, screen, *more):
    return (
        *("fit", f"--config={CONFIGS / 'response.yaml'}", f"--data.path={screen}", "--trainer.max_epochs=0"),
        *("--trainer.accelerator=cpu", f"--trainer.logger.init_args.save_dir={folder}", *more),
    )


@pytest.mark.parametrize("name", FILES)
def test_prior_knowledge_that_is_none(tmp_path, screen, said, name):
    (tmp_path / name).write_text(FILES[name])
    option, cause, remedy = OF_FILES[name]
    found = said(*fit(tmp_path, screen, f"--data.{option}={tmp_path / name}"))
    assert cause in found
    assert remedy in found


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, screen):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["perturbrl", *fit(folder, screen, "--data.columns.cell_type_key=kind")])
        main()
    return folder / "response" / "version_0"


@pytest.mark.parametrize(
    ("query", "cause", "remedy"),
    [
        ("GENE00O1", "'GENE00O1' is no perturbation of the data", "did you mean GENE00"),
        ("GENE0001@NK", "'NK' is no context with control cells", "choose one such as B, T"),
        ("GENE0001@foo=T", "'foo=T' names the column 'foo'", "ask for '@kind=T', or for '@T'"),
        ("GENE0001:5", "the data do not tell doses of GENE0001 apart", "ask for 'GENE0001'"),
        ("GENE0001,GENE0002", "'GENE0001,GENE0002' is no perturbation", "as a list, '[GENE0001, GENE0002]'"),
        ("control", "'control' is what shifts are counted from", "ask for a perturbation"),
    ],
)
def test_a_query_that_cannot_be_answered(fitted, said, query, cause, remedy):
    checkpoint = f"--ckpt_path={fitted / 'checkpoints' / 'last.ckpt'}"
    found = said("predict", f"--config={fitted / 'config.yaml'}", checkpoint, f'--data.queries=["{query}"]')
    assert cause in found
    assert remedy in found


def test_one_perturbation_that_is_held_out_leaves_none(tmp_path, screen, said):
    adata = anndata.read_h5ad(screen)
    adata[adata.obs["perturbation"].isin(["control", "GENE0001"])].copy().write_h5ad(tmp_path / "one.h5ad")
    found = said(*fit(tmp_path, tmp_path / "one.h5ad"))
    assert "holding out all 1 measured perturbations leaves none to learn" in found
    assert "hold out fewer, or choose HeldOutCells" in found
    cells = "--data.split=perturbrl.data.splits.HeldOutCells"
    found = said(*fit(tmp_path, tmp_path / "one.h5ad", cells))
    assert "GENE0001 is all that was measured beside control" in found
    assert "give data with at least 2" in found


def test_one_cell_of_each_population_tells_nothing_of_how_cells_vary(tmp_path, screen, said):
    adata = anndata.read_h5ad(screen)
    first = ~adata.obs["perturbation"].duplicated().to_numpy()
    adata[first].copy().write_h5ad(tmp_path / "single.h5ad")
    found = said(*fit(tmp_path, tmp_path / "single.h5ad", "--data.encoder.latent_dim=2"))
    assert "every population has one cell, so nothing tells how cells vary; give two of some" in found


def test_fewer_than_no_cells(tmp_path, screen, said):
    found = said(*fit(tmp_path, screen, "--report.n_cells=-1"))
    assert "n_cells is -1; give 0 for none, or how many" in found


def test_a_fit_that_fails_leaves_no_run_folder(tmp_path, screen, said):
    said(*fit(tmp_path, tmp_path / "absent.h5ad"))
    said(*fit(tmp_path, screen, f"--data.gene_sets={tmp_path / 'absent.gmt'}"))
    said(*fit(tmp_path, screen, "--model.rollout.restart_fraction=0.5", "--trainer.max_epochs=1"))
    assert not (tmp_path / "response").exists()
