"""The bridge to cell-eval2's own scale, with the program where it is installed and without it."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from toy_screen import ToyScreen

from perturbrl.errors import ConfigurationError, DataError
from perturbrl.evaluation import scaled_scores as bridge
from perturbrl.evaluation.scaled_scores import AVERAGE, is_installed, scaled_scores

TOY = ToyScreen(n_genes=120, n_perturbations=6)
LABELS = np.repeat(["control", *TOY.perturbations], 40)


def cells(draw):
    """A replicate; control cells are always the same."""
    counts = [TOY.counts(label, 40, 0 if label == "control" else draw) for label in dict.fromkeys(LABELS)]
    obs = pd.DataFrame({"perturbation": LABELS}, index=[f"c{i}" for i in range(len(LABELS))])
    return AnnData(np.concatenate(counts).astype(np.float32), obs=obs, var=pd.DataFrame(index=TOY.genes))


def mean_response():
    """Cells of all perturbations, dealt out anew."""
    dealt = cells(2)
    perturbed = np.flatnonzero(LABELS != "control")
    x = dealt.X.copy()
    x[perturbed] = x[np.random.default_rng(0).permutation(perturbed)]
    return AnnData(x, obs=dealt.obs, var=dealt.var)


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(), reason="needs the extra eval")
def test_the_mean_is_0_and_a_replicate_is_far_above_it():
    found = scaled_scores(cells(0), {"mean": mean_response(), "replicate": cells(1)}, "mean")
    np.testing.assert_allclose(found.loc["mean"], 0, atol=1e-9)
    assert found.loc["replicate", "pds_cosine"] == pytest.approx(1.0, abs=0.1)
    assert found.loc["replicate", AVERAGE] > 0.8


def test_a_panel_without_a_measured_target_is_called_one(monkeypatch, tmp_path):
    """What the program is asked, by a stand-in that writes its arguments down and gives up."""
    program = tmp_path / "cell-eval2"
    program.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/asked\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(bridge, "_program", lambda: program)
    with_targets, without = cells(0), cells(0)
    without.var_names = [f"other{i}" for i in range(without.n_vars)]
    for real in (with_targets, without):
        with pytest.raises(DataError, match="no reason given"):
            scaled_scores(real, {"mean": real}, "mean")
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert "--preset vcc2026" in first
    assert "--no-target-genes" not in first
    assert "--no-target-genes" in second


def test_without_the_program_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(bridge, "_program", lambda: tmp_path / "cell-eval2")
    with pytest.raises(ConfigurationError, match="install the extra 'eval'"):
        scaled_scores(cells(0), {"mean": mean_response()}, "mean")


def test_what_the_program_says_against_the_cells_is_passed_on(monkeypatch, tmp_path):
    program = tmp_path / "cell-eval2"
    program.write_text(
        "#!/bin/sh\necho progress >&2\necho 'ValueError: one perturbation is no panel' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(bridge, "_program", lambda: program)
    with pytest.raises(DataError, match="prep-real-bundle does not take these cells: ValueError: one pert"):
        scaled_scores(cells(0), {"mean": mean_response()}, "mean")
