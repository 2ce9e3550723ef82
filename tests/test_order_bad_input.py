"""What a user sees when nothing, or nothing usable, orders the cells of a landscape: one sentence, exit 2."""

import numpy as np
import pytest
from atlas import atlas
from places import CONFIGS
from refused import the_one_sentence

N = 120
TWO_DAYS = np.arange(3 * N) % 2
BAD = {
    "no order": ({"day": None}, (), ("nothing orders the cells", "give data.time_key", "data.root")),
    "a root that is not there": (
        {},
        ("--data.root=cell_type=HSC",),
        ("no cell has cell_type 'HSC'", "choose one of"),
    ),
    "a root that reaches nothing": (
        {},
        ("--data.root=cell_type=stem",),
        ("the root 'cell_type=stem' does not reach", "red and white", "drop these cells, or name another"),
    ),
    "one time point": (
        {"day": 2},
        ("--data.time_key=day",),
        ("cells to learn from have obs['day'] 2", "at least two time points"),
    ),
    "one time point of a plain name": (
        {"day": 2},
        (),
        ("nothing orders the cells: all", "have obs['day'] 2", "data.pseudotime_key"),
    ),
    "time as text": (
        {"day": np.where(TWO_DAYS, "d4", "d2")},
        ("--data.time_key=day",),
        ("obs['day'] holds text such as", "give every cell a time as a number"),
    ),
    "times missing": (
        {"day": np.where(np.arange(3 * N) % 7, TWO_DAYS, np.nan)},
        ("--data.time_key=day",),
        ("cells have no finite value in obs['day']", "give every cell a time"),
    ),
    "a column that is not there": (
        {},
        ("--data.time_key=hours",),
        ("the file has no obs column 'hours' to order cells by", "day"),
    ),
    "two orders": (
        {},
        ("--data.time_key=day", "--data.root=cell_type=stem"),
        ("data.time_key 'day' and data.root 'cell_type=stem' order the same cells twice", "give one"),
    ),
}


def apart(adata):
    """Counts of the same types with so little noise that no cell has a neighbour of another type."""
    types = adata.obs["cell_type"].to_numpy()
    rate = np.concatenate([adata.X[types == name].mean(0, keepdims=True) for name in types[::N]])
    return np.random.default_rng(0).poisson(200 * rate.repeat(N, axis=0)).astype(np.float32)


@pytest.mark.parametrize("name", BAD)
def test_no_order_is_one_sentence_and_exit_2(tmp_path, monkeypatch, capsys, name):
    columns, options, expected = BAD[name]
    adata = atlas(N, **{column: values for column, values in columns.items() if values is not None})
    adata.obs = adata.obs.drop(columns=[column for column, values in columns.items() if values is None])
    if name == "a root that reaches nothing":
        adata.X = apart(adata)
    adata.write_h5ad(tmp_path / "atlas.h5ad")
    command = [
        *("fit", f"--config={CONFIGS / 'landscape.yaml'}", f"--data.path={tmp_path}/atlas.h5ad"),
        *("--data.source=cell_type=white", "--data.target=cell_type=red", "--trainer.max_epochs=1"),
        *(
            "--data.encoder.init_args.latent_dim=4",
            f"--trainer.logger.init_args.save_dir={tmp_path}",
            *options,
        ),
    ]
    said = the_one_sentence(monkeypatch, capsys, *command)
    assert all(piece in said for piece in expected), said
    assert [path.name for path in tmp_path.iterdir()] == ["atlas.h5ad"]
