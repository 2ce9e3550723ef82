"""The landscape study: which parts are run, which clones judge, and which way they went."""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from studies import landscape, landscape_cao, landscape_larry
from studies.landscape_larry import HIDDEN, clone_cases

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.presets import detect_fields
from perturbrl.errors import ConfigurationError


def test_a_clone_judges_at_each_time_that_later_cells_of_one_fate_outnumber_the_other() -> None:
    cells = [
        (1, 2, "undiff"),
        (1, 4, "Neutrophil"),
        (1, 6, "Neutrophil"),
        (2, 4, "undiff"),
        (2, 4, "undiff"),
        (2, 6, "Monocyte"),
        (3, 2, "undiff"),  # as many of one as of the other
        (3, 6, "Monocyte"),
        (3, 6, "Neutrophil"),
        (4, 6, "Monocyte"),  # nothing earlier
        (HIDDEN, 2, "undiff"),
        (HIDDEN, 6, "Monocyte"),
    ]
    obs = pd.DataFrame(cells, columns=["clone", "time", "cell_type"]).assign(perturbation="control")
    obs.index = obs.index.astype(str)
    adata = AnnData(sp.csr_matrix(np.ones((len(obs), 3), dtype=np.float32)), obs=obs)
    cases = clone_cases(PerturbationDataset.from_adata(adata, detect_fields(adata)))
    assert [(case.clone, case.time, case.early.tolist(), case.fate) for case in cases] == [
        (1, 2.0, [0], 1),
        (1, 4.0, [1], 1),
        (2, 4.0, [3, 4], 0),
    ]


def _arguments(*texts: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    landscape.add_arguments(parser)
    return parser.parse_args(texts)


def test_the_keys_of_the_parts_that_were_run_are_one_line_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(landscape_cao, "rows", lambda folder, seeds: {"cao": seeds})
    monkeypatch.setattr(landscape_larry, "rows", lambda folder, seeds: {"larry": str(folder)})
    out = tmp_path / "kept.json"
    given = _arguments("--parts=larry,cao", "--seeds=2", f"--data={tmp_path}", f"--out={out}")
    landscape.run(given)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads(out.read_text()) == found
    assert (found["cao"], found["larry"]) == (2, str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"kept\.json' exists already"):
        landscape.run(given)


def test_a_part_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _arguments("--parts=paul,mars")
    assert "no part is called mars" in capsys.readouterr().err
