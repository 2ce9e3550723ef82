"""Whether doses raise or lower genes: by what the file says, else by the genes' own expression."""

from dataclasses import replace

import torch

from perturbrl.embeddings.base import EncodedCells
from perturbrl.twins.target_senses import target_senses

GENES = ("A", "B", "C", "D")


def screen(**changes: float) -> EncodedCells:
    """Controls, and cells of each perturbation, whose own gene has changed by so much."""
    generator = torch.Generator().manual_seed(0)
    labels = ("control",) * 50 + tuple(name for name in changes for _ in range(20))
    values = 3 + 0.3 * torch.randn(len(labels), len(GENES), generator=generator)
    for name, change in changes.items():
        if name in GENES:
            values[[label == name for label in labels], GENES.index(name)] += change
    return EncodedCells(values[:, :2], values, labels, GENES)


def test_a_genes_own_expression_says_what_a_dose_does_to_it() -> None:
    assert target_senses(screen(A=-1.0, B=1.0), ("A", "B")) == (-1, 1)


def test_what_does_not_tell_is_of_the_kind_of_nearly_all_others() -> None:
    assert target_senses(screen(A=-1.0, B=-1.0, C=0.0), ("C", "A", "elsewhere")) == (-1, -1, -1)
    assert target_senses(screen(A=-1.0, B=1.0, C=0.0), ("C", "A", "elsewhere")) == (0, -1, 0)


def test_where_nothing_tells_nothing_is_said_unless_the_file_does() -> None:
    drugs = screen(dexamethasone=0.0)
    assert target_senses(drugs, ("dexamethasone", "A")) == (0, 0)
    assert target_senses(replace(drugs, sense=1), ("dexamethasone", "A")) == (1, 1)
    assert target_senses(replace(screen(A=1.0), sense=-1), ("A",)) == (-1,)
