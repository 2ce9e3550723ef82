"""A gene's own expression says whether it was perturbed."""

import numpy as np
import pytest

from perturbrl.planning.on_target import on_target_evidence
from perturbrl.responses.moments import Moments
from perturbrl.responses.training_cells import TrainingCells

GENES = (*"ABCDEFGH", *(f"g{i}" for i in range(12)))
SPREAD = np.linspace(0.5, 2.0, len(GENES))


def moments(perturbed: str = "ABCDE", own: float = -1.0) -> Moments:
    """Each perturbation shifts its own gene by as many standard deviations, give or take, and others at random."""
    rng = np.random.default_rng(0)
    blocks, labels = [rng.normal(size=(400, len(GENES)))], ["control"] * 400
    for i, name in enumerate(perturbed):
        shift = 0.1 * rng.normal(size=len(GENES))
        shift[GENES.index(name)] = own * (1 + 0.2 * (i - 2))
        blocks.append(shift + rng.normal(size=(100, len(GENES))))
        labels += [name] * 100
    return Moments.of(TrainingCells(2.0 + SPREAD * np.concatenate(blocks), labels, GENES))


def shift(**by_gene: float) -> np.ndarray:
    found = np.zeros(len(GENES))
    for gene, value in by_gene.items():
        found[GENES.index(gene)] = value * SPREAD[GENES.index(gene)]
    return found


def test_the_gene_that_moves_as_perturbed_ones_do_is_spoken_for() -> None:
    found = on_target_evidence(moments(), GENES, shift(F=-1.0), 100)
    assert found["F"] > 3
    assert all(found[gene] < 0 for gene in ("G", "H", "g0"))


@pytest.mark.parametrize("own", [-1.0, 1.0])
def test_the_way_it_moves_is_learned_and_the_other_way_is_no_evidence(own: float) -> None:
    found = on_target_evidence(moments(own=own), GENES, shift(F=own, G=-own), 100)
    assert found["F"] > 3
    assert found["F"] > found["G"] + 3


def test_few_cells_say_little() -> None:
    few, many = (on_target_evidence(moments(), GENES, shift(F=-1.0), n)["F"] for n in (2, 200))
    assert abs(few) < 1 < many


def test_measured_ones_are_left_to_their_measurement_and_too_few_of_them_say_nothing() -> None:
    assert not set("ABCDE") & set(on_target_evidence(moments(), GENES, shift(A=-1.0), 100))
    assert on_target_evidence(moments("AB"), GENES, shift(F=-1.0), 100) == {}


def test_a_perturbation_that_leaves_its_gene_alone_speaks_for_none() -> None:
    found = on_target_evidence(moments(own=0.0), GENES, shift(F=-0.1), 100)
    assert abs(found["F"]) < 2
