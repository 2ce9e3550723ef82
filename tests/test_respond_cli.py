"""The forward problem from end to end: fit, test, predict, resume, and what a user sees when something is wrong."""

import contextlib
import io
import json
import re
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from places import CONFIGS

from perturbrl.cli import run, user_error
from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.data.synthetic import simulate_screen
from perturbrl.errors import DataError
from perturbrl.responses import askable
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.moments import Moments

SMALL = (
    *("--trainer.max_epochs=2", "--model.rollout.n_cells=128", "--data.encoder.latent_dim=4"),
    *("--model.twin.cells_per_condition=16", "--trainer.accelerator=cpu"),
)


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    simulate_screen(8, 60, 120, 40, n_combinations=2, seed=3).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def gene_sets(tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / "sets.gmt"
    path.write_text(
        "a\tx\tGENE0000\tGENE0001\tGENE0050\tGENE0051\nb\tx\tGENE0002\tGENE0003\tGENE0004\nc\tx\tELSE1\tELSE2\tELSE3\n"
    )
    return path


def fit(folder, screen, *options):
    run(
        [
            "fit",
            f"--config={CONFIGS / 'response.yaml'}",
            f"--data.path={screen}",
            *SMALL,
            *logged(folder),
            *options,
        ]
    )
    return max((folder / "response").iterdir(), key=lambda path: int(path.name.removeprefix("version_")))


def logged(folder):
    return [f"--trainer.logger.init_args.save_dir={folder}"]


def again(command, folder, *options):
    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    run([command, f"--config={folder / 'config.yaml'}", checkpoint, *options])
    return max(folder.glob("report*"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, screen, gene_sets):
    return fit(tmp_path_factory.mktemp("runs"), screen, f"--data.gene_sets={gene_sets}")


def said_by(command, folder, *options):
    """What the command writes, and what it says on the terminal."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        report = again(command, folder, *options)
    return report, said.getvalue()


@pytest.fixture(scope="module")
def judged(fitted):
    return said_by("test", fitted)


@pytest.fixture(scope="module")
def everything(fitted):
    """Asked without queries."""
    return said_by("predict", fitted, "--report.n_cells=0")


def test_a_fit_says_whether_the_policy_is_used(tmp_path, screen, capsys):
    folder = fit(tmp_path, screen)
    said = capsys.readouterr().err
    assert "explains" in said
    assert (
        "2 perturbations or cell types were kept from its training, and 5 are needed; predictions are kriging's alone."
        in said
    )
    assert {"config.yaml", "checkpoints", "metrics.csv"} <= {path.name for path in folder.iterdir()}


def test_it_is_judged_beside_every_baseline(fitted, judged):
    report, said = judged
    assert "Beside every baseline" in said
    assert "kept from its training" in said
    metrics = json.loads((report / "metrics.json").read_text())
    names = {row["predictor"] for row in metrics["judged"]}
    assert {"no_op", "training_mean", "additive", "knn_prior", "ridge_prior", "split_half_replicate"} <= names
    assert names & {"kriging", "corrected_kriging"}
    held_out = {row["query"] for row in metrics["responses"]}
    split = torch.load(fitted / "checkpoints" / "last.ckpt", weights_only=True)["PerturbationDataModule"][
        "split"
    ]
    assert held_out == set(split["held_out_perturbations"])
    assert not any(row["evidence"] == "measured" for row in metrics["responses"])
    assert metrics["question"]["policy"] in said


def test_queries_are_answered_with_cells(fitted):
    report = again("predict", fitted, '--data.queries=["GENE0050","GENE0005+GENE0006"]')
    table = pd.read_csv(report / "responses.csv")
    assert table["query"].tolist() == ["GENE0050", "GENE0005+GENE0006"]
    assert np.isfinite(table["effect_high"]).all()
    cells = anndata.read_h5ad(report / "responses.h5ad")
    assert (cells.X.data % 1 == 0).all()
    assert (cells.obs["query"] == "GENE0050").sum() == 100
    again_without = again("predict", fitted, "--data.queries=[GENE0050]", "--report.n_cells=0")
    assert not (again_without / "responses.h5ad").exists()


def test_aliases_and_another_screen_are_options_of_the_data(tmp_path, screen):
    simulate_screen(8, 60, 120, 40, n_combinations=2, seed=3).write_h5ad(tmp_path / "other.h5ad")
    (tmp_path / "aliases.csv").write_text("alias,name\nCD55,GENE0005\n")
    files = f"--data.reference={tmp_path / 'other.h5ad'}", f"--data.aliases={tmp_path / 'aliases.csv'}"
    folder = fit(tmp_path, screen, "--trainer.max_epochs=0", *files)
    report = again("predict", folder, "--data.queries=[CD55]", "--report.n_cells=0")
    table = pd.read_csv(report / "responses.csv")
    assert table["query"].tolist() == ["CD55"]
    assert table["evidence"].tolist() != ["none"]
    assert "other.h5ad" in (report / "metrics.json").read_text()


def test_without_queries_everything_is_asked(everything):
    table = pd.read_csv(everything[0] / "responses.csv")
    asked = set(table["query"])
    assert {f"GENE000{i}" for i in range(8)} <= asked
    assert {"GENE0050", "GENE0051"} <= asked
    assert "ELSE1" not in asked  # like nothing that was measured
    assert len([query for query in asked if "+" in query]) == 8 * 7 // 2
    assert set(table["evidence"]) >= {"measured", "combined", "prior"}


def test_what_was_held_out_is_learned_from_in_predict_and_not_in_test(fitted, judged, capsys):
    checkpoint = torch.load(fitted / "checkpoints" / "last.ckpt", weights_only=True)
    held_out = checkpoint["PerturbationDataModule"]["split"]["held_out_perturbations"]
    known = {parts[0][0] for parts, _ in checkpoint["perturbrl"]["twin"]["kriging"]["moments"]["conditions"]}
    single = next(name for name in held_out if "+" not in name)
    assert single not in known
    capsys.readouterr()
    report = again("predict", fitted, f"--data.queries=[{single}]", "--report.n_cells=0")
    said = capsys.readouterr().out
    sentence = (
        "Learned from all 10 measured perturbations; "
        f"test judges the same model without the {len(held_out)} held out."
    )
    assert sentence in said
    assert sentence in (report / "report.html").read_text()
    assert pd.read_csv(report / "responses.csv")["evidence"].tolist() == ["measured"]
    without, said = judged
    assert "Learned from all" not in said
    responses = json.loads((without / "metrics.json").read_text())["responses"]
    assert not any(row["evidence"] == "measured" for row in responses)


def test_predicted_shifts_of_what_was_held_out_are_the_measured_ones(fitted, screen):
    split = torch.load(fitted / "checkpoints" / "last.ckpt", weights_only=True)["PerturbationDataModule"][
        "split"
    ]
    single = next(name for name in split["held_out_perturbations"] if "+" not in name)
    report = again("predict", fitted, f"--data.queries=[{single}]", "--report.n_cells=0")
    found = pd.read_csv(report / "delta.csv", index_col=0).loc[single]
    adata = anndata.read_h5ad(screen)
    counts = adata.X.toarray()
    logs = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    label = adata.obs["perturbation"]
    shift = logs[label == single].mean(0) - logs[label == "control"].mean(0)
    shift = pd.Series(shift, adata.var_names)[found.index]
    assert np.corrcoef(found, shift)[0, 1] > 0.9


def test_answers_are_a_short_table_on_the_terminal(fitted, everything, capsys):
    report, said = everything[0], everything[1].splitlines()
    capsys.readouterr()
    asked = set(pd.read_csv(report / "responses.csv")["query"])
    heads = [i for i, line in enumerate(said) if line.split()[:2] == ["query", "evidence"]]
    rows = [line.split()[0] for head in heads for line in said[head + 1 : head + 11] if line.strip()]
    shown = {name for name in rows if name in asked}
    # Ten, or a few more where the kinds of queries do not divide them.
    assert 10 <= len(shown) <= 12
    assert f"... and {len(asked) - len(shown)} more in {report / 'responses.csv'}" in said
    one = again("predict", fitted, "--data.queries=GENE0050", "--report.n_cells=0")
    said = capsys.readouterr().out
    assert re.search(r"^ *GENE0050 +prior", said, flags=re.MULTILINE)
    assert f"more in {one}" not in said


def test_a_prediction_says_what_the_last_test_found(fitted, tmp_path, capsys):
    run_folder = tmp_path / "version_0"
    shutil.copytree(fitted, run_folder, ignore=shutil.ignore_patterns("report*"))
    ask = "predict", run_folder, "--data.queries=GENE0050", "--report.n_cells=0"
    before = (again(*ask) / "report.html").read_text()
    assert "perturbrl test has not been run" in before
    tested = json.loads((again("test", run_folder) / "metrics.json").read_text())
    capsys.readouterr()
    after = again(*ask)
    sentence = f"As perturbrl test found (report_2): {tested['judgement']}"
    assert (
        "held-out conditions kriging against the baseline that is best in each: error of mean expression (L2)"
        in sentence
    )
    assert sentence in capsys.readouterr().out
    assert sentence in json.loads((after / "metrics.json").read_text())["answer"]
    assert "perturbrl test has not been run" not in (after / "report.html").read_text()


def test_how_unmeasured_names_were_chosen_is_said(fitted, capsys, monkeypatch):
    monkeypatch.setattr(askable, "MOST_UNMEASURED", 1)
    capsys.readouterr()
    report = again("predict", fitted, "--report.n_cells=0")
    found = re.search(
        r"(\d+) more unmeasured perturbations could be asked about: the 1 asked of (\d+) is what prior knowledge "
        r"likens most to measured ones; name others with --data\.queries\.",
        capsys.readouterr().out,
    )
    assert found
    # The gene sets have two, and the loadings of perturbed genes many.
    assert int(found[1]) == int(found[2]) - 1 > 1
    sentence = found[0]
    page = (report / "report.html").read_text()
    assert page.index(sentence) < page.index("<nav")
    assert page.count(sentence) == 1


def test_kriging_alone_needs_no_iteration(tmp_path, screen, capsys):
    folder = fit(tmp_path, screen, "--trainer.max_epochs=0")
    assert "No policy was trained" in capsys.readouterr().err
    report = again("predict", folder, "--data.queries=[GENE0007+GENE0001]")
    assert "No policy was trained" in json.loads((report / "metrics.json").read_text())["question"]["policy"]


def test_new_cells_are_answered_by_what_was_learned(fitted, tmp_path):
    new = simulate_screen(8, 60, 50, 10, n_combinations=0, seed=9)
    new = new[new.obs["perturbation"] == "control"].copy()
    new.obs_names = [f"new{i}" for i in range(new.n_obs)]
    new.write_h5ad(tmp_path / "new.h5ad")
    other = again("predict", fitted, "--data.queries=[GENE0050]", f"--data.path={tmp_path / 'new.h5ad'}")
    checkpoint = torch.load(fitted / "checkpoints" / "last.ckpt", weights_only=True)
    saved = checkpoint["perturbrl"]["twin"]["kriging"]
    learned = Kriging([PriorKnowledge.from_dict(one) for one in saved["priors"]])
    learned.fit_moments(Moments.from_dict(saved["moments"]))
    expected = learned.predict([(Label.parse("GENE0050"), "")]).mean
    np.testing.assert_allclose(pd.read_csv(other / "delta.csv", index_col=0), expected, atol=1e-9)
    assert (anndata.read_h5ad(other / "responses.h5ad").obs["perturbation"] == "control").sum() == 50
    assert "Nothing is learned from these cells" in (other / "report.html").read_text()


def test_a_prior_without_a_name_of_the_data_is_refused(tmp_path, screen):
    sets = tmp_path / "mouse.gmt"
    sets.write_text("a\tx\tStat1\tJak2\tIfngr1\n")
    with pytest.raises(DataError, match=r"mouse\.gmt"):
        fit(tmp_path, screen, f"--data.gene_sets={sets}")


def test_a_second_screen_and_other_names_are_priors_too(tmp_path, screen):
    other = simulate_screen(8, 60, 120, 40, n_combinations=0, seed=3)
    other.obs["perturbation"] = other.obs["perturbation"].astype(str).replace("GENE0001", "OLD1")
    other.write_h5ad(tmp_path / "other.h5ad")
    (tmp_path / "aliases.tsv").write_text("alias\tname\nOLD1\tGENE0001\n")
    folder = fit(
        tmp_path,
        screen,
        f"--data.reference={tmp_path / 'other.h5ad'}",
        f"--data.aliases={tmp_path / 'aliases.tsv'}",
    )
    report = again("predict", folder, "--data.queries=[GENE0001]", "--report.n_cells=0")
    known = json.loads((report / "metrics.json").read_text())["names_in_common"]["other.h5ad"]
    assert known["asked"] == 1


@pytest.mark.slow
def test_resuming_changes_nothing(tmp_path, screen):
    options = [
        "--model.trust_region.max_kl_annealing=constant",
        "--model.ppo.learning_rate_annealing=constant",
    ]
    whole = fit(tmp_path / "whole", screen, "--trainer.max_epochs=4", *options)
    fit(tmp_path / "halves", screen, "--trainer.max_epochs=2", *options)
    resumed = fit(tmp_path / "halves", screen, "--trainer.max_epochs=4", "--ckpt_path=last", *options)
    ends = [torch.load(one / "checkpoints" / "last.ckpt", weights_only=True) for one in (whole, resumed)]
    assert ends[0]["epoch"] == ends[1]["epoch"] == 3
    assert ends[0]["state_dict"].keys() == ends[1]["state_dict"].keys()
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name


@pytest.mark.parametrize("schedule", ["ppo_only", "trust_region_only", "warm_start"])
def test_every_schedule_runs(tmp_path, screen, schedule):
    folder = fit(tmp_path, screen, f"--model.schedule={schedule}", "--model.trust_region_iterations=1")
    assert len(pd.read_csv(folder / "metrics.csv")) == 2


def test_a_held_out_perturbation_changes_nothing_that_is_learned(tmp_path, screen):
    """Other cells under it, all of them: weights, kriging and decision stay as they were, to the last bit."""
    folders = []
    for name, factor in (("as it is", 1), ("changed", 3)):
        adata = anndata.read_h5ad(screen)
        adata.X = adata.X.multiply(
            np.where(adata.obs["perturbation"] == "GENE0002", factor, 1)[:, None]
        ).tocsr()
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
        split = ["--data.split.perturbations=[GENE0002]", "--data.n_top_genes=null"]
        folders.append(fit(tmp_path / name, tmp_path / f"{name}.h5ad", *split))
    ends = [torch.load(one / "checkpoints" / "last.ckpt", weights_only=True) for one in folders]
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name
    moments = [end["perturbrl"]["twin"]["kriging"]["moments"]["shifts"] for end in ends]
    assert torch.equal(*moments)


WRONG = {
    "a target": ("--data.target=GENE0001", "leave the target out"),
    "no prior": ("--data.gene_sets=absent.gmt", r"absent\.gmt' cannot be read"),
    "a share": ("--model.task.population_share=2", "population_share is 2; give a share"),
    "a reach": ("--model.twin.reach=0", "reach is 0; give a positive number"),
    "another twin": ("--model.twin=GeneEffectTwin", r"data\.target is null"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(tmp_path, screen, case):
    option, message = WRONG[case]
    with pytest.raises(Exception, match=message) as caught:
        fit(tmp_path, screen, option)
    assert re.search(message, user_error(caught.value))


def test_an_unknown_query_is_said(fitted):
    with pytest.raises(DataError, match=r"'GENEX' is no perturbation .* did you mean"):
        again("predict", fitted, "--data.queries=[GENEX]")
