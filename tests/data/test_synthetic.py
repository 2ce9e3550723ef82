import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbrl.data.labels import Label
from perturbrl.data.presets import detect_fields
from perturbrl.data.synthetic import TRUE_EFFECTS_VARM, TRUE_LABELS_UNS, simulate_screen
from perturbrl.errors import ConfigurationError


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(6, 20), st.integers(1, 10), st.integers(1, 5), st.data())
def test_the_screen_has_what_was_asked_for(
    n_perturbations: int, n_genes: int, n_control: int, cells: int, data: st.DataObject
) -> None:
    pairs = n_perturbations * (n_perturbations - 1) // 2
    n_combinations = data.draw(st.integers(0, pairs))
    adata = simulate_screen(n_perturbations, n_genes, n_control, cells, n_combinations)
    labels = adata.uns[TRUE_LABELS_UNS]
    sizes = adata.obs["perturbation"].value_counts()
    assert len(labels) == n_perturbations + n_combinations
    assert sizes["control"] == n_control
    assert all(sizes[label] == cells for label in labels)
    assert adata.shape == (n_control + cells * len(labels), n_genes)
    assert adata.varm[TRUE_EFFECTS_VARM].shape == (n_genes, len(labels))
    assert (adata.X.data >= 0).all()
    assert np.array_equal(adata.X.data, np.round(adata.X.data))
    assert detect_fields(adata).preset == "scperturb"


def effect(adata, label: str) -> np.ndarray:
    return adata.varm[TRUE_EFFECTS_VARM][:, list(adata.uns[TRUE_LABELS_UNS]).index(label)]


@pytest.mark.parametrize("interaction", [0.0, 1.0])
def test_combinations_are_the_sum_of_their_singles_unless_they_interact(interaction: float) -> None:
    adata = simulate_screen(n_combinations=3, interaction=interaction)
    for label in adata.uns[TRUE_LABELS_UNS][8:]:
        total = sum(effect(adata, part) for part in Label.parse(label).names)
        assert np.allclose(effect(adata, label), total) == (interaction == 0.0)


def test_effects_scale_and_their_own_gene_goes_up() -> None:
    weak, strong = (simulate_screen(effect_size=size) for size in (1.0, 3.0))
    np.testing.assert_allclose(3 * weak.varm[TRUE_EFFECTS_VARM], strong.varm[TRUE_EFFECTS_VARM])
    for gene in weak.uns[TRUE_LABELS_UNS][:8]:
        assert effect(weak, gene)[weak.var_names.get_loc(gene)] > 0


def test_the_true_effects_are_what_the_counts_show() -> None:
    adata = simulate_screen(4, 50, 1500, 1500, 2, effect_size=2.0, depth=20000.0)
    share = (
        adata.to_df().div(adata.to_df().sum(axis=1), axis=0).groupby(adata.obs["perturbation"], observed=True)
    )
    mean = share.mean()
    for label in adata.uns[TRUE_LABELS_UNS]:
        seen = np.log(mean.loc[label] / mean.loc["control"]).to_numpy()
        true = effect(adata, label)
        # Sharing the library among genes shifts every gene alike.
        residual = (seen - seen.mean()) - (true - true.mean())
        assert np.abs(residual).max() < 0.2
        assert np.corrcoef(seen, true)[0, 1] > 0.99


def test_counts_vary_as_a_negative_binomial_says() -> None:
    quiet = {
        "n_perturbations": 1,
        "n_genes": 2,
        "n_control": 4000,
        "cells_per_perturbation": 1,
        "n_combinations": 0,
    }
    adata = simulate_screen(**quiet, cell_noise=0.0, depth=1000.0, dispersion=0.5)
    counts = adata[adata.obs["perturbation"] == "control"].to_df().iloc[:, 0].to_numpy()
    # Library sizes are log-normal with sigma 0.3, so a gene's mean varies by exp(0.09) - 1 between cells.
    spread = (1 + 0.5) * np.exp(0.09) - 1
    assert counts.var() == pytest.approx(counts.mean() + spread * counts.mean() ** 2, rel=0.15)


def test_the_seed_decides() -> None:
    one, same, other = simulate_screen(seed=1), simulate_screen(seed=1), simulate_screen(seed=2)
    assert (one.X != same.X).nnz == 0
    assert list(one.obs["perturbation"]) == list(same.obs["perturbation"])
    assert (one.X != other.X).nnz > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_control": 0}, "control cell"),
        ({"n_perturbations": 10, "n_genes": 5}, "10 perturbations of 5 genes"),
        ({"n_perturbations": 3, "n_combinations": 4}, "3 perturbations have 3 pairs"),
        ({"n_combinations": -1}, "a screen needs"),
    ],
)
def test_screens_that_cannot_be(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        simulate_screen(**options)
