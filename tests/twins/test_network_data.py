import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy.stats import spearmanr

from perturbrl import schema
from perturbrl.errors import ConfigurationError
from perturbrl.twins.network_data import CountNoise, simulate_perturb_seq
from perturbrl.twins.regulatory_network import RegulatoryNetworkTwin


def progenitors() -> RegulatoryNetworkTwin:
    """Myeloid progenitors on the watershed: all four fates are open to them."""
    slow = {"Gfi1": 8.0, "EgrNab": 0.5, "cJun": 0.5}
    twin = RegulatoryNetworkTwin("krumsiek11", noise=0.08, tau=slow, dt=0.1)
    start = torch.from_numpy(twin.network.state({"Gata2": 1, "Cebpa": 1, "Pu1": 1})).float()
    start[twin.network.genes.index("Pu1")] = 0.75
    twin.start_from(start[None])
    return twin


def screen(**options: object) -> AnnData:
    return simulate_perturb_seq(progenitors(), ["Pu1", "Gata1", "Gata1+Pu1"], **options)


def test_tables_have_what_a_screen_has() -> None:
    data = screen(cells_per_perturbation=30, control_cells=50)
    assert data.shape == (140, 11)
    counts = data.layers[schema.COUNTS_LAYER]
    assert (counts != data.X).nnz == 0
    assert counts.dtype == np.float32
    assert (counts.data == counts.data.round()).all()
    assert counts.data.min() > 0
    number = data.obs[schema.PERTURBATION_OBS].value_counts()
    assert number.to_dict() == {"control": 50, "Pu1": 30, "Gata1": 30, "Gata1+Pu1": 30}
    by_label = data.obs.groupby(schema.PERTURBATION_OBS, observed=True)["nperts"].unique()
    assert {label: values.tolist() for label, values in by_label.items()} == {
        "control": [0], "Pu1": [1], "Gata1": [1], "Gata1+Pu1": [2],
    }  # fmt: skip
    assert data.obs["pseudotime"].between(0, 1).all()
    assert set(data.obs["fate"]) <= set(progenitors().attractors())
    assert data.obs["library_size"].mean() == pytest.approx(1.0, abs=0.1)
    assert list(data.var_names) == list(progenitors().network.genes)


def test_knock_outs_do_what_the_network_says() -> None:
    data = screen(cells_per_perturbation=150, control_cells=300)
    fate = data.obs.groupby(schema.PERTURBATION_OBS, observed=True)["fate"].agg(set)
    myeloid, erythroid = {"granulocyte", "monocyte"}, {"erythrocyte", "megakaryocyte"}
    assert fate["control"] >= myeloid | erythroid
    assert not fate["Gata1"] & erythroid
    assert not fate["Gata1+Pu1"] & (erythroid | {"monocyte"})
    late = data[data.obs["pseudotime"] > 0.8]
    knocked = late[late.obs[schema.PERTURBATION_OBS] == "Gata1"].layers["expression"][:, 1]
    assert np.abs(knocked).max() < 0.3


def test_equal_seeds_give_equal_data() -> None:
    small = {"cells_per_perturbation": 10, "control_cells": 10}
    first, again, other = (screen(**small, seed=s) for s in (1, 1, 2))
    assert (first.X != again.X).nnz == 0
    assert first.obs.equals(again.obs)
    assert (first.X != other.X).nnz > 0


def test_over_expression_raises_counts() -> None:
    data = screen(cells_per_perturbation=100, control_cells=100, dose=1.0)
    gene = data[:, "Pu1"]
    up, control = (gene[gene.obs[schema.PERTURBATION_OBS] == label].X.mean() for label in ("Pu1", "control"))
    assert up > 1.3 * control


def test_counts_are_negative_binomial() -> None:
    noise = CountNoise(counts_per_gene=40.0, leak=0.0, library_spread=0.0, gene_spread=0.0, dispersion=5.0)
    counts, library = noise.draw(np.ones((200_000, 1), dtype=np.float32), np.random.default_rng(0))
    assert (library == 1.0).all()
    assert counts.mean() == pytest.approx(40.0, rel=0.01)
    assert counts.var() == pytest.approx(40.0 + 40.0**2 / 5.0, rel=0.03)
    from scipy.stats import nbinom

    values = np.arange(0, 100, 10)
    share = np.array([(counts <= v).mean() for v in values])
    assert share == pytest.approx(nbinom(5.0, 5.0 / 45.0).cdf(values), abs=0.005)


def test_an_unknown_gene_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"'Gata1\+GATA2' doses \['GATA2'\]"):
        simulate_perturb_seq(progenitors(), ["Gata1+GATA2"])
    with pytest.raises(ConfigurationError, match=r"a dose of 2 is outside"):
        simulate_perturb_seq(progenitors(), ["Gata1"], dose=2.0, cells_per_perturbation=2, control_cells=2)


@pytest.mark.slow
def test_scanpy_recovers_the_fates_and_their_order() -> None:
    scanpy = pytest.importorskip("scanpy")
    pytest.importorskip("leidenalg")
    from sklearn.metrics import adjusted_rand_score

    data = simulate_perturb_seq(progenitors(), [], control_cells=1500, duration=12.0)
    scanpy.pp.normalize_total(data)
    scanpy.pp.log1p(data)
    late = data[data.obs["pseudotime"] > 0.7].copy()
    for part in (data, late):
        scanpy.pp.pca(part, n_comps=6, random_state=0)
        scanpy.pp.neighbors(part, n_neighbors=30, random_state=0)
    scanpy.tl.leiden(late, resolution=0.3, flavor="igraph", n_iterations=-1, random_state=0)
    assert adjusted_rand_score(late.obs["leiden"], late.obs["fate"]) > 0.8
    data.uns["iroot"] = int(data.obs["pseudotime"].argmin())
    scanpy.tl.diffmap(data, random_state=0)
    scanpy.tl.dpt(data)
    for fate in ("erythrocyte", "megakaryocyte", "granulocyte", "monocyte"):
        branch = data.obs[data.obs["fate"] == fate]
        order = spearmanr(branch["dpt_pseudotime"], branch["pseudotime"]).statistic
        assert order > (0.7 if fate in ("erythrocyte", "megakaryocyte") else 0.3), fate
