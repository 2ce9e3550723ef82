"""Episodes start in the source and aim at the target; without cells both are attractors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from places import CONFIGS

from perturbrl.cli import parse_config
from perturbrl.data.splits import HeldOutPerturbations
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.errors import ConfigurationError, LeakageError
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.goals import ATTRACTOR_CELLS, start_and_goal
from perturbrl.training.options import SyntheticOptions
from perturbrl.twins.residual import ResidualTwin


def test_cells_rest_around_their_attractors() -> None:
    built = parse_config([f"--config={CONFIGS / 'hematopoiesis.yaml'}"])
    twin = built.model.twin
    start, goal, reference, *_ = start_and_goal(twin, built.data, torch.Generator().manual_seed(0))
    assert len(start) == len(goal) == ATTRACTOR_CELLS
    assert reference is start  # nothing was fitted on either
    for cells, name in ((start, "monocyte"), (goal, "erythrocyte")):
        nearest = {key: float((cells.mean(0) - state[0]).norm()) for key, state in twin.attractors().items()}
        assert min(nearest, key=nearest.__getitem__) == name
        assert float(cells.std(0).max()) > 0.01


def test_a_twin_with_episodes_of_its_own_needs_no_target_and_takes_none() -> None:
    options = {"synthetic": SyntheticOptions(n_genes=40, cells_per_perturbation=10), "encoder": PCAEncoder(4)}
    data = PerturbationDataModule(**options)
    data.setup("fit")
    twin = ResidualTwin(cells_per_condition=8)
    cells = start_and_goal(twin, data, torch.Generator())
    assert cells is twin.episodes()
    assert len(cells.start) == len(cells.goal) > 0
    assert len(cells.deciding_start) == len(cells.deciding_goal) > 0
    aimed = PerturbationDataModule(target="GENE0001", **options)
    aimed.setup("fit")
    with pytest.raises(
        ConfigurationError, match=r"data\.target is 'GENE0001', and ResidualTwin .* leave the target out"
    ):
        start_and_goal(twin, aimed, torch.Generator())


def test_no_held_out_perturbation_gets_into_what_is_learned() -> None:
    """A split of a user's that leaks one is refused before the twin sees a cell."""
    leaky = PerturbationDataModule(
        synthetic=SyntheticOptions(n_genes=40, cells_per_perturbation=10),
        encoder=PCAEncoder(4),
        split=HeldOutPerturbations(perturbations=["GENE0001"]),
    )
    leaky.setup("fit")
    told = leaky.dataset.population_rows("GENE0001")
    leaky.split = replace(
        leaky.split, train=np.union1d(leaky.split.train, told), test=np.setdiff1d(leaky.split.test, told)
    )
    with pytest.raises(LeakageError, match="GENE0001"):
        start_and_goal(ResidualTwin(), leaky, torch.Generator())


@pytest.mark.parametrize("config", ["hematopoiesis.yaml", "smoke.yaml"])
def test_prior_knowledge_that_would_not_be_heeded_is_refused(config: str) -> None:
    built = parse_config(
        [f"--config={CONFIGS / config}", "--data.gene_sets=x.gmt", "--data.reference=y.h5ad"]
    )
    with pytest.raises(
        ConfigurationError, match=r"data\.gene_sets and data\.reference are given, and .*Twin learns nothing"
    ):
        start_and_goal(built.model.twin, built.data, torch.Generator())


def test_a_target_is_needed() -> None:
    built = parse_config([f"--config={CONFIGS / 'hematopoiesis.yaml'}", "--data.target=null"])
    with pytest.raises(ConfigurationError, match=r"data\.target is null"):
        start_and_goal(built.model.twin, built.data, torch.Generator())


def test_start_and_goal_differ_in_nothing_but_their_attractor() -> None:
    built = parse_config([f"--config={CONFIGS / 'hematopoiesis.yaml'}", "--data.target=monocyte"])
    start, goal, *_ = start_and_goal(built.model.twin, built.data, torch.Generator().manual_seed(0))
    assert torch.equal(start, goal)


def network(source: str, target: str):
    built = parse_config(
        [f"--config={CONFIGS / 'hematopoiesis.yaml'}", f"--data.source={source}", f"--data.target={target}"]
    )
    cells = start_and_goal(built.model.twin, built.data, torch.Generator().manual_seed(0))
    return built.model.twin, cells


def test_a_partial_state_means_every_attractor_that_has_it() -> None:
    twin, cells = network("Pu1=1", "Gata1=1,Pu1=0")
    meant = {
        name for name, state in twin.attractors().items() if state[0, twin.gene_names.index("Pu1")] > 0.5
    }
    nearest = twin.nearest_attractor(cells.start)
    assert len(meant) > 1
    assert {name: nearest.count(name) for name in meant} == pytest.approx(
        dict.fromkeys(meant, ATTRACTOR_CELLS / len(meant)), rel=0.1
    )
    assert set(twin.nearest_attractor(cells.goal)) <= set(twin.attractors()) - meant


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("GATA=1", "erythrocyte", "no gene 'GATA'; did you mean Gata2"),
        ("Gata1=2", "erythrocyte", "'Gata1=2' is no state of a gene; write 0"),
        ("Gata1=1,Pu1=1", "erythrocyte", "no attractor with Gata1=1,Pu1=1; choose"),
        ("Gata1=1", "erythrocyte", "source 'Gata1=1' and target 'erythrocyte' both mean erythrocyte"),
    ],
)
def test_a_partial_state_that_cannot_be_meant(source: str, target: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        network(source, target)
