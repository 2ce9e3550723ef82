import json

import numpy as np
import pytest
from benchmarks import responses

from perturbrl.data.labels import CONTROL


def test_a_simulated_screen_has_modules_that_the_prior_tells() -> None:
    cells, prior = responses.simulated(200, 40)
    shifts = {str(label): mean for label, mean in cells.centroids().items() if label != CONTROL}
    names = sorted(shifts)
    effects = np.stack([shifts[name] for name in names])
    alike = prior.similarity(names, names) > 0.5
    near = effects @ effects.T / np.outer(*(2 * [np.linalg.norm(effects, axis=1)]))
    apart = ~alike
    np.fill_diagonal(alike, False)
    assert near[alike].mean() > near[apart].mean() + 0.3
    asked = responses.questions(200)
    assert len(asked) == 220
    assert sum(str(label) in shifts for label, _ in asked) == 20
    assert all(prior.knows(str(label)) for label, _ in asked)


def test_its_last_line_holds_every_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "_alone", lambda function, *arguments: function(*arguments))
    responses.main(["--quick"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    for size in ("20", "60"):
        assert found[size]["seconds_fit"] > 0
        assert found[size]["seconds_predict"] > 0
        assert 0.05 < found[size]["peak_gib"] < 8
        assert found["command"][size]["seconds"] > 0
        assert found["command"][size]["n_cells"] == 500 + 10 * int(size)
    error = found["error_against_exact"]
    assert 0 < max(error["mean_unmeasured"], error["mean_measured"], error["sd"]) < 0.2
