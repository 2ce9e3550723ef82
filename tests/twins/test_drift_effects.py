"""Pushes of perturbations on cells that lie along one axis from a left to a right fate."""

from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from places import measured_file
from scipy.sparse import csr_matrix

from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.data.regulators import Regulators, read_regulators
from perturbrl.embeddings.base import EncodedCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import ConfigurationError, DataError
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.twins.drift_effects import dosable, drift_effects

N, RIGHT, LEFT = 300, [f"Right{i}" for i in range(8)], [f"Left{i}" for i in range(8)]
GENES = (*RIGHT, *LEFT, "Master", "Quiet", "Still", *(f"Noise{i}" for i in range(8)))


def expression(n: int = N, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    """Right genes rise along the axis and left ones fall, as does Master's own gene; Still never varies."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.randn(n, 1, generator=generator) + shift
    slope = torch.tensor([[1.0] * 8 + [-1.0] * 8 + [-0.3] + [0.0] * 10])
    noise = 0.5 * torch.randn(n, len(GENES), generator=generator)
    noise[:, GENES.index("Still")] = 0
    return 3 + axis * slope + noise


def cells(labels: tuple[str, ...] = ("control",) * N, values: torch.Tensor | None = None) -> EncodedCells:
    values = expression() if values is None else values
    return EncodedCells(ENCODER.encode(values), values, labels, GENES)


ENCODER = PCAEncoder(3).fit(expression())
AXIS = ENCODER.encode(expression(seed=1, shift=1.0)).mean(0) - ENCODER.encode(expression(seed=1)).mean(0)


def table(signed: bool = True, **targets: list[str]) -> Regulators:
    rows = [
        (factor, gene, -1.0 if signed and gene in LEFT else 1.0)
        for factor, own in targets.items()
        for gene in own
    ]
    return Regulators("table.csv", pd.DataFrame(rows, columns=["factor", "target", "weight"]), signed)


def push(name: str, **options: object) -> tuple[float, str]:
    found = drift_effects(cells(), ENCODER, [name], **options)
    return float(torch.cosine_similarity(found.rows[0], AXIS, dim=0)), found.evidence[0]


def test_a_gene_pushes_where_its_own_expression_is_high() -> None:
    assert push("Right0") == (pytest.approx(1.0, abs=0.05), "association")
    assert push("Master")[0] < -0.9


def test_regulators_outrank_association_and_mind_signs() -> None:
    cosine, evidence = push("Master", regulators=table(Master=[*RIGHT, *LEFT]))
    assert (cosine > 0.95, evidence) == (True, "regulators")
    assert push("Repressor", regulators=table(Repressor=LEFT[:4]))[0] > 0.95


def test_a_table_without_signs_takes_them_from_the_factors_own_expression() -> None:
    assert push("Master", regulators=table(signed=False, Master=[*RIGHT, *LEFT]))[0] < -0.95


def test_targets_that_do_not_vary_together_leave_a_factor_to_its_association() -> None:
    edges = pd.DataFrame({"factor": "Master", "target": [*RIGHT[:4], *LEFT[:4]], "weight": 1.0})
    edges.loc[len(edges)] = ["Other", "Right0", -1.0]
    alone, told = push("Master"), push("Master", regulators=Regulators("t", edges, is_signed=True))
    assert told == alone
    assert told[1] == "association"


def test_few_and_noisy_targets_are_drawn_to_the_association() -> None:
    def towards(targets: list[str]) -> torch.Tensor:
        return drift_effects(cells(), ENCODER, ["Master"], regulators=table(Master=targets)).rows[0] @ AXIS

    assert towards([*RIGHT[:2], "Noise0", "Noise1", "Noise2"]) < towards(RIGHT)


def screened() -> EncodedCells:
    values = torch.cat((expression(), expression(60, 2, shift=-1.0)))
    return cells(("control",) * N + ("Right0",) * 60, values)


def test_measured_cells_outrank_everything_and_have_no_other_direction() -> None:
    found = drift_effects(screened(), ENCODER, ["Right0", "Right1"], regulators=table(Right0=RIGHT[1:]))
    assert found.evidence == ("measured", "association")
    assert found.rows[0] @ AXIS < 0 < found.rows[1] @ AXIS
    assert torch.equal(found.rows[0], screened().mean_of("Right0") - screened().mean_of("control"))
    assert found.low.tolist() == [0.0, -1.0]


def test_a_response_model_tells_of_what_is_like_a_measured_one() -> None:
    """Two modules of four, which the measured ones bear out; Right1 belongs to one of them."""
    down, up = ("Right0", "Right3", "Right4", "Right5"), LEFT[:4]
    shifts = dict.fromkeys(down, -1.0) | dict.fromkeys(up, 1.0)
    measured = [expression(60, 2 + i, shift) for i, shift in enumerate(shifts.values())]
    labels = ("control",) * N + tuple(name for name in shifts for _ in range(60))
    own = cells(labels, torch.cat((expression(), *measured)))
    names = (*down, "Right1", *up)
    modules = csr_matrix(np.array([[name in RIGHT, name in LEFT] for name in names], dtype=float))
    training = TrainingCells(own.expression, own.labels, own.genes)
    response = Kriging([PriorKnowledge("modules", names, modules)]).fit(training)
    found, without = (drift_effects(own, ENCODER, ["Right1"], response=model) for model in (response, None))
    assert (found.evidence, without.evidence) == (("response",), ("association",))
    assert found.rows[0] @ AXIS < 0 < without.rows[0] @ AXIS
    assert (found.low.tolist(), without.low.tolist()) == ([0.0], [-1.0])


def test_equal_evidence_in_any_order_of_cells_and_names() -> None:
    names, regulators = ["Master", "Right3", "Left2"], table(Master=RIGHT)
    first = drift_effects(cells(), ENCODER, names, regulators=regulators)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    again = drift_effects(cells(values=expression()[order]), ENCODER, names[::-1], regulators=regulators)
    assert torch.allclose(first.rows, again.rows.flip(0), atol=1e-4)


def test_what_may_be_dosed() -> None:
    regulators = table(Master=RIGHT, Absent=RIGHT)
    assert dosable(replace(cells(), allowed=("Quiet",)), regulators) == ("Quiet",)
    assert dosable(screened(), regulators) == ("Right0",)
    assert dosable(cells(), regulators) == ("Master",)
    assert dosable(cells()) == GENES


def test_what_nothing_is_known_of_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="nothing tells what Nowhere would do"):
        drift_effects(cells(), ENCODER, ["Right0", "Nowhere"])


def test_a_gene_that_does_not_vary_pushes_nowhere_and_says_so() -> None:
    found = drift_effects(cells(), ENCODER, ["Right0", "Still"])
    assert found.evidence == ("association", "none")
    assert found.rows[1].tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ConfigurationError, match=r"may be dosed \(Still\) do not vary"):
        drift_effects(cells(), ENCODER, ["Still"])


def test_a_dose_raises_what_is_inferred_and_does_what_was_measured() -> None:
    found = drift_effects(screened(), ENCODER, ["Right0", "Right1"])
    assert found.senses == (-1, 1)  # Right genes fall when cells go left
    assert drift_effects(replace(screened(), sense=1), ENCODER, ["Right0", "Right1"]).senses == (1, 1)


def test_a_table_of_another_species_is_named() -> None:
    human = table(MASTER=["RIGHT0", "RIGHT1", "RIGHT2"])
    with pytest.raises(
        DataError, match=r"upper-case symbols, as of human genes.*3 are the same but for the case"
    ):
        drift_effects(cells(), ENCODER, ["Master"], regulators=human)


def test_a_few_names_in_common_do_not_make_it_the_right_species() -> None:
    targets = [f"GENE{i}" for i in range(40)]
    human = table(MASTER=[*targets, "Right0"])
    with pytest.raises(DataError, match=r"regulates 1 of the 27 genes kept.*as of human genes.*mouse genes"):
        drift_effects(cells(), ENCODER, ["Master"], regulators=human)


def test_names_of_one_kind_that_do_not_match_ask_for_aliases() -> None:
    other = table(Other=["Nothing0", "Nothing1"])
    with pytest.raises(DataError, match=r"regulates none of the 27 genes.*data\.aliases"):
        drift_effects(cells(), ENCODER, ["Master"], regulators=other)


@pytest.mark.realdata
def test_a_human_table_on_mouse_cells_is_named() -> None:
    genes = tuple(anndata.read_h5ad(measured_file("paul2015_myeloid_trajectory.h5ad"), backed="r").var_names)
    human = read_regulators(measured_file("prior/dorothea_hs_ABC.csv.gz"))
    values = torch.rand(20, len(genes), generator=torch.Generator().manual_seed(0))
    paul = EncodedCells(values[:, :3], values, ("control",) * 20, genes)
    with pytest.raises(DataError, match=r"human genes.*mouse genes.*give that species' table"):
        drift_effects(paul, ENCODER, ["Gata1"], regulators=human)


def test_too_few_cells_that_nobody_perturbed_are_said() -> None:
    few = cells(("control",) * 2 + ("Right0",) * (N - 2))
    with pytest.raises(DataError, match="2 training cells were not perturbed"):
        drift_effects(few, ENCODER, ["Right1"])


@pytest.mark.realdata
def test_published_drivers_of_blood_lineages_push_the_right_way() -> None:
    adata = anndata.read_h5ad(measured_file("paul2015_myeloid_trajectory.h5ad"))
    counts = torch.as_tensor(adata.X.toarray())
    values = torch.log1p(1e4 * counts / counts.sum(1, keepdim=True))
    encoder = PCAEncoder(20).fit(values)
    paul = EncodedCells(encoder.encode(values), values, ("control",) * len(values), tuple(adata.var_names))
    types = adata.obs["cell_type"].astype(str).to_numpy()
    mean = {name: paul.latent[torch.as_tensor(types == name)].mean(0) for name in set(types)}
    axis = mean["Erythrocyte"] - (mean["Monocytes"] + mean["Neutrophils"]) / 2
    drivers = dict.fromkeys(("Gata1", "Klf1", "Gfi1b", "Tal1", "Zfpm1"), 1.0) | dict.fromkeys(
        ("Cebpa", "Cebpe", "Sfpi1", "Irf8", "Gfi1", "Runx1"), -1.0
    )
    regulators = read_regulators(measured_file("prior/dorothea_mm_ABC.csv.gz")).renamed({"Spi1": "Sfpi1"})
    found = drift_effects(paul, encoder, list(drivers), regulators=regulators)
    right = torch.tensor(list(drivers.values())) * (found.rows @ axis) > 0
    assert int(right.sum()) >= 10
    assert dict(zip(found.names, found.evidence, strict=True))["Cebpa"] == "regulators"
