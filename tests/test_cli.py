"""The commands from end to end, and what a user sees when something is wrong."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from places import CONFIGS
from smoke_run import SMOKE, fit_in

from perturbrl import cli
from perturbrl.cli import parse_config, run
from perturbrl.data.presets import ColumnOptions
from perturbrl.data.synthetic import simulate_screen

SCREEN = str(CONFIGS / "gene_screen.yaml")


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    simulate_screen(4, 60, 60, 20, n_combinations=6).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, screen: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    arguments = [f"--data.path={screen}", "--data.synthetic=null", "--data.target=GENE0000+GENE0001"]
    return fit_in(folder, *arguments)


def test_fit_leaves_a_run_folder(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} >= {"config.yaml", "checkpoints", "metrics.csv"}
    assert (trained / "checkpoints" / "last.ckpt").is_file()
    assert len(pd.read_csv(trained / "metrics.csv")) == 3


def test_test_judges_and_predict_applies_without_touching_the_run(trained: Path, screen: Path) -> None:
    before = {name: (trained / name).read_bytes() for name in ("config.yaml", "metrics.csv")}
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    run(["test", f"--config={trained / 'config.yaml'}", checkpoint])
    report = trained / "report"
    names = {path.name for path in report.iterdir()}
    assert names >= {"report.html", "metrics.json", "per_perturbation.csv", "hits.csv"}
    metrics = json.loads((report / "metrics.json").read_text())
    assert {"policy", "no_op", "random", "greedy", "nnls", "nearest_perturbation"} <= set(metrics["designs"])
    for name in ("real", "predicted"):
        assert (anndata.read_h5ad(trained / "cell_eval" / f"{name}.h5ad").X.data % 1 == 0).all()
    hits = pd.read_csv(report / "hits.csv")
    assert set(hits["perturbation"]) == {f"GENE000{i}" for i in range(4)}
    assert (hits["low"] <= hits["dose"] + 1e-9).all()
    assert (hits["dose"] <= hits["high"] + 1e-9).all()
    assert hits["dose"].abs().is_monotonic_decreasing

    run(["predict", f"--config={trained / 'config.yaml'}", checkpoint])
    assert (trained / "report_2" / "report.html").is_file()
    assert not (trained / "cell_eval_2").exists()
    predicted = anndata.read_h5ad(trained / "predictions_2.h5ad")
    assert set(predicted.obs["perturbation"]) == {"control", "GENE0000+GENE0001"}
    assert np.isfinite(predicted.X).all()
    assert {name: (trained / name).read_bytes() for name in before} == before


def test_predict_takes_new_cells(trained: Path, tmp_path: Path) -> None:
    new = simulate_screen(4, 60, 50, 20, n_combinations=0, seed=5)
    new.obs_names = [f"new{i}" for i in range(new.n_obs)]
    new.write_h5ad(tmp_path / "new.h5ad")
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    run(
        ["predict", f"--config={trained / 'config.yaml'}", checkpoint, f"--data.path={tmp_path / 'new.h5ad'}"]
    )
    newest = max(trained.glob("predictions*.h5ad"), key=lambda path: path.stat().st_mtime)
    assert (anndata.read_h5ad(newest).obs["perturbation"] == "control").sum() == 50


def test_the_same_seed_gives_the_same_metrics(tmp_path: Path) -> None:
    results = []
    for name in ("a", "b"):
        folder = fit_in(tmp_path / name)
        run(
            [
                "test",
                f"--config={folder / 'config.yaml'}",
                f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}",
            ]
        )
        results.append(json.loads((folder / "report" / "metrics.json").read_text()))
    assert results[0] == results[1]


def test_a_second_fit_makes_a_second_run(tmp_path: Path) -> None:
    first = fit_in(tmp_path)
    content = (first / "metrics.csv").read_bytes()
    second = fit_in(tmp_path)
    assert (first.name, second.name) == ("version_0", "version_1")
    assert (first / "metrics.csv").read_bytes() == content


def test_fit_and_inspect_read_the_same_column_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adata = simulate_screen(2, 30, 40, 20, 0)
    adata.obs = adata.obs.rename(columns={"perturbation": "guide"})
    adata.obs["conc"] = np.arange(adata.n_obs) % 2 + 1.0
    adata.write_h5ad(tmp_path / "screen.h5ad")
    given = {"columns.perturbation_key": "guide", "columns.dose_key": "conc", "value_kind": "counts"}
    run(["inspect", str(tmp_path / "screen.h5ad"), *(f"--{key}={value}" for key, value in given.items())])
    assert "obs['guide'], as you named it, doses in obs['conc']" in capsys.readouterr().out
    data = parse_config(
        [f"--data.path={tmp_path / 'screen.h5ad'}", *(f"--data.{k}={v}" for k, v in given.items())]
    )
    assert data.data.columns == ColumnOptions(perturbation_key="guide", dose_key="conc")
    assert data.data.value_kind == "counts"


def test_files_are_found_again_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("table.csv", "factors.txt", "a.gmt", "b.gmt"):
        (tmp_path / name).write_text("x,y\n")
    monkeypatch.chdir(tmp_path)
    data = [
        "--data.allowed_perturbations=factors.txt",
        "--data.gene_sets=[a.gmt, b.gmt]",
        "--data.aliases=table.csv",
    ]
    landscape = parse_config(
        [f"--config={CONFIGS / 'landscape.yaml'}", "--model.twin.init_args.regulators=table.csv", *data]
    )
    joint = parse_config(
        [
            f"--config={CONFIGS / 'joint.yaml'}",
            "--model.twin.init_args.landscape.init_args.regulators=table.csv",
            "--data.allowed_perturbations=GENE1",
        ]
    )
    assert (
        landscape.model.twin.regulators
        == joint.model.twin.landscape.regulators
        == str(tmp_path / "table.csv")
    )
    assert landscape.data.allowed_perturbations == str(tmp_path / "factors.txt")
    assert landscape.data.gene_sets == [str(tmp_path / "a.gmt"), str(tmp_path / "b.gmt")]
    assert landscape.data.aliases == str(tmp_path / "table.csv")
    assert joint.data.allowed_perturbations == "GENE1"


def test_inspect_says_what_a_file_holds(screen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["inspect", str(screen)])
    said = capsys.readouterr().out
    for part in ("scperturb", "60 cells", "GENE0000", "raw counts", "4 single"):
        assert part in said


def test_help_documents_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["fit", "--help"])
    said = capsys.readouterr().out
    for option in (
        "--data.max_perturbations",
        "--model.schedule",
        "--model.trust_region.max_kl",
        "--report.folder",
        "--report.search",
    ):
        assert option in said
    assert "--optimizer" not in said, "one optimiser in place of three would break the method"
    listed = said.split("\n\n", 1)[1]
    ours = re.findall(r"--(?:data|model)\.[\w.]+ [^\n]*(?:\n {20,}[^\n]*)*", listed)
    undocumented = [entry.split()[0] for entry in ours if not re.search(r"[a-z]{3,} [a-z]{2,}", entry)]
    assert undocumented == []


def _spoil(change: Callable[[anndata.AnnData], anndata.AnnData | None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        adata = simulate_screen(3, 30, 20, 10, n_combinations=0)
        changed = change(adata)
        (adata if changed is None else changed).write_h5ad(path)

    return write


def _set(value: float) -> Callable[[anndata.AnnData], None]:
    def change(adata: anndata.AnnData) -> None:
        adata.X = adata.X.toarray()
        adata.X[3, 4] = value

    return change


def _no_control(adata: anndata.AnnData) -> anndata.AnnData:
    return adata[adata.obs["perturbation"] != "control"].copy()


def _only_control(adata: anndata.AnnData) -> anndata.AnnData:
    return adata[adata.obs["perturbation"] == "control"].copy()


def _repeat_gene(adata: anndata.AnnData) -> None:
    adata.var_names = ["GENE0000", *list(adata.var_names[:-1])]


def _truncate(path: Path) -> None:
    _spoil(lambda adata: None)(path)
    path.write_bytes(path.read_bytes()[:5000])


BAD_INPUT = {
    "no such file": (lambda path: None, [], r"no such file|does not exist|there is no"),
    "not an h5ad": (lambda path: path.write_text("hello"), [], r"not|neither"),
    "empty": (lambda path: path.touch(), [], r"empty"),
    "truncated": (_truncate, [], r"truncated|damaged|cut"),
    "no control": (_spoil(_no_control), [], r"control"),
    "only control": (_spoil(_only_control), [], r"only control cells"),
    "unknown target": (
        _spoil(lambda adata: None),
        ["--data.target=GENE0099"],
        r"GENE0099.*did you mean|choose",
    ),
    "nan": (_spoil(_set(float("nan"))), [], r"NaN|not finite"),
    "negative": (_spoil(_set(-2.0)), [], r"negative"),
    "repeated gene": (_spoil(_repeat_gene), [], r"GENE0000"),
    "preset that does not fit": (
        _spoil(lambda adata: None),
        ["--data.columns.preset=gears"],
        r"gears|condition",
    ),
    "unknown allowed": (_spoil(lambda adata: None), ['--data.allowed_perturbations=["X"]'], r"\['X'\]"),
    "too many latent dimensions": (
        _spoil(lambda adata: None),
        ["--data.encoder.init_args.latent_dim=500"],
        r"500 latent dimensions",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence_and_exit_2(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, options, expected = BAD_INPUT[case]
    path, runs = tmp_path / "cells.h5ad", tmp_path / "runs"
    write(path)
    arguments = [f"--config={SCREEN}", f"--data.path={path}", "--data.target=GENE0001"]
    arguments += [f"--trainer.logger.init_args.save_dir={runs}", "--data.encoder.init_args.latent_dim=3"]
    monkeypatch.setattr(sys, "argv", ["perturbrl", "fit", *arguments, *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "Traceback" not in said
    message = said.strip().splitlines()[-1]
    assert message.startswith("perturbrl: error: ")
    assert re.search(expected, message), message
    assert not list(runs.glob("*/version_*/checkpoints/*"))


def test_a_missing_checkpoint_exits_2_from_the_shell(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "perturbrl.cli", "test", f"--config={SMOKE}", "--ckpt_path=nowhere.ckpt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "there is no checkpoint at 'nowhere.ckpt'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--model.twin.init_args.network=nowhere", r"no network 'nowhere'"),
        ("--model.twin.init_args.dt=5", r"dt is 5.*unstable"),
        ("--data.target=neutrophil", r"no attractor 'neutrophil'"),
        ('--data.allowed_perturbations=["Gata9"]', r"\['Gata9'\]"),
        ("--model.rollout.n_cells=0", r"rollout\.n_cells is 0"),
    ],
)
def test_bad_network_options_are_one_sentence_and_exit_2(
    option: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = f"--config={CONFIGS / 'hematopoiesis.yaml'}"
    save = f"--trainer.logger.init_args.save_dir={tmp_path}"
    monkeypatch.setattr(sys, "argv", ["perturbrl", "fit", config, save, option])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "Traceback" not in said
    assert re.search(expected, said), said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["fit", "--data.targt", "A"],
            "no option --data.targt; did you mean --data.target? (perturbrl fit --help says more)",
        ),
        (
            ["inspect", "cells.h5ad", "--column.dose_key", "dose"],
            "no option --column.dose_key; did you mean --columns.dose_key? (perturbrl inspect --help says more)",
        ),
        (
            ["fit", "--data.value_kind", "cnt"],
            "data.value_kind is cnt; give 'counts', 'log1p', 'normalised' or null (perturbrl fit --help says more)",
        ),
        (
            ["fit", "--data.min_dose", "x"],
            "data.min_dose is x; give float or null (perturbrl fit --help says more)",
        ),
        (
            ["predict", "--data.queries", "STAT1", "JAK2"],
            "'JAK2' belongs to no option; write several values as a list, such as '[..., JAK2]' "
            "(perturbrl predict --help says more)",
        ),
        (["fit", "--config", "nope.yaml"], "nope.yaml' (perturbrl fit --help says more)"),
        (["fti"], "'fti' (choose from 'fit', 'test', 'predict') (perturbrl --help says more)"),
    ],
)
def test_a_wrong_option_is_one_sentence_without_the_usage(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The usage has 150 lines, after which nobody finds the error."""
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("perturbrl: error: ")
    assert said.endswith(sentence + "\n")
    assert said.count("\n") == 1
